"""A physician changes their password in Chromium, by keyboard; what is open elsewhere ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.hospital import enrolled_device, new_hospital
from tests.web.conftest import LogIn, violations
from tests.web.scene import PASSWORD, Scene, accounts_of, served

NEW = "forty loud helicopters"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    hospital = new_hospital(tmp_path)
    accounts_of(hospital)
    yield Scene(hospital, enrolled_device(hospital))
    hospital.close()


@pytest.fixture
def address(scene: Scene) -> Iterator[str]:
    with served(scene.hospital) as found:
        yield found


def change(page: Page, old: str, new: str) -> None:
    page.get_by_label("Present password").fill(old)
    page.get_by_label("New password", exact=True).fill(new)
    page.keyboard.press("Tab")
    page.keyboard.type(new)
    page.keyboard.press("Enter")


def test_the_password_is_changed_by_keyboard_and_log_ins_elsewhere_end(log_in: LogIn) -> None:
    page, elsewhere = log_in(), log_in()
    page.get_by_role("link", name="Your account: 이서연").press("Enter")
    page.wait_for_url("**/account")
    change(page, "not my password", NEW)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The present password is not right")
    expect(page.get_by_label("Present password")).to_be_focused()
    expect(page.get_by_label("Present password")).to_have_value("")
    assert violations(page) == []
    change(page, PASSWORD, NEW)
    expect(page.get_by_role("status")).to_contain_text("Your password was changed")
    elsewhere.reload()
    elsewhere.wait_for_url("**/login?next=*")
    for password, lands in ((PASSWORD, "**/login"), (NEW, "**/board")):
        elsewhere.goto("/login")
        elsewhere.fill("#login", "doctor")
        elsewhere.fill("#password", password)
        elsewhere.click("button.primary")
        elsewhere.wait_for_url(lands)


def test_a_short_password_is_held_back_by_the_form(log_in: LogIn) -> None:
    page = log_in("/account")
    change(page, PASSWORD, "short")
    assert page.get_by_label("New password", exact=True).evaluate("field => field.validity.tooShort")
    expect(page.get_by_role("status")).to_have_count(0)
