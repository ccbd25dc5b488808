"""Uploads that lie about their size, their place or their owner."""

from concurrent.futures import ThreadPoolExecutor
from secrets import token_bytes
from uuid import UUID

import httpx
import pytest

from shared.hospital import BatchAnswer, OutcomeStatus
from shared.identity import new_id
from sync_server.hospital import Hospital
from tests.contract.sync_server.abuse.attack import MB
from tests.contract.sync_server.ambulance import BODY, TUS, Ambulance, b64, digest
from tests.hospital.process import ServerProcess


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
