"""Log-in through an OpenID provider that others wrote, in a real Chromium: an admin prepares it, a doctor comes in."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from sync_server.domain import accounts
from tests.hospital import new_hospital
from tests.hospital.openid import free_port
from tests.web.conftest import violations
from tests.web.scene import PASSWORD, Scene, night, served
from tests.web.waiting import SECONDS

pytestmark = pytest.mark.filterwarnings("ignore:.*(authlib|get_jwt_config).*:DeprecationWarning")  # the provider's
SHOTS = os.environ.get("FIRSTRAY_SHOTS")
"""Folder for a picture of each page, to look at."""


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The provider's address."""
    mock = pytest.importorskip("oidc_provider_mock", reason="the extra dev is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
        lee = mock.User(sub="9f2c", claims={"preferred_username": "seoyeon.lee", "name": "이서연"})
        with mock.run_server_in_thread(require_nonce=True, user_claims=[lee]) as server:
            yield f"http://localhost:{server.server_port}"


@pytest.fixture
def scene(tmp_path: Path, provider: str) -> Iterator[Scene]:
    port = free_port()
    hospital = new_hospital(
        tmp_path,
        public_url=f"http://127.0.0.1:{port}",
        oidc_issuer=provider,
        oidc_client_id="firstray",
        oidc_client_secret="a secret of both",
        oidc_name="Hospital ID",
    )
    made = night(hospital)
    with served(hospital, port):
        yield made


@pytest.fixture
def opened(browser: Browser, scene: Scene) -> Iterator[Page]:
    context = browser.new_context(
        base_url=scene.hospital.settings.public_url, locale="en-GB", viewport={"width": 1280, "height": 900}
    )
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"oidc-{name}.png", full_page=True)


def by_password(page: Page, login: str) -> None:
    page.goto("/login")
    page.fill("#login", login)
    page.fill("#password", PASSWORD)
    page.click("button.primary")
    page.wait_for_url("**/board")


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")


def at_the_provider(page: Page, button: str | re.Pattern[str]) -> None:
    page.get_by_role("link", name="Log in with Hospital ID").click()
    page.wait_for_url("**/oauth2/authorize**")
    shot(page, "provider")
    page.get_by_role("button", name=button).click()


def test_an_admin_prepares_an_account_and_its_owner_comes_in(opened: Page, scene: Scene) -> None:
    page = opened
    by_password(page, "admin")
    page.goto("/admin/users")
    page.get_by_label("Login", exact=True).fill("lee")
    page.get_by_label("Name", exact=True).fill("이서연")
    page.get_by_label("User name or e-mail at Hospital ID").fill("Seoyeon.Lee")
    assert violations(page) == []
    page.get_by_role("button", name="Make the account").click()
    expect(page.get_by_role("status")).to_contain_text("linked when its owner first logs in")
    expect(page.get_by_role("row", name="lee 이서연")).to_contain_text("Waits for seoyeon.lee")
    shot(page, "users")
    log_out(page)

    page.goto(f"/runs/{scene.runs['routine']}")
    shot(page, "login")
    assert violations(page) == []
    at_the_provider(page, re.compile("9f2c"))
    page.wait_for_url(f"**/runs/{scene.runs['routine']}")
    expect(page.locator(".who")).to_contain_text("이서연")
    shot(page, "in")

    log_out(page)
    by_password(page, "admin")
    page.goto("/admin/users")
    row = page.get_by_role("row", name="lee 이서연")
    expect(row).to_contain_text("Hospital ID")
    row.get_by_role("link", name="Log-in service lee").click()
    expect(page.get_by_text("Linked to subject 9f2c")).to_be_visible()
    assert violations(page) == []
    shot(page, "link")
    page.get_by_role("button", name="Take the link away").click()
    expect(page.get_by_role("status")).to_contain_text("The link was taken away")
    expect(page.get_by_role("row", name="lee 이서연")).to_contain_text("Cannot log in")
    page.get_by_role("row", name="doctor 이서연").get_by_role("link", name="Log-in service doctor").click()
    page.get_by_label("subject (sub)").check()
    page.get_by_label("As the log-in service writes it").fill("9f2c")
    page.get_by_role("button", name="Link", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("The account is linked.")
    expect(page.get_by_role("row", name="doctor 이서연")).to_contain_text("Hospital ID, Password")
    log_out(page)
    at_the_provider(page, re.compile("9f2c"))
    page.wait_for_url("**/board")
    with scene.hospital.database.reading() as session:
        assert accounts.find(session, "doctor").oidc == f"{scene.hospital.settings.oidc_issuer} 9f2c"


def test_who_is_not_linked_or_cancels_is_told_on_the_log_in_page(opened: Page) -> None:
    page = opened
    page.goto("/login?next=/board")
    at_the_provider(page, re.compile("9f2c"))
    expect(page.get_by_role("alert")).to_contain_text("no account here is linked to you")
    assert violations(page) == []
    shot(page, "unknown")
    at_the_provider(page, "Deny")  # this provider forgets to send the state back, so the answer belongs to nothing
    page.wait_for_url("**/login/oidc/callback**")
    expect(page.get_by_role("alert")).to_contain_text("Start again from this page")
    shot(page, "cancelled")
    page.fill("#login", "doctor")
    page.fill("#password", PASSWORD)
    page.click("button.primary")
    page.wait_for_url("**/board")
