"""The server's benchmark says what was measured, and its ambulances write what a device writes."""

import base64
import gzip
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.fresh import Problem
from benchmarks.server import __main__ as bench
from benchmarks.server.ambulance import Ambulance, Film
from benchmarks.server.crowd import PIECE, Sender, compared, pictures
from benchmarks.server.link import with_findings
from benchmarks.server.place import Place, wait_until
from benchmarks.server.tables import LIMITS, figures_of, judged, keys_of, markdown
from shared.events import Position, first_break
from shared.hospital import EventBatch
from shared.records import RecordType
from sync_server.db.tables import DeviceRow, ImageRow
from sync_server.domain import intake
from sync_server.domain.batches import parse

FOUND = {
    "intake sqlite": {
        "events_per_s": 812.4,
        "rate": 500.0,
        "batch_p95_ms": 61.0,
        "batch_ms": [40.0, 61.0],
        "saturated_ms": [300.0, 500.0],
        "server_processor_ms_a_batch": 31.5,
    },
    "crowd": {
        "ambulances": 200,
        "complete": 200,
        "lost": 0,
        "duplicate": 1,
        "memory_mb": 390.0,
        "memory_at_rest_mb": 150.0,
        "whole_s": 31.0,
        "megabytes_per_s": 46.8,
        "until_p95_s": {"events": 3.0},
        "asked_again": {"503": 2},
    },
    "link": {
        "board_s": [3.1, 4.4],
        "preview_s": [12.0, 15.0],
        "bits_per_second": 50_000,
        "round_trip_s": 0.6,
        "breaks": 0.05,
    },
    "board": {
        "here": {"median_ms": 80, "p95_ms": 120, "slowest_ms": 130},
        "elsewhere": {"median_ms": 150, "p95_ms": 210, "slowest_ms": 240},
    },
    "search sqlite": {"histories": 100_000, "questions": {"all": [1.0, 2.0], "a name": [10.0, 30.0]}},
    "reinference": {"studies": 150, "readers": 2, "studies_per_second": 15.4, "memory_mb": 900},
}


def test_every_limit_belongs_to_a_part() -> None:
    parts = bench.parts(list(bench.KINDS), quick=True, new_database=None)
    keys = [key for part in parts for key in keys_of(part)]
    assert sorted(keys) == sorted(limit.key for limit in LIMITS)


def test_figures_carry_the_keys_of_their_limits() -> None:
    for part, found in FOUND.items():
        assert sorted(figures_of(part, found)) == sorted(keys_of(part))


def test_the_worst_case_is_judged() -> None:
    assert figures_of("link", FOUND["link"]) == {"link_board": 4.4, "link_preview": 15.0}
    assert figures_of("board", FOUND["board"]) == {"board": 210}
    assert figures_of("search sqlite", FOUND["search sqlite"])["search_sqlite"] == pytest.approx(27.0)


def test_the_report_says_what_failed_and_why() -> None:
    figures = {key: value for part, found in FOUND.items() for key, value in figures_of(part, found).items()}
    problems = {"events_postgresql": "not installed: PostgreSQL", "search_postgresql": "failed: exit 1"}
    verdicts = judged(figures, problems)
    by_key = {one.limit.key: one.verdict for one in verdicts}
    assert by_key["crowd_duplicate"] == "fail"
    assert by_key["crowd_lost"] == "pass"
    assert by_key["events_postgresql"] == "not measured"
    assert by_key["search_postgresql"] == "fail"
    assert "batch_postgresql" not in by_key  # not asked for
    machine = {"cpu": "a processor", "cores": 2, "memory_gb": 8.0}
    text = markdown({"machine": machine, "busy": 0.4, "parts": FOUND}, verdicts)
    for said in (
        "812 /s",
        "not installed: PostgreSQL",
        "Other programs took 40%",
        "2 x 503",
        "4.40 s and 15.0 s",
        "15.4",
    ):
        assert said in text


def test_a_part_that_breaks_leaves_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: Path) -> dict[str, object]:
        raise ZeroDivisionError

    def missing(_: Path) -> dict[str, object]:
        raise Problem("not installed: PostgreSQL")

    measured = bench.measure(
        tmp_path, {"board": broken, "search postgresql": missing, "search sqlite": lambda _: FOUND["search sqlite"]}
    )
    assert measured["problems"] == {
        "board": "failed: ZeroDivisionError",
        "search_postgresql": "not installed: PostgreSQL",
    }
    assert list(measured["figures"]) == ["search_sqlite"]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_an_ambulance_writes_one_chain_of_valid_records() -> None:
    ambulance = Ambulance(Film("ab" * 32, 7_200_000, "cd" * 32, 60_000))
    sent = [EventBatch.model_validate_json(gzip.decompress(ambulance.batch())) for _ in range(3)]
    events = [event for batch in sent for event in batch.events]
    assert len(events) == 150
    assert first_break(Position(chain=events[0].chain, number=0), events) is None
    films = [event.action for event in events if getattr(event.action, "type", None) is RecordType.RADIOGRAPH]
    assert (films[0].id, films[0].fields["sha256"]) == (ambulance.radiograph, "ab" * 32)
    assert len({film.fields["sha256"] for film in films}) == len(films) == 15


def test_pictures_differ_and_their_checksums_are_those_of_their_pieces() -> None:
    first, second = pictures(2, 2 * PIECE + 100)
    whole = b"".join(first.piece(start) for start in range(0, first.size, PIECE))
    assert len(whole) == first.size
    assert hashlib.sha256(whole).hexdigest() == first.sha256 != second.sha256
    assert len(first.checksums) == 3
    assert first.checksums[0] != second.checksums[0]
    assert first.checksums[1:] == second.checksums[1:]
    assert first.piece(10) == whole[10:PIECE]
    assert first.piece(PIECE + 5) == whole[PIECE + 5 : 2 * PIECE]
    assert second.piece(2 * PIECE) == whole[2 * PIECE :]
    given = [f"sha256 {base64.b64encode(hashlib.sha256(one.piece(0)).digest()).decode()}" for one in (first, second)]
    assert given == [first.checksums[0], second.checksums[0]]


def test_what_is_lost_or_doubled_is_counted(tmp_path: Path) -> None:
    place = Place.new(tmp_path)
    (original,), (preview,) = pictures(1, 5000), pictures(1, 900)
    ambulance = Ambulance(Film(original.sha256, original.size, preview.sha256, preview.size))
    sender = Sender(ambulance, original, preview, ambulance.batch())
    with place.opened() as hospital:
        with hospital.database.writing() as session:
            row = {"name": "A", "jwk": {"kid": "A"}, "enrolled_at": datetime.now(UTC), "enrolled_by": "test"}
            session.add(DeviceRow(id=ambulance.id, **row))
        assert compared(place, [sender]) == {"lost": 52, "duplicate": 0}
        intake.take(hospital, ambulance.id, parse(gzip.decompress(sender.events)))
        for kind, picture in sender.pictures:
            file = tmp_path / kind
            file.write_bytes(picture.piece(0))
            hospital.images.put(file, picture.sha256)
            row = ImageRow(sha256=picture.sha256, kind=kind, size=picture.size, stored_at=datetime.now(UTC))
            with hospital.database.writing() as session:
                session.add(row)
        assert compared(place, [sender]) == {"lost": 0, "duplicate": 0}
        held = Path(hospital.settings.images) / original.sha256[:2] / original.sha256
        held.write_bytes(b"damaged")
        (held.parent / ("ee" * 32)).write_bytes(b"nobody's")
        assert compared(place, [sender]) == {"lost": 1, "duplicate": 1}


def test_runs_with_findings_are_found_on_a_board() -> None:
    ids = [f"00000000-0000-7000-8000-00000000000{n}" for n in range(3)]
    entry = '<li id="run-{}" class="run"><p>{}</p></li>'
    board = "data: <ol>" + "".join(
        entry.format(id, '<p class="top-finding">' if n != 1 else "No image yet") for n, id in enumerate(ids)
    )
    assert with_findings(board) == [ids[0], ids[2]]
    assert with_findings("data: <p>nothing</p>") == []


def test_waiting_ends() -> None:
    with pytest.raises(Problem, match=r"the server's start took more than 0 s"):
        wait_until(lambda: False, "the server's start", 0.01)


def test_settings_reach_the_server_as_its_environment(tmp_path: Path) -> None:
    place = Place.new(tmp_path, "postgresql+psycopg://postgres@/x?host=/run", port=8123)
    assert place.environment["FIRSTRAY_SERVER_PORT"] == "8123"
    assert place.environment["FIRSTRAY_SERVER_DATABASE"].startswith("postgresql")
    assert place.url == "http://127.0.0.1:8123"
