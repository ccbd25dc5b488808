"""A store as after a long shift: everything that a screen can have to show, without waiting for it to happen."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from edge_app.capture.intake import Arrival, Source
from edge_app.reading import FilmReader, Reading
from edge_app.store.store import Store
from shared.boxes import Box
from shared.calibration import State
from shared.correction import Correction
from shared.diagnosis import Diagnosis, Ranked
from shared.findings import KEYS
from shared.hospital import (
    Acknowledgement,
    ConfirmedReading,
    ErMessage,
    Inbox,
    InboxItem,
    Presence,
    ServerDiagnosis,
)
from shared.quality import Problem, Severity, Verdict, explain
from shared.records import Identifier, RecordType, Sex

LONG_NAME = "Maximiliane-Charlotte von Hohenstein-Wolkenburg zu Rabenau"


def problem(code: str, severity: Severity = Severity.REFUSE, **fields: Any) -> Problem:
    """A problem as the gate has it."""
    message, action = explain(code, "en")
    return Problem(code=code, severity=severity, message=message, action=action, **{"overridable": False} | fields)


def urgent(diagnosis: Diagnosis) -> Diagnosis:
    """The same, with a pneumothorax and an oedema: solid and dashed boxes, findings in every state."""
    states = dict.fromkeys(KEYS, State.UNLIKELY) | {
        "Pneumothorax": State.LIKELY,
        "Edema": State.LIKELY,
        "Pleural_Thickening": State.LIKELY,
        "Consolidation": State.LIKELY,
        "Pneumonia": State.UNCERTAIN,
        "Infiltration": State.UNCERTAIN,
        "Emphysema": State.NOT_ASSESSED,
    }
    places: tuple[tuple[str, Literal["detector", "activation"], float], ...] = (
        ("Pneumothorax", "detector", 0.12),
        ("Edema", "activation", 0.55),
        ("Consolidation", "activation", 0.3),
    )
    return diagnosis.model_copy(
        update={
            "states": states,
            "top3": tuple(
                Ranked(finding=key, probability=chance)
                for key, chance in (("Pneumothorax", 0.93), ("Pleural_Thickening", 0.41), ("Edema", 0.38))
            ),
            "urgent": ("Pneumothorax", "Edema", "Consolidation"),
            "boxes": tuple(
                Box(finding=key, score=0.8, x=x, y=0.2, w=0.28, h=0.35, source=source) for key, source, x in places
            ),
        }
    )


def refused(diagnosis: Diagnosis, *problems: Problem) -> Diagnosis:
    """Not read, because of these problems."""
    nothing: dict[str, Any] = {"probabilities": {}, "states": {}, "top3": (), "boxes": (), "urgent": ()}
    return diagnosis.model_copy(update={**nothing, "verdict": Verdict(problems=problems, scores={"chest": 0.9})})


class Shift:
    """Fills a store; ``ids`` names what it put in.

    Args:
        store: an empty one.
        chest: a chest radiograph's file.
    """

    def __init__(self, store: Store, chest: Path) -> None:
        self._store = store
        self._bytes = chest.read_bytes()
        self._number = 0
        reading = FilmReader().read(self._bytes)
        assert reading.diagnosis is not None
        self._reading: Reading = reading
        self.diagnosis: Diagnosis = reading.diagnosis
        self.ids: dict[str, UUID] = {}
        self._whole_run()
        self._doubtful_run()
        self._past_runs()
        self._waiting()

    def film(self, name: str, run: UUID | None, diagnosis: Diagnosis | None, **reading: Any) -> UUID:
        """A radiograph that came in and was read."""
        self._number += 1
        with self._store.spool() as spool:
            spool.write(self._bytes + bytes([self._number]))
            film = spool.commit(Arrival(Source.DICOM, "PORTABLE-XRAY-1", datetime.now(UTC)))
        if run is not None:
            self._store.assign(film, run)
        self.read(film, diagnosis, **reading)
        self.ids[name] = film
        return film

    def read(self, film: UUID, diagnosis: Diagnosis | None, **reading: Any) -> UUID:
        """One more reading of a radiograph."""
        pictures = {"picture": self._reading.picture, "preview": self._reading.preview} if diagnosis else {}
        fields = {"diagnosis": diagnosis, "error": None} | pictures | reading
        return self._store.add_reading(film, **fields)

    def hear(self, *contents: Any) -> None:
        """The hospital says something."""
        first = self._store.outbox.inbox_position() + 1
        items = tuple(InboxItem(id=first + n, content=content) for n, content in enumerate(contents))
        self._store.outbox.take_inbox(Inbox(items=items, after=items[-1].id))

    def run(self, name: str, who: Mapping[str, Any], **encounter: Any) -> UUID:
        """A run begins."""
        self.ids[name] = self._store.start_run(who=who, encounter=encounter)
        return self.ids[name]

    def _whole_run(self) -> None:
        """Everything there can be: urgent, acknowledged, answered, and read differently by the hospital."""
        now = datetime.now(UTC)
        run = self.run(
            "run",
            {
                "name": "김하늘",
                "birth_date": "1950-03-02",
                "sex": Sex.FEMALE,
                "identifiers": (
                    Identifier(system="hospital", value="00123456"),
                    Identifier(system="insurance", value="1-2345678901"),
                ),
            },
            chief_complaint="갑자기 숨이 차고 가슴이 아픔, 누우면 더 심해짐",
            incident_number="2026-000417",
            notes="보호자 동승. 고혈압 약 복용 중. Allergic to penicillin.",
            expected_arrival=now + timedelta(minutes=14),
        )
        self.ids["patient"] = self._store.run(run).patient.id
        for minute in range(7):
            signs = {"spo2": 86 + minute, "heart_rate": 128 - minute, "respiratory_rate": 30, "gcs": 15}
            self._store.add_vital_signs(run, {**signs, "systolic": 158, "diastolic": 92})
        self.film("earlier", run, self.diagnosis)
        film = self.film("urgent", run, urgent(self.diagnosis))
        findings = {"Pneumothorax": Presence.PRESENT, "Edema": Presence.UNSURE, "Mass": Presence.ABSENT}
        words = "Tension pneumothorax on the left. Decompress at once; chest drain is being prepared."
        self.hear(
            Acknowledgement(encounter=run, by="Dr. Han", at=now),
            ErMessage(encounter=run, by="Dr. Han", text="소생실 2번으로 오세요. 흉관 삽입을 준비합니다.", at=now),
            ConfirmedReading(encounter=run, radiograph=film, findings=findings, text=words, by="Dr. Lee", at=now),
            ServerDiagnosis(encounter=run, radiograph=film, result=self.diagnosis, at=now),
        )

    def _doubtful_run(self) -> None:
        """What was refused, failed, overruled, corrected and read more than once."""
        run = self.run("doubtful", {"sex": Sex.MALE, "estimated_age": 60})
        self._store.add_vital_signs(run, {"systolic": 80})
        base = self.diagnosis
        turn = Correction(quarter_turns=2)
        self.film("legs", run, refused(base, problem("not_a_chest_radiograph")))
        upside = problem("rotated_180", overridable=True, correction=turn)
        self.film("upside_down", run, refused(base, upside))
        self.film("broken", run, None, error="dicom_truncated")
        warned = [problem(code, Severity.WARN) for code in ("cut_off", "over_exposed", "unfamiliar")]
        overruled = base.model_copy(update={"verdict": Verdict(problems=(upside, *warned), scores={"chest": 0.9})})
        self.film("overruled", run, overruled, overridden=True)
        twice = self.film("twice", run, refused(base, upside))
        self.read(twice, base.model_copy(update={"correction": turn, "boxes": ()}))

    def _past_runs(self) -> None:
        for number in range(12):
            name = LONG_NAME if number == 0 else f"홍길동 {number}"
            who = {"name": name, "sex": Sex.OTHER}
            run = self.run(f"past.{number}", who, chief_complaint="Dyspnoea\nand chest pain")
            self._store.end_run(run)
        self._store.delete_run(self._store.start_run(who={"name": "Deleted"}))

    def _waiting(self) -> None:
        film = self.film("waiting", None, self.diagnosis)
        device = {"name": "HONG^GILDONG", "patient_id": "0099887", "birth_date": "1950-03-02", "sex": "M"}
        self._store.change(RecordType.RADIOGRAPH, film, {"device_patient": device})
        self.film("waiting_refused", None, refused(self.diagnosis, problem("not_a_chest_radiograph")))
