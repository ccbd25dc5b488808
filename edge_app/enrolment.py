"""A hospital takes this device on: by a one-time code that also says how to recognise the hospital.

See :mod:`shared.enrolment` for what is said. Until the hospital's certificates are known to be those of the code,
nothing but their question is sent; the code itself goes only to whom they vouch for.
"""

from __future__ import annotations

import hmac
import logging
import ssl
import time
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from edge_app.hospital_access import HospitalAccess
from edge_app.store.keys import KeyRing
from edge_app.store.store import Store
from edge_app.sync import Credentials, DeviceKey, EnrolledCredentials, Hospital, StaticCredentials
from edge_app.sync.parse import problem
from edge_app.sync.problems import Failed, Foreign, Lost
from edge_app.sync.wire import tls_error
from shared.enrolment import Enrolled, EnrolmentCode, EnrolmentRequest, Trust, fingerprint
from shared.errors import FirstRayError
from shared.version import VERSION

Answered = TypeVar("Answered", bound=BaseModel)

KEY: Final = "device_key"
"""Setting of the store: the device's private key, as PEM; made once, so that a repeated request is the same one."""
TRIES: Final = 4
PAUSE_S: Final = 1.5
TIMEOUT_S: Final = 20.0
MOST_ANSWER: Final = 128 * 1024

TEXTS: Final[dict[str, tuple[str, str]]] = {
    "code_wrong": (
        "The hospital does not accept the code: it is wrong, was used already, or is older than 15 minutes.",
        "Type it again, or ask the hospital's IT for a new one.",
    ),
    "too_many_attempts": ("There were too many wrong codes lately.", "Wait 15 minutes, then try again."),
    "device_known": (
        "The hospital knows this device already, by another key.",
        "Ask the hospital's IT to revoke it first, then enrol it with a new code.",
    ),
}
"""What the hospital refuses with -> (message, action)."""

log = logging.getLogger(__name__)


def enrol_folder(folder: Path, pin: str, url: str, code: str) -> HospitalAccess:
    """Enrol the device whose store lies in ``folder``, made with this PIN if there is none. Takes long.

    Raises:
        FirstRayError: as :meth:`KeyRing.unlock`, :meth:`KeyRing.create`, ``Store.open`` and :func:`enrol`.
    """
    ring = KeyRing(folder)
    key = ring.unlock(pin) if ring.exists else ring.create(pin)
    try:
        store = Store.open(folder, key, check=False)
    finally:
        key.close()
    try:
        access = enrol(store, url, code)
        store.set_setting("hospital", access.to_json())
    finally:
        store.close()
    return access


def enrol(store: Store, url: str, code: str) -> HospitalAccess:
    """Register at the hospital at ``url`` by a code; gives what to send by from then on. Takes long.

    Raises:
        FirstRayError: ``enrolment_code_mistyped``, ``enrolment_code_incomplete``, ``hospital_url_invalid``,
            ``hospital_not_https``, ``not_the_hospital_of_the_code``, ``code_wrong``, ``too_many_attempts``,
            ``device_known``, ``enrolment_refused``, ``hospital_unreachable`` and what a certificate may say.
    """
    wanted = EnrolmentCode.parse(code)
    url = url.strip().rstrip("/")
    if not store.setting(KEY):
        store.set_setting(KEY, DeviceKey.new().to_pem())
    key = DeviceKey.from_pem(store.setting(KEY))
    hospital = _recognised(url, wanted)
    request = EnrolmentRequest(code=wanted.code, device=store.device, jwk=key.public, app=VERSION)
    answer = _answer(Enrolled, "POST", hospital.url, hospital.tls(), request.model_dump(mode="json"))
    if not urlsplit(answer.token_url).path.startswith("/"):
        raise Failed("hospital_answer_unreadable")
    log.info("enrolled")
    return HospitalAccess(
        Hospital(url, hospital.ca_pem, answer.receipt_keys, answer.hospital), token_url=answer.token_url
    )


def credentials(store: Store, access: HospitalAccess) -> Credentials:
    """How this device shows who it is."""
    pem = store.setting(KEY)
    if access.token_url is None:
        return StaticCredentials(access.token)
    if pem is None:
        log.error("the device's key is lost: it has to be enrolled again")
        return StaticCredentials()
    return EnrolledCredentials(DeviceKey.from_pem(pem), store.device, access.token_url)


def _recognised(url: str, code: EnrolmentCode) -> Hospital:
    """The hospital, with the certificates of the code; they are asked for on a connection that proves nothing."""
    if not url.startswith("https://"):
        return Hospital(url)
    if not code.fingerprint:
        raise FirstRayError(
            "enrolment_code_incomplete",
            "The code does not say how to recognise the hospital.",
            "Type all groups that the hospital's admin page shows.",
        )
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    ca_pem = _answer(Trust, "GET", url, unverified).ca_pem or ""
    try:
        shown = fingerprint(ca_pem)
    except ValueError:
        shown = ""
    if not hmac.compare_digest(shown, code.fingerprint):
        raise FirstRayError(
            "not_the_hospital_of_the_code",
            "What answers at this address is not the hospital of the code, or the code's last groups are mistyped.",
            "Nothing was sent. Compare address and code with the hospital's admin page; try another network.",
        )
    return Hospital(url, ca_pem)


def _answer(kind: type[Answered], method: str, url: str, tls: ssl.SSLContext | None, content: Any = None) -> Answered:
    """What ``/v1/enrolment`` answers; tries again where the connection breaks off."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S)
        try:
            status, body = _exchange(method, url, tls, content)
        except httpx.TransportError as error:
            if (foreign := tls_error(error)) is not None:
                raise foreign from None
            continue
        except httpx.InvalidURL:
            raise FirstRayError("hospital_url_invalid", "This is no address of a hospital.", "Type it again.") from None
        return _understood(kind, status, body)
    raise Lost


def _exchange(method: str, url: str, tls: ssl.SSLContext | None, content: Any) -> tuple[int, bytes]:
    options: dict[str, Any] = {"trust_env": False, "follow_redirects": False, "timeout": TIMEOUT_S}
    with (
        httpx.Client(verify=tls if tls is not None else True, **options) as client,
        client.stream(method, f"{url}/v1/enrolment", json=content, headers={"Accept-Encoding": "identity"}) as response,
    ):
        body = bytearray()
        for piece in response.iter_raw():
            body += piece
            if len(body) > MOST_ANSWER:
                raise Failed("hospital_answer_unreadable")
        return response.status_code, bytes(body)


def _understood(kind: type[Answered], status: int, body: bytes) -> Answered:
    if status < 300:
        try:
            return kind.model_validate_json(body)
        except ValidationError:
            raise Foreign("network_portal") from None
    if status < 400:
        raise Foreign("network_portal")
    refusal = problem(status, body)
    if refusal.code in TEXTS:
        raise FirstRayError(refusal.code, *TEXTS[refusal.code])
    if status >= 500:
        raise Failed
    raise FirstRayError(
        "enrolment_refused",
        f"The hospital does not take this device on (HTTP {status}, {refusal.code}).",
        "Check the address; ask the hospital's IT.",
    )
