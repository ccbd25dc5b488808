"""Backups and migrations: nothing is lost on the way, and what was deleted does not come back."""

import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

from edge_app.store import _opening, backups, migrations
from edge_app.store import store as store_module
from edge_app.store.errors import StoreError
from edge_app.store.keys import MasterKey
from edge_app.store.store import Store
from edge_app.store.views import Backup
from shared.events import Event, OpenChain
from shared.records import RecordType
from tests.unit.edge_app.store.samples import (
    SECRET,
    Hospital,
    answer,
    check_chains,
    diagnosis,
    events,
    open_store,
    receive,
)

KEY = MasterKey(SECRET)
SECOND = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade():
    op.add_column("encounterrow", sa.Column("colour", sa.String(), nullable=False, server_default="green"))
    {more}
"""


def restored(folder: Path, backup: Backup | None) -> Store:
    Store.restore(folder, KEY, backup)
    return open_store(folder)


def test_models_and_migrations_agree(store: Store) -> None:
    with store._database.writing_connection() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
    assert ScriptDirectory(str(migrations.SCRIPTS)).get_current_head() == migrations.LATEST


def test_a_backup_is_encrypted_and_complete(folder: Path) -> None:
    store = open_store(folder)
    run = store.start_run(who={"name": "Kim Before"})
    film = receive(store)
    backup = store.back_up()
    later = store.start_run(who={"name": "Kim Later"})
    newer = receive(store, b"newer than the backup")
    store.close()
    data = (folder / "backups" / backup.name).read_bytes()
    assert b"Kim Before" not in data
    assert not data.startswith(b"SQLite")
    again = restored(folder, backup)
    assert [row.id for row in again.runs()] == [run]
    assert later not in {row.id for row in again.runs()}
    assert {each.id for each in again.waiting_films()} == {film, newer}
    assert again.original(newer) == b"newer than the backup"
    assert again.device == store.device
    check_chains(again)
    again.close()


def test_a_restored_store_begins_a_new_chain_and_still_sends_the_old_one(folder: Path, hospital: Hospital) -> None:
    store = open_store(folder)
    store.start_run()
    backup = store.back_up()
    end = store.outbox.next_events()[-1].position
    store.start_run()
    hospital.take(store)
    store.close()
    again = restored(folder, backup)
    batch = again.outbox.next_events()
    assert [event.number for event in batch] == [1, 2, 3]
    assert hospital.take(again, limit=3) == 4
    again.start_run()
    assert again.outbox.next_events()[0].chain != end.chain
    with again._journal.change() as transaction:
        present = transaction.end_of_chain()
    assert present is not None
    first = next(Event.model_validate_json(row.body or "") for row in events(again) if row.chain == present.chain)
    assert first.action == OpenChain(after=end)
    standing = again.standing()
    assert standing.chains == 2
    assert standing.chain_detail is not None
    assert "backup" in standing.chain_detail
    check_chains(again)
    again.close()


def test_what_was_deleted_since_the_backup_stays_deleted(folder: Path, hospital: Hospital) -> None:
    store = open_store(folder)
    run, other = store.start_run(), store.start_run()
    film = receive(store)
    store.add_reading(film, diagnosis=diagnosis(), error=None, picture=b"p", radiograph={"encounter": run})
    backup = store.back_up()
    store.delete_run(run, undo_seconds=0)
    store.settle()
    store.close()
    again = restored(folder, backup)
    assert [row.id for row in again.runs()] == [other]
    assert again.waiting_films() == []
    assert sum(event.action.kind == "delete" for event in all_waiting(again, hospital)) == 4
    check_chains(again)
    again.close()


def all_waiting(store: Store, hospital: Hospital) -> list[Event]:
    seen: list[Event] = []
    while batch := store.outbox.next_events():
        outcomes = [hospital.stored(event) for event in batch]
        store.outbox.record_answer(answer(outcomes, batch), batch[0].chain, hospital.keys)
        seen += batch
    return seen


def test_without_any_backup_the_images_come_back(folder: Path) -> None:
    store = open_store(folder)
    film = receive(store, b"image")
    device = store.device
    store.close()
    (folder / "records.db").unlink()
    with pytest.raises(StoreError) as error:
        open_store(folder)
    assert error.value.code == "store_missing"
    assert error.value.backups == ()
    again = restored(folder, None)
    assert [each.id for each in again.waiting_films()] == [film]
    assert again.device == device
    again.close()


@pytest.mark.parametrize("place", [0, 4096 * 3 + 100])
def test_a_damaged_database_offers_its_backups(folder: Path, place: int) -> None:
    store = open_store(folder)
    run = store.start_run()
    backup = store.back_up()
    store.close()
    file = folder / "records.db"
    data = bytearray(file.read_bytes())
    for page in range(place, len(data), 4096):
        data[page : page + 64] = bytes(64)
    file.write_bytes(data)
    with pytest.raises(StoreError) as error:
        open_store(folder)
    assert error.value.code == "store_damaged"
    assert error.value.backups == (backup,)
    again = restored(folder, error.value.backups[0])
    assert [row.id for row in again.runs()] == [run]
    assert [each.reason for each in Store.backups(folder)] == ["daily"]
    assert len(list((folder / "backups").glob("*-replaced.db"))) == 1
    again.close()


def test_a_damaged_backup_is_refused_and_changes_nothing(folder: Path) -> None:
    store = open_store(folder)
    store.start_run()
    backup = store.back_up()
    store.close()
    file = folder / "backups" / backup.name
    file.write_bytes(file.read_bytes()[:8192] + bytes(4096) + file.read_bytes()[12288:])
    before = (folder / "records.db").read_bytes()
    with pytest.raises(StoreError) as error:
        Store.restore(folder, KEY, backup)
    assert error.value.code == "store_damaged"
    file.unlink()
    with pytest.raises(StoreError) as gone:
        Store.restore(folder, KEY, backup)
    assert gone.value.code == "record_unknown"
    assert (folder / "records.db").read_bytes() == before
    again = open_store(folder)
    assert len(again.runs()) == 1
    again.close()


def test_three_backups_and_one_a_week_are_kept(folder: Path) -> None:
    store = open_store(folder)
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    (folder / "backups").mkdir()
    days = range(60)
    for day in days:
        name = f"{(now - timedelta(days=day)).strftime('%Y%m%dT%H%M%S%fZ')}-daily.db"
        (folder / "backups" / name).write_bytes(b"x")
    (folder / "backups" / "notes.txt").write_bytes(b"not ours")
    made = store.back_up()
    kept = Store.backups(folder)
    assert kept[0] == made
    age = [(made.made_at.date() - each.made_at.date()).days for each in kept[1:]]
    weeks = {each.made_at.isocalendar()[:2] for each in kept}
    assert len(weeks) == 4
    assert 5 <= len(kept) <= 6
    assert max(age) >= 14
    assert (folder / "backups" / "notes.txt").exists()
    store.close()


def test_check_and_backup_follow_an_opening_in_the_background(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(folder, check=True)
    store.start_run()
    for _ in range(1200):
        if Store.backups(folder):
            break
        time.sleep(0.05)
    assert [each.reason for each in Store.backups(folder)] == ["daily"]
    assert store.damage is None
    store.close()
    asked: list[bool] = []
    due = _opening.backup_due

    def watched(folder: Path, hours: float) -> bool:
        asked.append(due(folder, hours))
        return asked[-1]

    monkeypatch.setattr(_opening, "backup_due", watched)
    again = open_store(folder, check=True)  # the latest is young enough
    while not asked:
        time.sleep(0.01)
    again.close()
    assert asked == [False]
    assert len(Store.backups(folder)) == 1


def test_backups_go_on_while_the_store_stays_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BACKUP_EVERY_S", 0.02)
    monkeypatch.setattr(store_module, "BACKUP_HOURS", 0.0)
    store = open_store(folder, check=True)
    made: set[str] = set()
    for _ in range(3000):
        made |= {backup.name for backup in Store.backups(folder)}
        if len(made) >= 3:
            break
        time.sleep(0.02)
    store.close()
    assert len(made) >= 3


def test_a_clock_that_was_ahead_stops_no_backups_and_hides_none(store: Store, folder: Path) -> None:
    now = store.back_up()
    for year in (2090, 2091, 2092, 2093, 2094):
        (folder / "backups" / f"{year}0301T000000000000Z-daily.db").write_bytes(b"made by a wrong clock")
    assert Store.backups(folder)[0] == now
    assert not _opening.backup_due(folder, 1.0)
    (folder / "backups" / now.name).unlink()
    assert _opening.backup_due(folder, 1.0)
    newest = [store.back_up() for _ in range(4)][::-1]
    assert list(Store.backups(folder))[:3] == newest[:3]


def test_a_backup_leaves_room_for_records(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)
    size = (folder / "records.db").stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size + backups.SPARE - 1))
    with pytest.raises(StoreError) as error:
        store.back_up()
    assert error.value.code == "disk_full"
    assert list((folder / "backups").iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size + backups.SPARE))
    store.back_up()


def test_an_image_that_cannot_be_read_after_a_restore_is_not_thrown_away(folder: Path) -> None:
    store = open_store(folder)
    backup = store.back_up()
    receive(store, b"newer than the backup")
    store.close()
    (file,) = (path for path in (folder / "images").rglob("*") if path.is_file())
    whole = file.read_bytes()
    file.write_bytes(whole[:40] + b"unreadable" + whole[50:])
    again = restored(folder, backup)
    assert again.waiting_films() == []
    again.close()
    file.write_bytes(whole)  # the disk gives it back
    last = open_store(folder)
    assert [last.original(film.id) for film in last.waiting_films()] == [b"newer than the backup"]
    last.close()


def test_damage_that_only_the_full_check_finds_is_reported(folder: Path) -> None:
    store = open_store(folder)
    for number in range(300):
        store.start_run(who={"name": f"patient {number}"})
    store.close()
    file = folder / "records.db"
    data = bytearray(file.read_bytes())
    data[-4096 * 20 : -4096 * 19] = bytes(4096)
    file.write_bytes(data)
    again = open_store(folder, check=True)
    assert again._checker is not None
    again._checker.join()
    assert again.damage is not None
    assert again.damage.code == "store_damaged"
    assert Store.backups(folder) == ()
    again.close()


def newer_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    """As a later version of FirstRay would have them."""
    scripts = tmp_path / "later"
    shutil.copytree(migrations.SCRIPTS, scripts)
    (scripts / "versions" / "0002_colour.py").write_text(SECOND.replace("{more}", more))
    monkeypatch.setattr(migrations, "SCRIPTS", scripts)
    monkeypatch.setattr(migrations, "LATEST", "0002")


def test_an_older_store_is_migrated_with_its_data_after_a_backup(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(folder)
    run = store.start_run(who={"name": "Kim"})
    store.close()
    with monkeypatch.context() as patch:
        newer_scripts(tmp_path, patch)
        later = open_store(folder)
        assert [row.id for row in later.runs("kim")] == [run]
        with later._database.writing_connection() as connection:
            assert connection.exec_driver_sql("SELECT colour FROM encounterrow").scalar() == "green"
        later.close()
        assert [each.reason for each in Store.backups(folder)] == ["migration"]
    with pytest.raises(StoreError) as error:
        open_store(folder)
    assert error.value.code == "store_newer"
    older = restored(folder, Store.backups(folder)[-1])
    assert [row.id for row in older.runs("kim")] == [run]
    older.close()


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(folder)
    store.start_run()
    store.close()
    with monkeypatch.context() as patch:
        newer_scripts(tmp_path, patch, "op.execute('DELETE FROM encounterrow'); raise ZeroDivisionError")
        with pytest.raises(ZeroDivisionError):
            open_store(folder)
    again = open_store(folder)
    assert len(again.runs()) == 1
    again.close()


def test_drafts_of_backups_are_removed(folder: Path) -> None:
    store = open_store(folder)
    store.back_up()
    store.close()
    (folder / "backups" / "20260101T000000000000Z-daily.part").write_bytes(b"half")
    (folder / "records.db.restore.part").write_bytes(b"half")
    again = open_store(folder)
    assert not list(folder.rglob("*.part"))
    again.close()
    assert backups.listed(folder)


def test_what_has_left_a_deleted_run_since_the_backup_is_restored_without_it(folder: Path) -> None:
    store = open_store(folder)
    first, second = store.start_run(who={"name": "Kim"}), store.start_run(who={"name": "Lee"})
    kim, lee = store.run(first).patient.id, store.run(second).patient.id
    third = store.start_run(kim)
    film = receive(store, b"moved")
    store.assign(film, first)
    backup = store.back_up()
    store.assign(film, second)
    store.change(RecordType.ENCOUNTER, third, {"patient": lee})
    store.delete_run(first, undo_seconds=0)
    store.settle()
    store.close()
    again = restored(folder, backup)
    assert {row.id for row in again.runs()} == {second, third}
    assert again.run(third).patient.id == kim  # as the backup has it; the hospital knows better
    assert [(each.id, each.run) for each in again.waiting_films()] == [(film, None)]
    assert again.original(film) == b"moved"
    check_chains(again)
    again.close()


def test_a_deletion_undone_since_the_backup_is_not_carried_out_after_all(folder: Path) -> None:
    store = open_store(folder)
    run = store.start_run()
    film = receive(store, b"kept")
    store.assign(film, run)
    deletion = store.delete_run(run, undo_seconds=600)
    backup = store.back_up()
    store.undo(deletion.id)
    store.close()
    again = restored(folder, backup)
    again.settle(datetime.now(UTC) + timedelta(seconds=601))
    assert again.run(run).films[0].id == film
    assert again.original(film) == b"kept"
    assert again.deletions() == []
    again.close()
