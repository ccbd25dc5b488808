"""``firstray admin``: first admin, passwords, the audit log's check."""

from pathlib import Path

import pytest
from sqlalchemy import text

from shared.errors import FirstRayError
from sync_server import admin_commands
from sync_server.domain import accounts
from sync_server.domain.accounts import Role
from sync_server.hospital import open_hospital
from tests.hospital import settings_for

PASSWORD = "fifteen quiet ambulances"


def test_the_first_admin_is_made_at_the_shell_and_can_log_in(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    told = admin_commands.create_user(settings, "chief", "Park Jiho", Role.ADMIN, PASSWORD)
    assert told == "chief (admin) can log in at http://127.0.0.1:8000/login."
    hospital = open_hospital(settings, listen=False)
    person = accounts.person(hospital.database, accounts.log_in(hospital.database, "chief", PASSWORD, "::1"))
    hospital.close()
    assert person is not None
    assert (person.is_admin, person.language) == (True, "ko")


def test_there_is_no_account_before_somebody_makes_one(tmp_path: Path) -> None:
    hospital = open_hospital(settings_for(tmp_path), listen=False)
    for login in ("admin", "root", "firstray"):
        for password in ("", login, "password"):
            with pytest.raises(FirstRayError, match="do not fit"):
                accounts.log_in(hospital.database, login, password, "::1")
    hospital.close()


def test_a_password_is_set_at_the_shell(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    admin_commands.create_user(settings, "chief", "Park Jiho", Role.ADMIN, PASSWORD)
    assert "another password" in admin_commands.set_password(settings, "Chief", "forty loud helicopters")
    hospital = open_hospital(settings, listen=False)
    assert accounts.log_in(hospital.database, "chief", "forty loud helicopters", "::1")
    hospital.close()
    with pytest.raises(FirstRayError) as error:
        admin_commands.set_password(settings, "nobody", PASSWORD)
    assert error.value.code == "user_unknown"


def test_the_audit_log_is_checked(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    admin_commands.create_user(settings, "chief", "Park Jiho", Role.ADMIN, PASSWORD)
    admin_commands.set_password(settings, "chief", "forty loud helicopters")
    verdict = admin_commands.verify_audit(settings)
    assert (verdict.whole, verdict.rows) == (True, 2)
    assert verdict.head in admin_commands.describe(verdict)
    hospital = open_hospital(settings, listen=False)
    with hospital.database.writing() as session:
        session.execute(text("UPDATE audit SET actor = 'somebody else' WHERE number = 1"))
    hospital.close()
    verdict = admin_commands.verify_audit(settings)
    assert verdict.broken_at == 1
    assert "was changed: row 1" in admin_commands.describe(verdict)
