"""Bodies that are too large, too deep or compressed bombs, and floods of log-ins: memory stays bounded."""

import contextlib
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from sync_server.api.limits import MOST_BODY, MOST_JSON
from sync_server.hospital import Hospital
from tests.contract.sync_server.abuse.attack import MB, bounded, connected, pour
from tests.contract.sync_server.ambulance import Ambulance, b64
from tests.hospital.process import ServerProcess


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/admin/releases", "multipart/form-data; boundary=B"),
        ("/admin/releases", "application/x-www-form-urlencoded"),
        ("/admin/releases/assign", "multipart/form-data; boundary=B"),
        ("/admin/releases/assign", "application/x-www-form-urlencoded"),
        ("/login", "multipart/form-data; boundary=B"),
        ("/login", "application/x-www-form-urlencoded"),
        ("/v1/token", "application/x-www-form-urlencoded"),
        ("/v1/enrolment", "application/json"),
        ("/v1/events", "application/json"),
        ("/v1/images", "application/offset+octet-stream"),
    ],
)
def test_a_strangers_body_is_neither_kept_nor_read_to_its_end(server: ServerProcess, path: str, kind: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    piece = b"10000\r\n" + b"a" * 65_536 + b"\r\n"
    spooled_before = deleted_files(server)
    with bounded(server, 60 * MB), connected(server) as raw:
        raw.sendall(head.encode() + (b"%x\r\n%s\r\n" % (len(part), part) if "multipart" in kind else b""))
        pour(raw, piece, 64 * MB)
        assert deleted_files(server) - spooled_before < 8 * MB, "it is on the disk"


def deleted_files(server: ServerProcess) -> int:
    """Bytes of files the server has open that have no name: where forms are spooled."""
    total = 0
    for link in Path(f"/proc/{server.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if "(deleted)" in str(link.readlink()):
                total += link.stat().st_size
    return total


def test_many_bodies_at_once_are_bounded(server: ServerProcess, ambulance: Ambulance) -> None:
    """Of a device that turned hostile: batches of the full size, as costly to read as may be, sixteen at a time."""
    cell = b'{"a":[{}]},'
    body = b'{"events":[' + cell * ((MOST_JSON - 100) // len(cell)) + b"{}]}"
    with bounded(server, 400 * MB, 20), ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ambulance.ask("POST", "/v1/events", content=body), range(16)))
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(413, "too_large")}


def test_bombs_of_gzip_are_bounded(server: ServerProcess, ambulance: Ambulance) -> None:
    squeeze = zlib.compressobj(9, wbits=31)
    bomb = b"".join([squeeze.compress(b" " * MB) for _ in range(256)] + [squeeze.flush()])
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    with bounded(server, 150 * MB), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ambulance.ask("POST", "/v1/events", headers, content=bomb), range(8)))
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(413, "too_large")}


def test_a_flood_of_log_ins_takes_neither_memory_nor_everybodys_time(server: ServerProcess, hospital: Hospital) -> None:
    """Each check of a password takes 64 MiB: a few at a time."""

    def guess(number: int) -> int:
        form = {"login": f"nobody{number}", "password": "x" * 20}
        return httpx.post(f"{server.url}/login", data=form, timeout=60, trust_env=False).status_code

    with bounded(server, 250 * MB), ThreadPoolExecutor(30) as pool:
        statuses = list(pool.map(guess, range(30)))
    assert set(statuses) <= {401, 429}


def test_a_large_form_is_refused(server: ServerProcess) -> None:
    answer = httpx.post(f"{server.url}/login", data={"login": "a" * (MOST_BODY + 1)}, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_deep_json_is_a_problem_everywhere(server: ServerProcess, ambulance: Ambulance) -> None:
    deep = b"[" * 3000
    url = b64(deep).replace("+", "-").replace("/", "_").rstrip("=")
    head = b64(b'{"alg":"HS256"}').rstrip("=")
    for token in (f"{head}.{url}.xx", f"{url}.{head}.xx"):
        asked = ambulance.ask_token(token)
        assert (asked.status_code, asked.json()["code"]) == (401, "assertion_invalid")
        shown = httpx.get(f"{server.url}/v1/inbox", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        assert (shown.status_code, shown.json()["code"]) == (401, "token_invalid")
    enrolled = ambulance.client.post("/v1/enrolment", content=deep * 100, headers={"Content-Type": "application/json"})
    assert enrolled.status_code in (400, 422)
