"""The archive: search, filters, sort, and pages that neither skip nor repeat a run."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlmodel import Session

from shared.errors import FirstRayError
from shared.identity import new_id
from sync_server.db.tables import HistoryRow
from sync_server.domain import archive
from sync_server.domain.archive import Criteria, Shown, Sort
from sync_server.domain.folding import folded
from sync_server.hospital import Hospital
from tests.hospital import new_hospital

NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@pytest.fixture
def hospital(database: str | None, tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, database, listen=False)
    yield made
    made.close()


def put(session: Session, name: str | None, number: int = 0, **more: object) -> UUID:
    """A history, ``number`` minutes before noon."""
    search = folded(" ".join(str(more.get(field, "")) for field in ("complaint", "incident_number")) + f" {name or ''}")
    fields = {
        "encounter": new_id(),
        "device": UUID(int=1),
        "started_at": NOON - timedelta(minutes=number),
        "changed_at": NOON + timedelta(minutes=number),
        "under_way": False,
        "visible": True,
        "name": name,
        "search": search,
    }
    row = HistoryRow(**fields | more)
    session.add(row)
    return row.encounter


def found(hospital: Hospital, **criteria: object) -> list[str | None]:
    with hospital.database.reading() as session:
        return [row.name for row in archive.find(session, Criteria(**criteria)).rows]


def test_each_word_must_occur_in_any_spelling(hospital: Hospital) -> None:
    with hospital.database.writing() as session:
        put(session, "김하늘", 1, complaint="호흡곤란")
        put(session, "Kim Haneul", 2, incident_number="2026-0042")
        put(session, "100%_off", 3)
    assert found(hospital, text="하늘 호흡") == ["김하늘"]
    # Hangul as single letters (NFD), as some systems send it, and full-width Latin letters.
    assert found(hospital, text="\u1112\u1161\u1102\u1173\u11af") == ["김하늘"]
    assert found(hospital, text="ＨＡＮＥＵＬ 0042") == ["Kim Haneul"]
    assert found(hospital, text="하늘 0042") == []
    assert found(hospital, text="%_") == ["100%_off"]


def test_filters_narrow_together(hospital: Hospital) -> None:
    other = UUID(int=2)
    with hospital.database.writing() as session:
        put(session, "a", 1, found=",Effusion,Mass,", differs=True)
        put(session, "b", 2, found=",Mass,", confirmed=True, device=other)
        put(session, "c", 60 * 24, found=",Nodule,")
        put(session, "gone", 3, visible=False)
    assert found(hospital, finding="Mass") == ["a", "b"]
    assert found(hospital, finding="Mass", differs=True) == ["a"]
    assert found(hospital, urgent=True) == ["a"]
    assert found(hospital, urgent=False) == ["b", "c"]
    assert found(hospital, confirmed=True) == found(hospital, device=other) == ["b"]
    assert found(hospital, confirmed=False, differs=False) == ["c"]
    assert found(hospital, since=NOON - timedelta(minutes=2), until=NOON - timedelta(minutes=1)) == ["b"]
    assert found(hospital, shown=Shown.HIDDEN) == ["gone"]
    with pytest.raises(FirstRayError, match="no finding"):
        found(hospital, finding="Hernia")


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("descending", [True, False])
def test_pages_meet_and_lead_back(hospital: Hospital, sort: Sort, descending: bool) -> None:
    # Several runs share each value, and some have no name.
    with hospital.database.writing() as session:
        for number in range(23):
            name = None if number % 5 == 0 else f"name {number % 3}"
            put(session, name, number // 2, rank=number % 4)
    criteria = Criteria(sort=sort, descending=descending)
    with hospital.database.reading() as session:
        pages = [archive.find(session, criteria, size=5)]
        while mark := pages[-1].next:
            pages.append(archive.find(session, criteria, mark, size=5))
        listed = [row.encounter for page in pages for row in page.rows]
        at_once = [row.encounter for row in archive.find(session, criteria, size=100).rows]
        back = pages[-1]
        while mark := back.previous:
            back = archive.find(session, criteria, mark, size=5)
            assert [row.encounter for row in back.rows] in [[row.encounter for row in page.rows] for page in pages]
    assert [len(page.rows) for page in pages] == [5, 5, 5, 5, 3]
    assert listed == at_once
    assert len(set(listed)) == 23
    assert [row.encounter for row in back.rows] == listed[:5]
    keys = [(row.name or "", row.rank, row.started_at, row.changed_at) for page in pages for row in page.rows]
    column = [Sort.NAME, Sort.URGENCY, Sort.STARTED, Sort.CHANGED].index(sort)
    assert [key[column] for key in keys] == sorted((key[column] for key in keys), reverse=descending)


def test_a_run_that_arrives_meanwhile_shifts_nothing(hospital: Hospital) -> None:
    with hospital.database.writing() as session:
        for number in range(6):
            put(session, str(number), number)
    with hospital.database.reading() as session:
        first = archive.find(session, Criteria(), size=3)
    with hospital.database.writing() as session:
        put(session, "new", -1)
    with hospital.database.reading() as session:
        second = archive.find(session, Criteria(), first.next, size=3)
    assert [row.name for row in second.rows] == ["3", "4", "5"]


@pytest.mark.parametrize("mark", ["", "!!", "W10", "bnVsbA", "WzEsMiwzXQ", "WyJhIiwgImIiLCAiYyJd"])
def test_a_forged_mark_is_refused_with_a_way_back(hospital: Hospital, mark: str) -> None:
    with hospital.database.reading() as session:
        if not mark:
            assert archive.find(session, Criteria(), mark).rows == ()
            return
        for sort in Sort:
            with pytest.raises(FirstRayError) as caught:
                archive.find(session, Criteria(sort=sort), mark)
            assert caught.value.code == "bad_mark"


def test_counting_stops_where_it_would_cost_more_than_it_tells(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hospital.database.writing() as session:
        for number in range(12):
            put(session, f"name {number}", number)
    with hospital.database.reading() as session:
        first = archive.find(session, Criteria(), size=5)
        assert (first.count, len(first.rows)) == (12, 5)
        assert archive.find(session, Criteria(), first.next, size=5).count is None
        assert archive.find(session, Criteria(text="name 1")).count == 3
        monkeypatch.setattr(archive, "MOST_COUNTED", 10)
        assert archive.find(session, Criteria(), size=5).count == 10
        assert archive.find(session, Criteria(), size=11).count == 10
