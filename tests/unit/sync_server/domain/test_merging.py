"""Two crews, one patient: merged by an admin, and taken back without loss."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlmodel import col, select

from shared.errors import FirstRayError
from shared.identity import new_id
from shared.records import RecordType
from sync_server.db.tables import AuditRow, HistoryRow, PatientRow
from sync_server.domain import merging
from sync_server.hospital import Hospital
from tests.hospital import enrolled_device, new_hospital

ADMIN = new_id()


@pytest.fixture
def hospital(database: str | None, tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, database, listen=False)
    yield made
    made.close()


def histories(hospital: Hospital) -> dict[UUID, tuple[UUID | None, str | None]]:
    with hospital.database.reading() as session:
        return {row.encounter: (row.patient, row.name) for row in session.exec(select(HistoryRow)).all()}


def merge(hospital: Hospital, patient: UUID, into: UUID, reason: str = "same identity card") -> UUID:
    with hospital.database.writing() as session:
        return merging.merge(session, patient, into, reason, ADMIN, "user:admin").id


def unmerge(hospital: Hospital, merge: UUID) -> None:
    with hospital.database.writing() as session:
        merging.unmerge(session, merge, ADMIN, "user:admin")


def test_histories_follow_a_merge_and_go_back(hospital: Hospital) -> None:
    first, second = enrolled_device(hospital), enrolled_device(hospital)
    unknown, run = first.run("unknown male")
    known, other = second.run("박서준")
    first.send()
    second.send()
    before = histories(hospital)
    done = merge(hospital, unknown, known)
    assert histories(hospital) == {run: (known, "박서준"), other: (known, "박서준")}
    with hospital.database.reading() as session:
        assert {row.encounter for row in merging.side(session, known).runs} == {run, other}
        [standing] = merging.standing(session)
        assert (standing.merge.id, standing.patient.name, standing.into.name) == (done, "unknown male", "박서준")
    # The crew goes on with its own patient; nothing of that is lost when the merge is undone.
    first.put(RecordType.PATIENT, {"estimated_age": 44}, unknown)
    first.send()
    assert histories(hospital)[run] == (known, "박서준")
    unmerge(hospital, done)
    assert histories(hospital) == before
    with hospital.database.reading() as session:
        patient = session.get(PatientRow, unknown)
        assert patient is not None
        assert patient.content["estimated_age"] == 44
        assert merging.standing(session) == []
        said = select(AuditRow.action).where(AuditRow.subject == str(unknown)).order_by(col(AuditRow.number))
        assert session.exec(said).all() == ["patient.merged", "patient.unmerged"]


def test_merges_in_a_row_lead_to_the_last_patient(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    (a, run_a), (b, run_b), (c, run_c) = device.run("a"), device.run("b"), device.run("c")
    device.send()
    first = merge(hospital, a, b)
    second = merge(hospital, b, c)
    assert {patient for patient, _ in histories(hospital).values()} == {c}
    unmerge(hospital, second)
    assert histories(hospital) == {run_a: (b, "b"), run_b: (b, "b"), run_c: (c, "c")}
    unmerge(hospital, first)
    assert histories(hospital) == {run_a: (a, "a"), run_b: (b, "b"), run_c: (c, "c")}


def test_what_makes_no_sense_is_refused(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    (a, _), (b, _), (c, _), (gone, _) = (device.run(name) for name in "abcd")
    device.delete(RecordType.PATIENT, gone)
    device.send()
    merged = merge(hospital, a, b)

    def refusal(patient: UUID, into: UUID, reason: str = "why") -> str:
        with pytest.raises(FirstRayError) as caught:
            merge(hospital, patient, into, reason)
        return caught.value.code

    assert refusal(a, a) == "same_patient"
    assert refusal(b, a) == "already_merged"
    assert refusal(c, a) == "already_merged"
    assert refusal(a, c) == "already_merged"
    assert refusal(c, new_id()) == "patient_unknown"
    assert refusal(c, gone) == "patient_unknown"
    assert refusal(c, b, reason=" ") == "reason_missing"
    unmerge(hospital, merged)
    with pytest.raises(FirstRayError, match="undone already"):
        unmerge(hospital, merged)
