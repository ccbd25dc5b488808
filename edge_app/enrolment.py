"""A hospital takes this device on: by a one-time code that also says how to recognise the hospital.

See :mod:`shared.enrolment` for what is said. First the hospital is recognised: until its certificates are known to be
those of the code, nothing but their question is sent. Then, once somebody has seen whose hospital it is, the code
itself goes to whom they vouch for.
"""

from __future__ import annotations

import hmac
import logging
import ssl
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from edge_app.dicom_setup import addresses
from edge_app.hospital_access import HospitalAccess
from edge_app.store.keys import KeyRing
from edge_app.store.store import Store
from edge_app.sync import Credentials, DeviceKey, EnrolledCredentials, Hospital, StaticCredentials
from edge_app.sync.parse import problem
from edge_app.sync.problems import Foreign
from edge_app.sync.settings import split_url
from edge_app.sync.wire import tls_error
from shared.enrolment import Enrolled, EnrolmentCode, EnrolmentRequest, Trust, fingerprint, grouped
from shared.errors import FirstRayError
from shared.version import VERSION

Answered = TypeVar("Answered", bound=BaseModel)

KEY: Final = "device_key"
"""Setting of the store: the device's private key, as PEM; made once, so that a repeated request is the same one."""
TRIES: Final = 4
PAUSE_S: Final = 1.5
TIMEOUT_S: Final = 20.0
CONNECT_S: Final = 8.0
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
    "enrolment_no_network": (
        "This device has no network.",
        "Connect it, then try again. The code is good for 15 minutes.",
    ),
    "enrolment_no_answer": (
        "Nothing answers at this address.",
        "Compare it with the hospital's admin page. It may answer only in the hospital's own network.",
    ),
    "enrolment_failed": (
        "The hospital's server is busy or has a fault.",
        "Try again in a minute; tell the hospital's IT if this stays.",
    ),
    "enrolment_unreadable": (
        "What answers at this address is no hospital that this version of FirstRay understands.",
        "Compare the address with the hospital's admin page; ask the hospital's IT.",
    ),
}
"""Code -> (message, action); the first three are the hospital's."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recognised:
    """A hospital that proved to be the one of the code, before it was told anything.

    Attributes:
        hospital: with its address, certificates and name.
        code: that it takes this device on by.
    """

    hospital: Hospital
    code: EnrolmentCode

    @property
    def fingerprint(self) -> str:
        """Of its certificates, in groups of four; "" where it shows none (plain ``http`` on this machine)."""
        return grouped(fingerprint(self.hospital.ca_pem)) if self.hospital.ca_pem else ""


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
    """:func:`recognise` and :func:`register` in one."""
    return register(store, recognise(url, code))


def address(typed: str) -> str:
    """The hospital's address from what somebody typed: without blanks, with ``https://`` unless it says otherwise.

    Raises:
        FirstRayError: ``hospital_url_invalid``.
    """
    scheme, mark, rest = "".join(typed.split()).partition("://")
    url = f"{scheme.lower()}://{rest.rstrip('/')}" if mark else f"https://{scheme.rstrip('/')}"
    split_url(url)
    return url


def recognise(url: str, code: str) -> Recognised:
    """The hospital at ``url``, which proves that it is the one of the code and says its name. Takes long.

    Raises:
        FirstRayError: ``enrolment_code_mistyped``, ``enrolment_code_incomplete``, ``hospital_url_invalid``,
            ``hospital_not_https``, ``not_the_hospital_of_the_code``, ``network_portal``, ``enrolment_no_network``,
            ``enrolment_no_answer``, ``enrolment_failed``, ``enrolment_unreadable``, ``enrolment_refused`` and what a
            certificate may say.
    """
    wanted = EnrolmentCode.parse(code)
    hospital = _recognised(address(url), wanted)
    said = _answer(Trust, "GET", hospital.url, hospital.tls())
    return Recognised(replace(hospital, name=said.hospital), wanted)


def register(store: Store, recognised: Recognised) -> HospitalAccess:
    """Have a recognised hospital take this device on; gives what to send by from then on. Takes long.

    The same once more, as after a lost answer, comes to the same.

    Raises:
        FirstRayError: ``code_wrong``, ``too_many_attempts``, ``device_known``, and as :func:`recognise`.
    """
    if not store.setting(KEY):
        store.set_setting(KEY, DeviceKey.new().to_pem())
    key = DeviceKey.from_pem(store.setting(KEY))
    hospital, code = recognised.hospital, recognised.code
    request = EnrolmentRequest(code=code.code, device=store.device, jwk=key.public, app=VERSION)
    answer = _answer(Enrolled, "POST", hospital.url, hospital.tls(), request.model_dump(mode="json"))
    if not urlsplit(answer.token_url).path.startswith("/"):
        raise _trouble("enrolment_unreadable")
    log.info("enrolled")
    return HospitalAccess(
        replace(hospital, receipt_keys=answer.receipt_keys, name=answer.hospital),
        token_url=answer.token_url,
        device_name=answer.device_name,
        enrolled_at=datetime.now(UTC),
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
            raise _trouble("enrolment_no_answer") from None
        return _understood(kind, status, body)
    raise _trouble("enrolment_no_answer" if addresses() else "enrolment_no_network")


def _exchange(method: str, url: str, tls: ssl.SSLContext | None, content: Any) -> tuple[int, bytes]:
    options: dict[str, Any] = {
        "trust_env": False,
        "follow_redirects": False,
        "timeout": httpx.Timeout(TIMEOUT_S, connect=CONNECT_S),
    }
    with (
        httpx.Client(verify=tls if tls is not None else True, **options) as client,
        client.stream(method, f"{url}/v1/enrolment", json=content, headers={"Accept-Encoding": "identity"}) as response,
    ):
        body = bytearray()
        for piece in response.iter_raw():
            body += piece
            if len(body) > MOST_ANSWER:
                raise _trouble("enrolment_unreadable")
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
        raise _trouble(refusal.code)
    if status >= 500:
        raise _trouble("enrolment_failed")
    raise FirstRayError(
        "enrolment_refused",
        f"The hospital does not take this device on (HTTP {status}, {refusal.code}).",
        "Check the address; ask the hospital's IT.",
    )


def _trouble(code: str) -> FirstRayError:
    return FirstRayError(code, *TEXTS[code])
