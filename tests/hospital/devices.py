"""A device as the hospital sees it: writes a chain of events, with a clock of its own."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from shared.events import Delete, Event, OpenChain, Position, Put, next_event
from shared.hospital import BatchAnswer
from shared.hybrid_clock import HybridClock, Stamp
from shared.identity import new_id
from shared.records import RecordType, changed_fields
from sync_server.db.tables import DeviceRow
from sync_server.domain import intake
from sync_server.domain.batches import parse
from sync_server.hospital import Hospital

NOW = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
SHA = "ab" * 32


class TestDevice:
    """Writes events; :meth:`send` gives them to the hospital without HTTP.

    Attributes:
        id: of the device.
        end: where its present chain ends.
        events: all it has written.
    """

    __test__ = False

    def __init__(self, hospital: Hospital, id: UUID | None = None) -> None:
        self.hospital = hospital
        self.id = id or new_id()
        self.clock = HybridClock(self.id)
        self.events: list[Event] = []
        self.end = Position(chain=new_id(), number=0)

    def open_chain(self, after: Position | None = None) -> Event:
        """Begin a chain."""
        self.end = Position(chain=new_id(), number=0)
        return self.say(OpenChain(after=after))

    def say(self, action: OpenChain | Put | Delete, stamp: Stamp | None = None, at: datetime | None = None) -> Event:
        """The next event."""
        event = next_event(self.id, self.end, at or datetime.now(UTC), stamp or self.clock.now(), action)
        self.end = event.position
        self.events.append(event)
        return event

    def put(
        self, type: RecordType, fields: Mapping[str, Any], id: UUID | None = None, stamp: Stamp | None = None
    ) -> Event:
        """A record is made or changed."""
        return self.say(Put(type=type, id=id or new_id(), fields=changed_fields(type, fields)), stamp)

    def delete(self, type: RecordType, id: UUID, reason: str | None = None, stamp: Stamp | None = None) -> Event:
        """A record is deleted."""
        return self.say(Delete(type=type, id=id, reason=reason), stamp)

    def run(self, name: str = "김하늘", **more: Any) -> tuple[UUID, UUID]:
        """Events of a patient and a run; gives the ids of both."""
        patient, encounter = new_id(), new_id()
        self.put(RecordType.PATIENT, {"name": name, "sex": "female", "estimated_age": 60}, patient)
        started = {"patient": str(patient), "started_at": NOW, "chief_complaint": "dyspnoea"}
        self.put(RecordType.ENCOUNTER, {**started, **more}, encounter)
        return patient, encounter

    def vital_signs(self, encounter: UUID, **values: Any) -> UUID:
        """An event of vital signs."""
        event = self.put(RecordType.VITAL_SIGNS, {"encounter": encounter, "taken_at": datetime.now(UTC), **values})
        assert isinstance(event.action, Put)
        return event.action.id

    def film(self, encounter: UUID | None, sha256: str = SHA, **more: Any) -> UUID:
        """An event of a radiograph."""
        fields = {"encounter": encounter, "sha256": sha256, "size": 1000, "received_at": NOW, "source": "dicom"}
        event = self.put(RecordType.RADIOGRAPH, {**fields, **more})
        assert isinstance(event.action, Put)
        return event.action.id

    def diagnosis(self, radiograph: UUID, likely: Iterable[str] = (), **more: Any) -> UUID:
        """An event of a reading that calls some findings likely and the others unlikely."""
        fields = {"radiograph": radiograph, "made_at": datetime.now(UTC), "result": reading(likely), **more}
        event = self.put(RecordType.DIAGNOSIS, fields)
        assert isinstance(event.action, Put)
        return event.action.id

    def unsent(self, events: Iterable[Event] | None = None) -> bytes:
        """A batch of events (all by default), as JSON."""
        return batch(self.events if events is None else events)

    def send(self, events: Iterable[Event] | None = None) -> BatchAnswer:
        """Give a batch to the hospital."""
        return intake.take(self.hospital, self.id, parse(self.unsent(events)))


def batch(events: Iterable[Event]) -> bytes:
    """A batch as JSON."""
    return json.dumps({"events": [event.model_dump(mode="json") for event in events]}).encode()


def reading(likely: Iterable[str] = ()) -> dict[str, Any]:
    """A diagnosis (``shared.diagnosis.Diagnosis``) as JSON."""
    from shared.findings import BY_KEY, KEYS, Urgency

    likely = list(likely)
    probabilities = {key: 0.8 if key in likely else 0.1 for key in KEYS}
    top = sorted(KEYS, key=lambda key: -probabilities[key])[:3]
    return {
        "probabilities": probabilities,
        "states": {key: "likely" if key in likely else "unlikely" for key in KEYS},
        "top3": [{"finding": key, "probability": probabilities[key]} for key in top],
        "boxes": [],
        "verdict": {"problems": [], "scores": {}},
        "urgent": [key for key in likely if BY_KEY[key].urgency is not Urgency.ROUTINE],
        "prevalence": "NIH ChestX-ray14",
        "release": "test",
        "precision": "int8",
        "runtime": "litert",
        "timing_ms": {"total": 100.0},
        "sha256": SHA,
    }


def enrolled_device(hospital: Hospital, name: str = "Ambulance 7", jwk: dict[str, Any] | None = None) -> TestDevice:
    """A device that the hospital knows; its chain is begun."""
    device = TestDevice(hospital)
    with hospital.database.writing() as session:
        session.add(
            DeviceRow(
                id=device.id,
                name=name,
                jwk=jwk or {"kty": "EC", "kid": "test"},
                enrolled_at=datetime.now(UTC),
                enrolled_by="test",
            )
        )
    device.open_chain()
    return device
