"""Paths that would lead out of a folder, sent as they are."""

import pytest

from sync_server.hospital import Hospital
from tests.contract.sync_server.abuse.attack import admin_token, connected
from tests.contract.sync_server.ambulance import Ambulance
from tests.hospital.process import ServerProcess

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
