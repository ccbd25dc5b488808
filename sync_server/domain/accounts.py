"""People who log in: local accounts, their passwords, and the log-ins that are open.

Passwords are kept as Argon2id (RFC 9106) through pwdlib; of a session only the SHA-256 of its cookie is kept. An
account without a password is entered through the hospital's log-in service only (:mod:`sync_server.domain.linking`).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pwdlib import PasswordHash
from sqlalchemy import delete
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from shared.identity import new_id
from shared.overlay import Language
from sync_server.db.tables import AccountRow, WebSessionRow
from sync_server.domain import audit, guessing

if TYPE_CHECKING:
    from sync_server.db.engine import Database

IDLE: Final = timedelta(minutes=60)
"""A session that nobody uses ends after this; an open board uses it."""
LONGEST: Final = timedelta(hours=12)
"""A session ends after this in any case: one shift."""
TOUCHED: Final = timedelta(minutes=1)
"""How precisely the last use is noted: a write a minute, not one a request."""
SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 256
_LOGIN: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{1,63}")


class Role(StrEnum):
    """What someone may do: an admin may do all that the ER may."""

    ER = "er"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Person:
    """Someone who is logged in; ``csrf`` is the token that every change of theirs must carry."""

    id: UUID
    login: str
    name: str
    role: Role
    language: Language
    csrf: str
    expires_at: datetime

    @property
    def actor(self) -> str:
        """How the audit log names them."""
        return f"user:{self.login}"

    @property
    def is_admin(self) -> bool:
        """Whether they may administer."""
        return self.role is Role.ADMIN


_HASH: Final = PasswordHash.recommended()
_NOBODY: Final = _HASH.hash(secrets.token_urlsafe())
"""Checked where there is no such login, so that the answer takes as long."""


def create_user(
    session: Session, login: str, name: str, role: Role, password: str | None, actor: str, language: Language = "ko"
) -> AccountRow:
    """Make an account; the login is kept in lower case. Without a password nobody enters it until it is linked.

    Raises:
        FirstRayError: ``login_invalid``, ``login_taken``, ``name_missing`` or ``password_weak``.
    """
    login, name = login.strip().lower(), " ".join(name.split())
    if not _LOGIN.fullmatch(login):
        raise FirstRayError(
            "login_invalid",
            "A login is 2 to 64 small letters, digits and . _ @ -, and begins with a letter or digit.",
            "Choose another login.",
        )
    if not name or len(name) > 120 or not name.isprintable():
        raise FirstRayError("name_missing", "An account needs the person's name, at most 120 letters.", "Enter it.")
    if session.exec(select(AccountRow.id).where(AccountRow.login == login)).first() is not None:
        raise FirstRayError("login_taken", "Someone already has this login.", "Choose another login.")
    row = AccountRow(
        id=new_id(),
        login=login,
        name=name,
        role=role.value,
        password=_hashed(password, login) if password is not None else None,
        language=language,
        made_at=datetime.now(UTC),
    )
    session.add(row)
    audit.record(session, actor, "user.created", str(row.id), login=login, role=role.value)
    return row


def set_password(session: Session, user: UUID, password: str, actor: str) -> None:
    """Give an account another password; all its sessions end.

    Raises:
        FirstRayError: ``user_unknown`` or ``password_weak``.
    """
    row = account(session, user)
    row.password = _hashed(password, row.login)
    session.add(row)
    end_sessions(session, user)
    guessing.forget(session, row.login)
    audit.record(session, actor, "user.password_set", str(user), login=row.login)


def change_password(database: Database, token: str, old: str, new: str, address: str) -> None:
    """Whoever is logged in chooses another password; all other sessions of the account end.

    A wrong old password counts as a failed log-in does: who finds a browser open cannot go on guessing.

    Args:
        database: of the hospital.
        token: of the session that goes on.
        old, new: the passwords.
        address: of who asks, for counting.

    Raises:
        FirstRayError: ``session_ended``, ``password_none`` (others log this account in), ``password_wrong``,
            ``password_weak``, ``too_many_attempts``.
    """
    now = datetime.now(UTC)
    with database.reading() as session:
        here = session.get(WebSessionRow, _sha256(token))
        if here is None:
            raise FirstRayError("session_ended", "The log-in has ended, so nothing was changed.", "Log in again.")
        row = account(session, here.user)
        limits = guessing.by_login(row.login, address)
        guessing.refuse(session, limits, now)
        user, login, held = row.id, row.login, row.password
    if held is None:
        raise FirstRayError(
            "password_none",
            "This account has no password here: it logs in with the hospital's own service.",
            "Change it there.",
        )
    right = _HASH.verify(old[:LONGEST_PASSWORD], held)
    hashed = _hashed(new, login) if right else ""
    with database.writing() as session:
        if right:
            row = account(session, user)
            row.password = hashed
            session.add(row)
            others = delete(WebSessionRow).where(col(WebSessionRow.user) == user)
            session.exec(others.where(col(WebSessionRow.token_sha256) != _sha256(token)))
            guessing.forget(session, login)
            audit.record(session, f"user:{login}", "user.password_changed", str(user), login=login)
            return
        guessing.failed(session, limits, now, address, password_change=login)
    raise FirstRayError(
        "password_wrong",
        "The present password is not right, so nothing was changed.",
        "Check it; an admin can set a new one.",
    )


def set_role(session: Session, user: UUID, role: Role, actor: str) -> None:
    """Give an account another role, from its next request on.

    Raises:
        FirstRayError: ``user_unknown``; ``last_admin`` where nobody could administer afterwards.
    """
    row = account(session, user)
    if role is not Role.ADMIN:
        _keep_an_admin(session, row)
    row.role = role.value
    session.add(row)
    audit.record(session, actor, "user.role_set", str(user), login=row.login, role=role.value)


def set_disabled(session: Session, user: UUID, disabled: bool, actor: str) -> None:
    """Shut an account out at once, or let it in again.

    Raises:
        FirstRayError: ``user_unknown``; ``last_admin`` where nobody could administer afterwards.
    """
    row = account(session, user)
    if disabled:
        _keep_an_admin(session, row)
        end_sessions(session, user)
    row.disabled_at = datetime.now(UTC) if disabled else None
    session.add(row)
    audit.record(session, actor, "user.disabled" if disabled else "user.enabled", str(user), login=row.login)


def set_language(session: Session, user: UUID, language: Language) -> None:
    """The language of an account's pages."""
    row = account(session, user)
    row.language = language
    session.add(row)


def account(session: Session, user: UUID) -> AccountRow:
    """The account of that id; raises FirstRayError ``user_unknown``."""
    if (row := session.get(AccountRow, user)) is None:
        raise FirstRayError("user_unknown", "There is no such account.", "Look at the list of users.")
    return row


def find(session: Session, login: str) -> AccountRow:
    """The account of that login; raises FirstRayError ``user_unknown``."""
    row = session.exec(select(AccountRow).where(AccountRow.login == login.strip().lower())).first()
    if row is None:
        raise FirstRayError("user_unknown", "There is no account with this login.", "Check its spelling.")
    return row


def log_in(database: Database, login: str, password: str, address: str, now: datetime | None = None) -> str:
    """Check a password and open a session; the password is checked outside any transaction, for it takes long.

    Returns:
        The session's token, for the cookie.

    Raises:
        FirstRayError: ``log_in_failed``, or ``too_many_attempts``; neither says whether the login exists.
    """
    now = now or datetime.now(UTC)
    login = login.strip().lower()[:64]
    limits = guessing.by_login(login, address)
    with database.reading() as session:
        guessing.refuse(session, limits, now)
        row = session.exec(select(AccountRow).where(AccountRow.login == login)).first()
        held = (row.id, row.password) if row and row.password and row.disabled_at is None else None
    right = _HASH.verify(password[:LONGEST_PASSWORD], held[1] if held else _NOBODY)
    with database.writing() as session:
        if not right or held is None:
            guessing.failed(session, limits, now, address)
        else:
            guessing.succeeded(session, login, address)
            return open_session(session, held[0], now, address)
    raise FirstRayError(
        "log_in_failed", "Login and password do not fit together.", "Check both; an admin can set a new password."
    )


def open_session(session: Session, user: UUID, now: datetime, address: str, **details: Any) -> str:
    """A new session of an account, whose owner has proven who they are; gives its token. Audited with ``details``."""
    row = account(session, user)
    token = secrets.token_urlsafe(32)
    session.exec(delete(WebSessionRow).where(col(WebSessionRow.expires_at) < now))
    session.add(
        WebSessionRow(
            token_sha256=_sha256(token),
            user=user,
            csrf=secrets.token_urlsafe(32),
            made_at=now,
            seen_at=now,
            expires_at=now + LONGEST,
        )
    )
    audit.record(session, f"user:{row.login}", "log_in", str(user), address=address, **details)
    return token


def person(database: Database, token: str, now: datetime | None = None) -> Person | None:
    """Who a session's token belongs to; None where it has ended. Notes that it is in use."""
    now = now or datetime.now(UTC)
    with database.reading() as session:
        row = session.get(WebSessionRow, _sha256(token))
        if row is None or now >= row.expires_at or now - row.seen_at >= IDLE:
            return None
        found = session.get(AccountRow, row.user)
        if found is None or found.disabled_at is not None:
            return None
        language: Language = "en" if found.language == "en" else "ko"
        someone = Person(
            found.id, found.login, found.name, Role(found.role), language, csrf=row.csrf, expires_at=row.expires_at
        )
        seen_at = row.seen_at
    if now - seen_at >= TOUCHED:
        with database.writing() as session:
            if (row := session.get(WebSessionRow, _sha256(token))) is not None:
                row.seen_at = now
                session.add(row)
    return someone


def log_out(session: Session, token: str, actor: str) -> None:
    """End a session."""
    session.exec(delete(WebSessionRow).where(col(WebSessionRow.token_sha256) == _sha256(token)))
    audit.record(session, actor, "log_out")


def end_sessions(session: Session, user: UUID) -> None:
    """End all sessions of an account."""
    session.exec(delete(WebSessionRow).where(col(WebSessionRow.user) == user))


def _hashed(password: str, login: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise FirstRayError(
            "password_weak",
            f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} letters.",
            "Take several words, for instance.",
        )
    if login in password.lower() or len(set(password)) < 5:
        raise FirstRayError(
            "password_weak",
            "The password is too easy to guess: it repeats itself or holds the login.",
            "Choose another.",
        )
    return _HASH.hash(password)


def _keep_an_admin(session: Session, row: AccountRow) -> None:
    others = session.exec(
        select(AccountRow.id).where(
            AccountRow.role == Role.ADMIN.value, col(AccountRow.disabled_at).is_(None), AccountRow.id != row.id
        )
    ).first()
    if others is None and row.role == Role.ADMIN.value and row.disabled_at is None:
        raise FirstRayError("last_admin", "This is the last admin.", "Make another admin first.")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
