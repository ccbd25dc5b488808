"""The audit log's chain."""

import threading

import pytest
from sqlalchemy import delete, update
from sqlmodel import Session, col

from sync_server.db.tables import AuditRow
from sync_server.domain import audit
from sync_server.hospital import Hospital


def _write(hospital: Hospital, rows: int = 5) -> None:
    for number in range(rows):
        with hospital.database.writing() as session:
            audit.record(session, "user:kim", "patient.viewed", f"p{number}", film=number, share=0.1, why="검토")


def test_a_log_that_nobody_touched_is_whole(hospital: Hospital) -> None:
    _write(hospital)
    with hospital.database.reading() as session:
        verdict = audit.verify(session)
        assert (verdict.rows, verdict.whole) == (5, True)
        assert audit.head(session) == (5, verdict.head)


def test_an_empty_log_is_whole(hospital: Hospital) -> None:
    with hospital.database.reading() as session:
        assert audit.verify(session).whole


@pytest.mark.parametrize(
    "change",
    [{"actor": "user:lee"}, {"subject": "p9"}, {"action": "x"}, {"details": {"film": 7}}, {"previous": "0" * 64}],
)
def test_a_changed_row_shows(hospital: Hospital, change: dict[str, object]) -> None:
    _write(hospital)
    with hospital.database.writing() as session:
        session.execute(update(AuditRow).where(col(AuditRow.number) == 3).values(**change))
    with hospital.database.reading() as session:
        assert audit.verify(session).broken_at == 3


def test_a_row_that_was_taken_out_shows(hospital: Hospital) -> None:
    _write(hospital)
    with hospital.database.writing() as session:
        session.execute(delete(AuditRow).where(col(AuditRow.number) == 2))
    with hospital.database.reading() as session:
        assert audit.verify(session).broken_at == 2


def test_rows_cut_off_show_against_the_head(hospital: Hospital) -> None:
    _write(hospital)
    with hospital.database.reading() as session:
        head = audit.head(session)
    with hospital.database.writing() as session:
        session.execute(delete(AuditRow).where(col(AuditRow.number) > 3))
    with hospital.database.reading() as session:
        assert audit.verify(session).whole
        assert audit.head(session) != head


def test_an_act_that_is_undone_leaves_no_row(hospital: Hospital) -> None:
    _write(hospital, 1)

    def act() -> None:
        with hospital.database.writing() as session:
            audit.record(session, "user:kim", "patient.viewed")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act()
    _write(hospital, 1)
    with hospital.database.reading() as session:
        assert audit.verify(session) == audit.Verdict(2, None, audit.head(session)[1])


def test_many_at_once_make_one_chain(hospital: Hospital) -> None:
    def act(session: Session) -> None:
        audit.record(session, "system", "tested")

    threads = [threading.Thread(target=lambda: [hospital.database.write(act) for _ in range(5)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with hospital.database.reading() as session:
        verdict = audit.verify(session)
    assert (verdict.rows, verdict.whole) == (40, True)


def test_a_long_log_is_checked_in_pieces(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_SOME", 3)
    _write(hospital, 8)
    with hospital.database.reading() as session:
        assert audit.verify(session).rows == 8
