"""``firstray admin reanalyse`` as it is typed: what it asks the workers for, what it leaves alone, what it refuses."""

import sqlite3
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlmodel import col, select

from firstray import cli
from shared.hospital import ImageKind
from shared.identity import new_id
from shared.records import RecordType
from sync_server import admin_release
from sync_server.db.tables import AuditRow, ImageRow, ReleaseRow, ServerReadingRow
from sync_server.domain import hiding, purge
from sync_server.domain.readings import ARCHIVE
from sync_server.hospital import Hospital
from tests.hospital import TestDevice, enrolled_device, new_hospital

RELEASE = "2026-12-01"
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, listen=False)
    with made.database.writing() as session:
        session.add(ReleaseRow(id=RELEASE, sha256="f" * 64, size=1, manifest={}, uploaded_at=NOW, uploaded_by="t"))
    yield made
    made.close()


@pytest.fixture
def device(hospital: Hospital) -> TestDevice:
    return enrolled_device(hospital)


@pytest.fixture
def typed(hospital: Hospital, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Runs ``firstray admin reanalyse`` with options; gives exit code, output and errors."""

    def run(*options: str) -> tuple[int, str, str]:
        data = str(hospital.settings.data)
        monkeypatch.setattr(sys, "argv", ["firstray", "admin", "reanalyse", *options, "--data", data])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def hold(hospital: Hospital, days_ago: float = 1, kind: ImageKind = ImageKind.ORIGINAL) -> str:
    """An image that the hospital has had for some days; gives its hash."""
    sha256 = new_id().hex * 2
    with hospital.database.writing() as session:
        session.add(ImageRow(sha256=sha256, kind=kind, size=1000, stored_at=NOW - timedelta(days=days_ago)))
    return sha256


def hide(hospital: Hospital, run: UUID) -> None:
    hospital.database.write(lambda session: hiding.hide(session, [run], "test", "user:admin"))


def asked(hospital: Hospital) -> list[tuple[str, str, str, int]]:
    with hospital.database.reading() as session:
        rows = session.exec(select(ServerReadingRow).order_by(col(ServerReadingRow.id))).all()
        return [(row.sha256, row.release, row.state, row.priority) for row in rows]


def test_what_came_since_then_is_asked_for_once_and_after_everything_fresh(hospital: Hospital, typed: Typed) -> None:
    hold(hospital, days_ago=30)
    hold(hospital, days_ago=2, kind=ImageKind.PREVIEW)
    older, newer = hold(hospital, days_ago=3), hold(hospital, days_ago=1)
    options = ("--release", RELEASE, "--since", "2026-11-20")
    code, out, _ = typed(*options)
    assert (code, out) == (
        0,
        f"2 readings with {RELEASE} are asked for; the workers make them when nothing more urgent waits.\n",
    )
    wanted = [(sha256, RELEASE, "waiting", ARCHIVE) for sha256 in (older, newer)]
    assert asked(hospital) == wanted
    assert typed(*options)[1].startswith("0 readings")
    assert asked(hospital) == wanted
    with hospital.database.reading() as session:
        rows = session.exec(select(AuditRow).where(AuditRow.action == "archive.reanalysed")).all()
    assert [(row.actor, row.subject, row.details["images"]) for row in rows] == [("command line", RELEASE, 2)] * 2


def test_an_image_is_read_in_each_manner_its_crews_had_it_read(
    hospital: Hospital, device: TestDevice, typed: Typed
) -> None:
    sha256 = hold(hospital)
    film = device.film(device.run()[1], sha256)
    device.diagnosis(film)
    device.diagnosis(film, overridden=True)
    device.send()
    assert typed("--release", RELEASE, "--since", "2026-11-01")[1].startswith("2 readings")
    with hospital.database.reading() as session:
        assert set(session.exec(select(ServerReadingRow.manner))) == {"", "force"}


def test_what_was_deleted_is_not_read_again(hospital: Hospital, device: TestDevice, typed: Typed) -> None:
    purged = hold(hospital)
    run = device.run()[1]
    device.film(run, purged)
    device.send()
    hide(hospital, run)
    assert purge.purge(hospital, datetime.now(UTC) + timedelta(days=31)).images == 1
    hidden, deleted, film_deleted, shared, loose, unannounced = (hold(hospital) for _ in range(6))
    runs = {sha256: device.run()[1] for sha256 in (hidden, deleted, film_deleted, shared)}
    films = {sha256: device.film(run, sha256) for sha256, run in runs.items()}
    device.film(runs[hidden], shared)  # the same bytes in a run that is hidden, and in one that stands
    device.film(None, loose)
    device.delete(RecordType.ENCOUNTER, runs[deleted])
    device.delete(RecordType.RADIOGRAPH, films[film_deleted])
    device.send()
    hide(hospital, runs[hidden])
    assert typed("--release", RELEASE, "--since", "2026-11-01")[1].startswith("3 readings")
    assert {sha256 for sha256, *_ in asked(hospital)} == {shared, loose, unannounced}


@pytest.mark.parametrize(
    ("since", "expected"),
    [("2026-11-26T12:00:00", 0), ("2026-11-26 11:59:59", 1), ("2026-11-26", 1), ("2026-11-26T21:00+09:00", 0)],
)
def test_a_moment_is_one_in_utc(hospital: Hospital, typed: Typed, since: str, expected: int) -> None:
    hold(hospital, days_ago=1 + 1e-6)  # a tenth of a second before noon of the 26th
    assert typed("--release", RELEASE, "--since", since)[1].startswith(f"{expected} readings")


def test_others_write_between_its_steps_and_what_was_broken_off_is_made_up_for(
    hospital: Hospital, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [hold(hospital) for _ in range(5)]
    monkeypatch.setattr(admin_release, "AT_ONCE", 2)
    database = sqlite3.connect(hospital.settings.database_url.database or "", timeout=0, isolation_level=None)
    seen: list[int] = []

    def pause(_: float) -> None:
        database.execute("BEGIN IMMEDIATE")  # another process: raises where the database is locked
        seen.extend(database.execute("SELECT count(*) FROM server_reading").fetchone())
        database.execute("ROLLBACK")
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(admin_release, "sleep", pause)
    options = ("--release", RELEASE, "--since", "2026-11-20")
    typed(*options)
    assert seen == [2, 4]
    assert typed(*options)[1].startswith("1 readings")
    database.close()
    assert sorted(sha256 for sha256, *_ in asked(hospital)) == sorted(held)
    with hospital.database.reading() as session:
        rows = session.exec(select(AuditRow).where(AuditRow.action == "archive.reanalysed")).all()
    assert [row.details["images"] for row in rows] == [5, 5]  # what was begun is in the log too


def test_an_unknown_release_is_refused(hospital: Hospital, typed: Typed) -> None:
    hold(hospital)
    code, out, err = typed("--release", "2027-01-01", "--since", "2026-11-01")
    assert (code, out) == (2, "")
    assert err.startswith("Error [release_unknown]: There is no release 2027-01-01 here.")
    assert "Upload it first" in err
    assert asked(hospital) == []


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "27.11.2026", ""])
def test_what_is_no_date_is_refused_with_what_would_be_one(hospital: Hospital, typed: Typed, since: str) -> None:
    hold(hospital)
    code, out, err = typed("--release", RELEASE, "--since", since)
    assert (code, out) == (2, "")
    said = " ".join(err.replace("│", " ").split())
    assert f"Invalid value for '--since': '{since}' is no date. Write 2026-11-27, or 2026-11-27T18:30 (UTC)." in said
    assert asked(hospital) == []


def test_both_options_are_needed(hospital: Hospital, typed: Typed) -> None:
    for options, missing in ((("--release", RELEASE), "--since"), (("--since", "2026-11-01"), "--release")):
        code, _, err = typed(*options)
        assert code == 2
        assert missing in err
