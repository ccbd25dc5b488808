"""One hospital and one Chromium for all tests of the pages; each test has a browser context of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.hospital import new_hospital
from tests.web.scene import PASSWORD, Scene, night, served
from tests.web.waiting import HEARING, SECONDS

AXE = Path(__file__).parent / "axe" / "axe.min.js"

LogIn = Callable[..., Page]
expect.set_options(timeout=SECONDS * 1000)


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    hospital = new_hospital(tmp_path_factory.mktemp("hospital"))
    yield night(hospital)
    hospital.close()


@pytest.fixture(scope="session")
def address(scene: Scene) -> Iterator[str]:
    with served(scene.hospital) as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = which("chromium") or which("chromium-browser") or which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def log_in(browser: Browser, address: str) -> Iterator[LogIn]:
    """Opens a page as somebody; whatever the browser complains about fails the test at its end."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def opened(path: str = "/board", login: str = "doctor", width: int = 1280, **options: object) -> Page:
        context = browser.new_context(base_url=address, viewport={"width": width, "height": 900}, **options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(SECONDS * 1000)
        context.add_init_script(HEARING)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None
        )
        page.goto("/login")
        page.fill("#login", login)
        page.fill("#password", PASSWORD)
        page.click("button.primary")
        page.wait_for_url("**/board")
        if path != "/board":
            page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong, one line each; it is evaluated by the browser's debugger, past the page's policy."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{problem['id']}: {problem['help']} {[node['target'] for node in problem['nodes']][:3]}"
        for problem in found["violations"]
    ]
