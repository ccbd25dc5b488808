"""Which account somebody enters whom the hospital's log-in service (OpenID Connect) knows.

An admin decides: the account is linked to the service's subject, or waits for a user name or e-mail and is linked when
its owner first comes. Nobody gets in, and nobody gets a role, because the service knows them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from sync_server.db.tables import AccountRow
from sync_server.domain import accounts, audit, guessing
from sync_server.domain.oidc import Identity

if TYPE_CHECKING:
    from sync_server.db.engine import Database

LONGEST: Final = 255
"""Letters of a subject (Core 1.0, 2), and of a name."""


def prepare(session: Session, user: UUID, name: str, actor: str) -> None:
    """Have an account wait for who comes with this user name or verified e-mail; then it is linked.

    Raises:
        FirstRayError: ``user_unknown``, ``oidc_name_invalid``, ``oidc_taken``.
    """
    row, name = accounts.account(session, user), _checked(name).lower()
    _refuse_taken(session, row, AccountRow.oidc_name == name)
    _release(session, row)
    row.oidc_name = name
    session.add(row)
    audit.record(session, actor, "user.oidc_prepared", str(user), login=row.login, name=name)


def link(session: Session, user: UUID, issuer: str, subject: str, actor: str) -> None:
    """Link an account to a subject of the issuer; a link it had is replaced, and its sessions end.

    Raises:
        FirstRayError: ``user_unknown``, ``oidc_name_invalid``, ``oidc_taken``.
    """
    row, subject = accounts.account(session, user), _checked(subject)
    _refuse_taken(session, row, AccountRow.oidc == _held(issuer, subject))
    _release(session, row)
    row.oidc = _held(issuer, subject)
    session.add(row)
    audit.record(session, actor, "user.oidc_linked", str(user), login=row.login, sub=subject)


def unlink(session: Session, user: UUID, actor: str) -> None:
    """Take the link or what was prepared away; sessions end. Without a password the account is then entered by nobody.

    Raises:
        FirstRayError: ``user_unknown``.
    """
    row = accounts.account(session, user)
    _release(session, row)
    session.add(row)
    audit.record(session, actor, "user.oidc_unlinked", str(user), login=row.login)


def subject_of(row: AccountRow) -> str:
    """The subject an account is linked to; empty where there is none."""
    return (row.oidc or "").partition(" ")[2]


def log_in(
    database: Database, issuer: str, prove: Callable[[], Identity], address: str, now: datetime | None = None
) -> str:
    """Open a session for whom the log-in service names; it is asked outside any transaction, for it takes long.

    Args:
        database: of the hospital.
        issuer: the log-in service.
        prove: asks it; raises FirstRayError.
        address: of the browser.
        now: moment of the log-in.

    Returns:
        The session's token, for the cookie.

    Raises:
        FirstRayError: ``too_many_attempts``, ``oidc_no_account`` (none is linked, or it is shut out), and what
            ``prove`` raises. Failures are counted and audited as wrong passwords are, but for a service out of reach.
    """
    now = now or datetime.now(UTC)
    limits = (guessing.by_address(address),)
    with database.reading() as session:
        guessing.refuse(session, limits, now)
    try:
        identity = prove()
    except FirstRayError as error:
        if error.code != "oidc_unreachable":
            with database.writing() as session:
                guessing.failed(session, limits, now, address, via="oidc", reason=error.code)
        raise
    with database.writing() as session:
        row = _account_of(session, issuer, identity)
        if row is None or row.disabled_at is not None:
            guessing.failed(session, limits, now, address, via="oidc", reason="oidc_no_account", sub=identity.subject)
        else:
            if row.oidc is None:
                link(session, row.id, issuer, identity.subject, f"user:{row.login}")
            return accounts.open_session(session, row.id, now, address, via="oidc")
    raise FirstRayError(
        "oidc_no_account",
        "The log-in service knows you, but no account here is linked to you.",
        "Ask an admin of FirstRay to link your account.",
    )


def _account_of(session: Session, issuer: str, identity: Identity) -> AccountRow | None:
    """By subject; else the one account that waits for one of the names."""
    row = session.exec(select(AccountRow).where(AccountRow.oidc == _held(issuer, identity.subject))).first()
    if row is not None:
        return row
    waiting = session.exec(select(AccountRow).where(col(AccountRow.oidc_name).in_(identity.names))).all()
    return waiting[0] if len(waiting) == 1 else None


def _release(session: Session, row: AccountRow) -> None:
    if row.oidc is not None:
        accounts.end_sessions(session, row.id)
    row.oidc = row.oidc_name = None


def _refuse_taken(session: Session, row: AccountRow, same: bool) -> None:
    if session.exec(select(AccountRow.id).where(same, AccountRow.id != row.id)).first() is not None:
        raise FirstRayError(
            "oidc_taken", "Another account is linked to this person already.", "Take that link away first."
        )


def _checked(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= LONGEST or not text.isprintable():
        raise FirstRayError(
            "oidc_name_invalid",
            f"A user name, e-mail or subject has 1 to {LONGEST} letters.",
            "Copy it from the log-in service.",
        )
    return text


def _held(issuer: str, subject: str) -> str:
    return f"{issuer} {subject}"
