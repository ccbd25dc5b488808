"""Taking on a device: the code an admin makes, and what the device learns for it. See :mod:`shared.enrolment`."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import segno
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from sqlalchemy import delete, func
from sqlmodel import Session, col, select

from shared.enrolment import Enrolled, EnrolmentCode, EnrolmentRequest, Trust, fingerprint
from shared.errors import FirstRayError
from sync_server.db.engine import locked
from sync_server.db.tables import AttemptRow, DeviceRow, EnrolmentCodeRow
from sync_server.domain import audit, inbox, releases
from sync_server.domain.devices import token_url

if TYPE_CHECKING:
    from sync_server.hospital import Hospital
    from sync_server.settings import Settings

CODE_LIFETIME: Final = timedelta(minutes=15)
WINDOW: Final = timedelta(minutes=15)
MOST_WRONG: Final = 10
"""Wrong codes from one address within :data:`WINDOW`, before it has to wait."""
MOST_WRONG_IN_ALL: Final = 300
"""Wrong codes from everywhere within :data:`WINDOW`: with 58 bits to guess, far too few."""

_EVERYWHERE: Final = "enrol"


@dataclass(frozen=True, slots=True)
class NewCode:
    """A code as it is shown, once.

    Attributes:
        url: of this hospital.
        code: with the fingerprint of the hospital's certificates.
        expires_at: when it is good no longer.
    """

    url: str
    code: EnrolmentCode
    expires_at: datetime

    @property
    def command(self) -> str:
        """What to type at the device."""
        return f"firstray edge --enrol {self.url} {self.code}"

    def qr_svg(self) -> str:
        """Address and code, with a blank between, as a QR code (ISO/IEC 18004): an SVG element without XML header."""
        drawn = io.BytesIO()
        made = segno.make(f"{self.url} {self.code}", error="m", micro=False)
        made.save(drawn, kind="svg", xmldecl=False, scale=6, border=4, light="#fff", omitsize=True, svgclass="qr")
        return drawn.getvalue().decode()


def make_code(hospital: Hospital, by: str, device_name: str, ring: str = "general") -> NewCode:
    """A one-time code for one device, good for :data:`CODE_LIFETIME`.

    Args:
        hospital: that takes it on.
        by: who makes it, as in the audit log (``user:LOGIN``).
        device_name: what the hospital calls the device, 1..120 characters.
        ring: whose model releases it gets.

    Raises:
        FirstRayError: ``device_name_missing``, ``ring_invalid``, ``ring_reserved``, ``ca_missing``, ``ca_invalid``.
    """
    releases.refuse_as_device_ring(ring)
    if not 1 <= len(name := device_name.strip()) <= 120 or not name.isprintable():
        raise FirstRayError("device_name_missing", "The device needs a name of 1 to 120 letters.", "Name it.")
    ca_pem = trust(hospital.settings).ca_pem
    code = EnrolmentCode.new(fingerprint(ca_pem) if ca_pem else "")
    now = datetime.now(UTC)
    row = EnrolmentCodeRow(
        code_sha256=_sha256(code.code),
        device_name=name,
        ring=ring,
        made_by=by,
        made_at=now,
        expires_at=now + CODE_LIFETIME,
    )
    with hospital.database.writing() as session:
        session.add(row)
        audit.record(session, by, "device.code_made", name, ring=ring)
    return NewCode(hospital.settings.public_url.rstrip("/"), code, row.expires_at)


def trust(settings: Settings) -> Trust:
    """Whom devices are to believe, by the certificates of ``settings.ca``, else the topmost the server itself shows.

    Raises:
        FirstRayError: ``ca_missing`` behind a proxy without ``settings.ca``; ``ca_invalid``.
    """
    if not settings.public_url.startswith("https://"):
        return Trust(ca_pem=None, hospital=settings.hospital_name[:120])
    file = settings.ca or settings.certificate
    if file is None:
        raise FirstRayError(
            "ca_missing",
            "Devices cannot be told whom to trust: a proxy in front ends TLS, and its certificate is not known here.",
            "Set FIRSTRAY_SERVER_CA to the file (PEM) of the authority that signed the proxy's certificate.",
        )
    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError):
        raise FirstRayError(
            "ca_invalid", f"{file} holds no certificate that can be read.", "Give a file in PEM format."
        ) from None
    chosen = certificates if settings.ca else certificates[-1:]
    ca_pem = "".join(one.public_bytes(Encoding.PEM).decode() for one in chosen)
    return Trust(ca_pem=ca_pem, hospital=settings.hospital_name[:120])


def enrol(hospital: Hospital, request: EnrolmentRequest, address: str) -> Enrolled:
    """Take on a device that shows a code; the same request again, as after a lost answer, gets the same answer.

    Raises:
        FirstRayError: ``code_wrong`` (unknown, used or too old), ``too_many_attempts``, ``key_invalid``,
            ``device_known`` (enrolled with another key, and not revoked).
    """
    try:
        ECKey.import_key(request.jwk.model_dump()).get_op_key("verify")
    except (JoseError, ValueError):
        raise FirstRayError(
            "key_invalid", "The device's key is no point of the curve P-384.", "Enrol the device once more."
        ) from None
    name = hospital.database.write(lambda session: _enrol(session, request, address))
    if name is None:
        raise FirstRayError(
            "code_wrong",
            "The code is wrong, was used already, or is older than 15 minutes.",
            "Type it again, or have a new one made on the hospital's admin page.",
        )
    return Enrolled(
        hospital=hospital.settings.hospital_name[:120],
        device_name=name,
        receipt_keys=hospital.receipts.public_keys,
        token_url=token_url(hospital.settings),
    )


def _enrol(session: Session, request: EnrolmentRequest, address: str) -> str | None:
    """The device's name; None where the code is wrong, which is noted."""
    now = datetime.now(UTC)
    _refuse_guessing(session, address, now)
    sha256 = _sha256(request.code)
    code = session.exec(
        locked(session, select(EnrolmentCodeRow).where(col(EnrolmentCodeRow.code_sha256) == sha256))
    ).one_or_none()
    if code is None or code.expires_at <= now or (code.used_at is not None and code.device != request.device):
        session.add_all(AttemptRow(subject=subject, at=now) for subject in (_EVERYWHERE, _subject(address)))
        return None
    device = session.exec(locked(session, select(DeviceRow).where(col(DeviceRow.id) == request.device))).one_or_none()
    jwk = {**request.jwk.model_dump(), "kid": request.jwk.thumbprint}
    if device is not None and device.revoked_at is None and device.jwk["kid"] != jwk["kid"]:
        raise FirstRayError(
            "device_known",
            "A device with this id is enrolled already, with another key.",
            "If it is this one, revoke it on the hospital's admin page first.",
        )
    if code.used_at is not None:
        return code.device_name
    if device is None:
        device = DeviceRow(id=request.device, name=code.device_name, jwk=jwk, enrolled_at=now, enrolled_by=code.made_by)
    device.name, device.ring, device.jwk = code.device_name, code.ring, jwk
    device.enrolled_at, device.enrolled_by = now, code.made_by
    device.revoked_at, device.revoked_by, device.wipe, device.flagged = None, None, False, None
    device.facts = {**device.facts, "app": request.app}
    code.used_at, code.device = now, request.device
    session.add_all((device, code))
    session.flush()
    actor = f"device:{request.device}"
    inbox.withdraw_revocations(session, request.device)
    releases.offer(session, request.device)
    audit.record(session, actor, "device.enrolled", str(request.device), code_by=code.made_by, address=address)
    return code.device_name


def _refuse_guessing(session: Session, address: str, now: datetime) -> None:
    session.execute(delete(AttemptRow).where(col(AttemptRow.at) < now - WINDOW, _is_ours()))
    counted = dict(
        session.exec(
            select(AttemptRow.subject, func.count())
            .where(col(AttemptRow.subject).in_((_EVERYWHERE, _subject(address))), col(AttemptRow.at) >= now - WINDOW)
            .group_by(col(AttemptRow.subject))
        ).all()
    )
    if counted.get(_subject(address), 0) >= MOST_WRONG or counted.get(_EVERYWHERE, 0) >= MOST_WRONG_IN_ALL:
        raise FirstRayError(
            "too_many_attempts", "There were too many wrong codes lately.", "Wait 15 minutes, then try again."
        )


def _is_ours() -> Any:
    return (col(AttemptRow.subject) == _EVERYWHERE) | col(AttemptRow.subject).startswith(f"{_EVERYWHERE}:")


def _subject(address: str) -> str:
    return f"{_EVERYWHERE}:{address}"


def _sha256(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
