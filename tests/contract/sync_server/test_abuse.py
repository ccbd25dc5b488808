"""Clients that mean harm, against a real server process: its memory stays bounded, and it answers everybody else.

Each attack is followed by a look at how much memory the server took meanwhile and whether it still answers at once.
"""

import contextlib
import io
import json
import socket
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes
from uuid import UUID

import httpx
import pytest

from shared.errors import ReleaseError
from shared.hospital import BatchAnswer, OutcomeStatus
from shared.identity import new_id
from shared.records import RecordType
from shared.release_archive import unpack_release
from sync_server.api.limits import MOST_BODY, MOST_JSON
from sync_server.domain import accounts
from sync_server.domain.accounts import Role
from sync_server.hospital import Hospital
from sync_server.serve import MOST_HEAD
from tests.contract.sync_server.ambulance import BODY, TUS, Ambulance, b64, digest
from tests.hospital.process import ServerProcess

MB = 1 << 20
PASSWORD = "fifteen quiet ambulances"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture(scope="module")
def hospital(server: ServerProcess) -> Iterator[Hospital]:
    made = server.open()
    with made.database.writing() as session:
        for login, role in (("doctor", Role.ER), ("admin", Role.ADMIN)):
            accounts.create_user(session, login, "Someone", role, PASSWORD, "test", "en")
    yield made
    made.close()


@pytest.fixture(scope="module")
def ambulance(hospital: Hospital, server: ServerProcess) -> Iterator[Ambulance]:
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        yield Ambulance(hospital, client)


@contextlib.contextmanager
def bounded(server: ServerProcess, most: int = 100 * MB, seconds: float = 5) -> Iterator[None]:
    """The server takes at most so many bytes more than before, and answers others within so many seconds meanwhile."""
    before = peak = server.rss
    slowest, over = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak, slowest
        while not over.is_set():
            peak = max(peak, server.rss)
            begun = time.monotonic()
            assert server.answers(30)
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.02)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield
        finally:
            over.set()
        watching.result()
    assert (peak - before) < most, f"{(peak - before) // MB} MB more"
    assert slowest < seconds, f"{slowest:.1f} s"


def connected(server: ServerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def pour(raw: socket.socket, piece: bytes, most: int) -> int:
    """Send again and again until ``most`` bytes are through or the server hangs up; gives how many."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < most:
            raw.sendall(piece)
            sent += len(piece)
    return sent


def answer_of(raw: socket.socket) -> tuple[int, dict[str, object]]:
    """Status and problem document that came, before the server hung up or after."""
    received = b""
    with contextlib.suppress(OSError):
        while piece := raw.recv(65536):
            received += piece
            if b"\r\n\r\n" in received and received.endswith(b"}"):
                break
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, received[:500]
    return int(head.split()[1]), json.loads(body)


# --- heads and connections -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "piece", [b"X-Pad: " + b"a" * 60_000 + b"\r\n", b"a" * 65_536, b"A: b\r\n" * 10_000], ids=["many", "one", "short"]
)
def test_a_flood_of_headers_is_cut(server: ServerProcess, piece: bytes) -> None:
    with bounded(server, 30 * MB), connected(server) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
        assert pour(raw, piece, 100 * MB) < 20 * MB


def test_a_head_that_is_too_long_is_answered(server: ServerProcess) -> None:
    with connected(server) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (MOST_HEAD + 100))
        status, problem = answer_of(raw)
    assert (status, problem["code"]) == (431, "headers_too_large")


def test_an_address_without_end_is_cut(server: ServerProcess) -> None:
    with bounded(server, 30 * MB), connected(server) as raw:
        raw.sendall(b"GET /")
        assert pour(raw, b"a" * 65_536, 100 * MB) < 20 * MB


def test_a_thousand_half_open_connections_shut_nobody_out(server: ServerProcess) -> None:
    """Some say nothing, some begin a head, some a body that they never finish."""
    beginnings = (b"", b"POST /v1/ev", b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nlogin=")
    with contextlib.ExitStack() as stack, bounded(server, 100 * MB):
        for number in range(1000):
            raw = stack.enter_context(connected(server))
            raw.sendall(beginnings[number % 3])
        for _ in range(5):
            assert server.answers(5)


# --- bodies ----------------------------------------------------------------------------------------------------------


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
    bomb = b"".join([squeeze.compress(b" " * MB) for _ in range(512)] + [squeeze.flush()])
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


# --- uploads ---------------------------------------------------------------------------------------------------------


def film(ambulance: Ambulance, data: bytes) -> UUID:
    """A radiograph's record at the server."""
    id = ambulance.device.film(None, digest(data), size=len(data))
    answer = ambulance.ask("POST", "/v1/events", content=ambulance.device.unsent())
    outcomes = BatchAnswer.model_validate_json(answer.content).outcomes
    assert outcomes[-1].status is OutcomeStatus.STORED
    return id


def test_more_than_announced_is_refused_and_nothing_of_it_kept(ambulance: Ambulance) -> None:
    data = token_bytes(100_000)
    place = ambulance.create(data, film(ambulance, data)).headers["Location"]
    told = ambulance.patch(place, 0, data + b"x")
    assert (told.status_code, told.json()["code"]) == (413, "upload_too_long")
    untold = ambulance.ask("PATCH", place, {**BODY, "Upload-Offset": "0"}, content=iter([data, b"more" * 100_000]))
    assert untold.status_code == 413
    assert ambulance.offset(place) <= len(data)


def test_uploads_of_one_image_at_once_make_one_whole_image(server: ServerProcess, ambulance: Ambulance) -> None:
    data = token_bytes(3 * MB)
    place = ambulance.create(data, film(ambulance, data)).headers["Location"]

    def send(_: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            mine = Borrowed(ambulance, client)
            for _ in range(200):
                looked = mine.ask("HEAD", place, TUS)
                if looked.status_code != 200 or (offset := int(looked.headers["Upload-Offset"])) == len(data):
                    return
                headers = {**BODY, "Upload-Offset": str(offset)}
                mine.ask("PATCH", place, headers, content=data[offset : offset + 200_000])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(send, range(6)))
    receipt = ambulance.receipt(data)
    assert receipt.status_code == 200
    assert receipt.json()["holds"]["size"] == len(data)


class Borrowed:
    """A device's token on a connection of its own."""

    def __init__(self, ambulance: Ambulance, client: httpx.Client) -> None:
        self._token, self._client = ambulance.token, client

    def ask(self, method: str, path: str, headers: dict[str, str], content: bytes = b"") -> httpx.Response:
        shown = {**headers, "Authorization": f"Bearer {self._token}"}
        return self._client.request(method, path, headers=shown, content=content)


def test_another_devices_upload_and_image_do_not_exist(
    server: ServerProcess, hospital: Hospital, ambulance: Ambulance
) -> None:
    data = token_bytes(1000)
    mine = film(ambulance, data)
    place = ambulance.create(data, mine).headers["Location"]
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        other = Ambulance(hospital, client, "Ambulance 8")
        assert other.ask("HEAD", place, TUS).status_code == 404
        assert other.patch(place, 0, data).status_code == 404
        assert other.ask("DELETE", place, TUS).status_code == 404
        created = other.create(data, mine)
        assert (created.status_code, created.json()["code"]) == (403, "not_allowed")
        assert ambulance.patch(place, 0, data).status_code == 204
        assert other.receipt(data).status_code == 404


@pytest.mark.parametrize(
    "metadata",
    [
        "radiograph ..%2F..%2Fetc",
        f"radiograph {b64(b'../../../etc/passwd')},kind {b64(b'original')},sha256 {b64(b'../../secret.key')}",
        f"radiograph {b64(str(new_id()).encode())},kind {b64(b'../x')},sha256 {b64(b'a' * 64)}",
        f"radiograph {b64(bytes([255, 254]))}",
        "radiograph",
        "",
        "," * 5000,
        f"kind {b64(b'original')}," * 700,
    ],
)
def test_metadata_that_leads_elsewhere_is_malformed(ambulance: Ambulance, metadata: str) -> None:
    headers = {**TUS, "Upload-Length": "10", "Upload-Metadata": metadata}
    answer = ambulance.ask("POST", "/v1/images", headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize("length", ["-1", "0", "1e9", "99999999999999999999", "200000001", "٣", ""])
def test_a_senseless_length_is_refused(ambulance: Ambulance, length: str) -> None:
    data = b"x"
    metadata = ",".join(
        f"{name} {b64(value.encode())}"
        for name, value in (("radiograph", str(film(ambulance, data))), ("kind", "original"), ("sha256", digest(data)))
    )
    headers = {**TUS, "Upload-Length": length.encode(), "Upload-Metadata": metadata}
    answer = ambulance.ask("POST", "/v1/images", headers)  # type: ignore[arg-type]
    assert answer.status_code in (400, 413)


# --- paths -----------------------------------------------------------------------------------------------------------

TRAVERSALS = (
    "..%2f..%2fsecret.key",
    "%2e%2e/%2e%2e/secret.key",
    "..\\..\\secret.key",
    "%00",
    "....//secret.key",
    "%ff",
)


@pytest.mark.parametrize("part", TRAVERSALS)
@pytest.mark.parametrize(
    "path",
    ["/static/{}", "/static/fonts/{}.ttf", "/v1/releases/{}", "/v1/images/{}", "/v1/images/{}/receipt", "/runs/{}",
     "/runs/{}/films/{}/image", "/admin/devices/{}", "/{}"],
)  # fmt: skip
def test_no_path_leads_out(
    server: ServerProcess, hospital: Hospital, ambulance: Ambulance, path: str, part: str
) -> None:
    token = admin_token(hospital)
    request = path.replace("{}", part)
    with connected(server) as raw:  # no client that would tidy the path up first
        raw.sendall(
            f"GET {request} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ambulance.token}\r\n"
            f"Cookie: firstray={token}\r\nTus-Resumable: 1.0.0\r\nConnection: close\r\n\r\n".encode()
        )
        received = b"".join(iter(lambda: raw.recv(65536), b""))
    status = int(received.split()[1])
    body = received.partition(b"\r\n\r\n")[2]
    assert status in (200, 400, 401, 404, 405, 422), status
    assert status != 200 or (path == "/static/fonts/{}.ttf" and body[:4] in (b"\0\1\0\0", b"OTTO", b"true"))
    for secret in ("secret.key", "receipt.key"):
        assert (hospital.settings.data / secret).read_bytes()[:16] not in body


def admin_token(hospital: Hospital) -> str:
    with hospital.database.writing() as session:
        return accounts.open_session(session, accounts.find(session, "admin").id, datetime.now(UTC), "127.0.0.1")


# --- releases --------------------------------------------------------------------------------------------------------


def archive(*entries: tuple[zipfile.ZipInfo | str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", how) as file:
        for name, data in entries:
            file.writestr(name, data)
    return made.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x05\x06",
        archive(("../evil", b"x")),
        archive(("/etc/evil", b"x")),
        archive(("..", b"x")),
        archive((".", b"x")),
        archive(("a/b", b"x")),
        archive(("C:evil", b"x")),
        archive(("..\\evil", b"x")),
        archive((zipfile.ZipInfo(""), b"x")),
        archive(("n" * 300, b"x")),
        archive(("é" * 150, b"x")),
        archive((link("manifest.json"), b"/etc/passwd")),
        archive(("folder/", b"")),
        archive(("manifest.json", b"x"), how=zipfile.ZIP_LZMA),
        archive(("manifest.json", b"x"), how=zipfile.ZIP_BZIP2),
        archive(*((f"file{number}", b"x") for number in range(65))),
        archive(("manifest.json", b"[" * 100_000), ("manifest.sig", b"x")),
        archive(("manifest.json", b"\xff"), ("manifest.sig", b"")),
        archive(("manifest.json", b"x"))[:-30],
    ],
)
def test_a_release_that_is_none_is_refused_and_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "release.zip"
    file.write_bytes(data)
    with pytest.raises(ReleaseError):
        unpack_release(file, tmp_path / "into")
    left = sorted(path.name for path in tmp_path.rglob("*"))
    assert left == ["into", "release.zip"], left


def test_an_admin_hears_why_a_file_is_no_release(server: ServerProcess, hospital: Hospital) -> None:
    token = admin_token(hospital)
    person = accounts.person(hospital.database, token)
    assert person is not None
    cookies = {"firstray": token}
    with httpx.Client(base_url=server.url, trust_env=False, cookies=cookies, timeout=30) as browser:
        for data in (archive(("../evil", b"x")), b"no zip"):
            files = {"file": ("release.zip", data)}
            answer = browser.post("/admin/releases", data={"csrf": person.csrf}, files=files)
            assert answer.status_code == 422, answer.text
            assert "not a model release" in answer.text
        assert browser.post("/admin/releases", files={"file": ("release.zip", b"x")}).status_code == 403
        assert browser.post("/admin/releases", data={"csrf": person.csrf}).status_code == 422


# --- the log ---------------------------------------------------------------------------------------------------------


def test_the_servers_log_names_no_patient(server: ServerProcess, hospital: Hospital, ambulance: Ambulance) -> None:
    """At its most talkative, with every kind of trouble above in it, and every page looked at."""
    name, complaint, number = "Zebulon Quackenbush", "Xylophone swallowed", "ID-77123456"
    device = ambulance.device
    patient, encounter = device.run(name, chief_complaint=complaint, notes=complaint)
    device.put(RecordType.PATIENT, {"identifiers": [{"system": "hospital", "value": number}]}, patient)
    assert ambulance.ask("POST", "/v1/events", content=device.unsent()).status_code == 200
    ambulance.ask("POST", "/v1/events", content=device.unsent().replace(b"female", b"fem\\u0000ale"))
    ambulance.ask("POST", "/v1/events", content=b'{"events": [{"name": "Zebulon Quackenbush"')
    ambulance.ask("GET", "/v1/inbox", params={"after": name})
    token = admin_token(hospital)
    person = accounts.person(hospital.database, token)
    assert person is not None
    cookies = {"firstray": token}
    with httpx.Client(base_url=server.url, trust_env=False, cookies=cookies, timeout=30) as browser:
        pages: list[Callable[[], httpx.Response]] = [
            lambda: browser.get("/board"),
            lambda: browser.get(f"/runs/{encounter}"),
            lambda: browser.get("/admin/histories", params={"q": name}),
            lambda: browser.get("/admin/histories", params={"q": number, "since": name}),
            lambda: browser.post(f"/runs/{encounter}/message", data={"text": complaint, "csrf": person.csrf}),
            lambda: browser.post(
                "/admin/histories/export", data={"format": "csv", "scope": "all", "csrf": person.csrf}
            ),
            lambda: browser.post("/login", data={"login": name, "password": number}),
        ]
        for page in pages:
            assert page().status_code < 500
    log = server.log.read_text()
    assert '"answered"' in log
    for word in (*name.split(), complaint, "Xylophone", number, PASSWORD, token, ambulance.token):
        assert word not in log, word
    for line in log.splitlines():
        assert json.loads(line)["level"] != "ERROR", line
