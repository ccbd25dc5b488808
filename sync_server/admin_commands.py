"""What ``firstray admin`` does about people and the audit log; the server may run meanwhile or not."""

from __future__ import annotations

from shared.overlay import Language
from sync_server.domain import accounts, audit
from sync_server.domain.accounts import Role
from sync_server.domain.enrolment import make_code
from sync_server.hospital import opened
from sync_server.settings import Settings

ACTOR = "command line"
"""How the audit log names who works at the server's own shell."""


def create_user(
    settings: Settings, login: str, name: str, role: Role, password: str, language: Language | None = None
) -> str:
    """Make an account; gives what to tell. Every password is chosen by a person: there is no default.

    Raises:
        FirstRayError: ``login_invalid``, ``login_taken``, ``name_missing``, ``password_weak``, or the database's.
    """
    with opened(settings) as hospital, hospital.database.writing() as session:
        row = accounts.create_user(session, login, name, role, password, ACTOR, language or settings.language)
        return f"{row.login} ({row.role}) can log in at {settings.public_url}/login."


def set_password(settings: Settings, login: str, password: str) -> str:
    """Give an account another password and end its sessions; gives what to tell.

    Raises:
        FirstRayError: ``user_unknown``, ``password_weak``, or the database's.
    """
    with opened(settings) as hospital, hospital.database.writing() as session:
        row = accounts.find(session, login)
        accounts.set_password(session, row.id, password, ACTOR)
        return f"{row.login} has another password; open log-ins of this account have ended."


def enrolment_code(settings: Settings, device: str, ring: str) -> str:
    """Make a one-time code for a device; gives what to tell.

    Raises:
        FirstRayError: ``device_name_missing``, ``ring_invalid``, ``ring_reserved``, ``ca_missing``, ``ca_invalid``, or
            the database's.
    """
    with opened(settings) as hospital:
        made = make_code(hospital, ACTOR, device, ring)
    return f"Type this at the device before {made.expires_at:%H:%M} UTC:\n{made.command}"


def verify_audit(settings: Settings) -> audit.Verdict:
    """Check the audit log from its first row; the caller tells :func:`describe` and fails where it is not whole."""
    with opened(settings) as hospital, hospital.database.reading() as session:
        return audit.verify(session)


def describe(verdict: audit.Verdict) -> str:
    """What was found, and what it means."""
    if verdict.whole:
        return (
            f"The audit log is whole: {verdict.rows} rows, the last with hash {verdict.head}. "
            "Note number and hash elsewhere: only they show later whether rows were cut off at the end."
        )
    return (
        f"The audit log was changed: row {verdict.broken_at} does not follow the {verdict.rows} before it. "
        "Keep the database as it is and compare it with the backups."
    )
