"""Every page of the ER in both palettes, on a wall and on a phone: axe-core, nothing too wide, by keyboard."""

import pytest
from playwright.sync_api import Browser

from tests.web.conftest import LogIn, violations
from tests.web.scene import Scene
from tests.web.waiting import wait_for

PAGES = ("/board", "/account", "/runs/{pneumothorax}", "/runs/{unknown}", "/runs/{no film}", "/runs/not-there")


@pytest.mark.parametrize("palette", ["dark", "light"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing(scene: Scene, log_in: LogIn, path: str, palette: str) -> None:
    filled = path.format(**{name: str(run) for name, run in scene.runs.items()})
    page = log_in(filled, color_scheme=palette, width=1920)
    page.wait_for_timeout(500)
    assert violations(page) == []


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_axe_finds_nothing_on_the_log_in(browser: Browser, address: str, palette: str) -> None:
    context = browser.new_context(base_url=address, color_scheme=palette)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto("/login")
    assert violations(page) == []
    context.close()


@pytest.mark.parametrize("width", [390, 820, 1280, 1920])
@pytest.mark.parametrize("path", PAGES[:5])
def test_nothing_is_wider_than_the_screen(scene: Scene, log_in: LogIn, path: str, width: int) -> None:
    page = log_in(path.format(**{name: str(run) for name, run in scene.runs.items()}), width=width)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_board_is_used_by_keyboard_alone(scene: Scene, log_in: LogIn) -> None:
    page = log_in()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    wait_for(page, "location.hash !== ''")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == f"link-{scene.runs['pneumothorax']}"
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{scene.runs['pneumothorax']}")
