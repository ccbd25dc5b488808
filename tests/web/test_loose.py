"""Radiographs of no run in Chromium: on the board at once, opened by keyboard, and followed into their run."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from sqlmodel import select

from shared.records import RecordType
from sync_server.db.tables import AuditRow
from tests.hospital import new_hospital
from tests.web.conftest import LogIn, violations
from tests.web.scene import Scene, diagnosis, night, served, without_run
from tests.web.waiting import wait_for, wait_until_it_hears


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    hospital = new_hospital(tmp_path)
    made = night(hospital)
    without_run(made)
    yield made
    hospital.close()


@pytest.fixture
def address(scene: Scene) -> Iterator[str]:
    with served(scene.hospital) as found:
        yield found


def viewed(scene: Scene, film: str) -> int:
    with scene.hospital.database.reading() as session:
        wanted = (AuditRow.action == "film.viewed", AuditRow.subject == str(scene.films[film]))
        return len(session.exec(select(AuditRow).where(*wanted, AuditRow.actor == "user:doctor")).all())


def test_the_board_names_them_and_the_urgent_one_is_first(scene: Scene, log_in: LogIn) -> None:
    page = log_in()
    headings = [
        "Urgent images of no run yet: 1",
        "Under way: 4",
        "Images of no run yet: 2",
        "Ended in the last 6 hours: 1",
    ]
    expect(page.locator("#board h2")).to_have_text(headings)
    urgent = page.locator("#board .run").first
    expect(urgent).to_have_id(f"film-{scene.films['loose urgent']}")
    for text in (
        "Urgent: Pneumothorax",
        "Lung mass",
        "Hospital's reading differs",
        "Since the image",
        re.compile(r"(?<!\d)([6-9]|1\d) min"),
        "Ambulance 7",
    ):
        expect(urgent).to_contain_text(text)
    expect(page.locator(f"#film-{scene.films['loose preview']}")).to_contain_text("Nothing reached the alarm level")
    expect(page.locator(f"#film-{scene.films['loose new']}")).to_contain_text("Not read yet")
    assert violations(page) == []


def test_a_new_urgent_one_sounds_and_is_announced(scene: Scene, log_in: LogIn) -> None:
    page = log_in()
    page.evaluate("window.tones = []; addEventListener('firstray:sounded', (event) => tones.push(event.detail))")
    page.locator("[data-sound]").click()
    expect(page.locator("[data-sound]")).to_have_attribute("aria-pressed", "true")
    page.evaluate("tones.length = 0")
    film = scene.device.film(None, "77" * 32)
    scene.device.diagnosis(film, result=diagnosis("77" * 32, {"Pneumothorax": 0.9}, []))
    scene.send()
    expect(page.locator(f"#film-{film} .news")).to_have_text("new")
    expect(page.locator("[data-announce]")).to_contain_text("Ambulance 7, Radiograph of")
    expect(page.locator("[data-announce]")).to_contain_text("Pneumothorax")
    assert page.evaluate("tones") == [3]


def test_it_is_opened_by_keyboard_and_shown_with_both_readings(scene: Scene, log_in: LogIn) -> None:
    page = log_in()
    link = page.locator(f"#link-{scene.films['loose urgent']}")
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/films/{scene.films['loose urgent']}")
    expect(page.locator("h1")).to_have_text("Radiograph of no run yet")
    expect(page.locator("#facts")).to_contain_text("Ambulance 7")
    expect(page.locator("#facts .flag")).to_contain_text("Pneumothorax")
    expect(page.locator("#facts")).to_contain_text("Urgent to the hospital's reading only: Pneumothorax.")
    wait_for(page, "document.querySelector('.pane img').naturalWidth === 920")
    expect(page.locator(".box text")).to_have_text(["Lung mass"])
    page.get_by_role("button", name="Hospital", exact=True).press("Enter")
    expect(page.locator(".box text")).to_have_text(["Pneumothorax", "Lung mass"])
    assert page.locator("form[data-act]").count() == 0, "there is no run to acknowledge"
    assert violations(page) == []
    assert viewed(scene, "loose urgent") >= 2, "the page and the picture"


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_before_its_original_comes_the_preview_is_shown_or_said_to_be_on_its_way(
    scene: Scene, log_in: LogIn, palette: str
) -> None:
    page = log_in(f"/films/{scene.films['loose preview']}", color_scheme=palette, width=390)
    expect(page.locator(".pane-note")).to_contain_text("Preview from the ambulance")
    wait_for(page, "document.querySelector('.pane img').naturalWidth === 512")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []
    page.goto(f"/films/{scene.films['loose new']}")
    expect(page.locator(".pane-note")).to_contain_text("still on its way")
    expect(page.locator("#facts")).to_contain_text("Not read yet")
    film = scene.films["loose new"]
    wait_until_it_hears(page)
    scene.device.diagnosis(film, result=diagnosis("1b" * 32, {"Pneumothorax": 0.8}, []))
    scene.send()
    expect(page.locator("#facts .flag")).to_contain_text("Pneumothorax")


def test_the_page_leads_to_the_run_as_soon_as_the_crew_says_whose_it_is(scene: Scene, log_in: LogIn) -> None:
    film, run = scene.films["loose urgent"], scene.runs["no film"]
    page, board = log_in(f"/films/{film}"), log_in()
    expect(page.locator("h1")).to_have_text("Radiograph of no run yet")
    other = log_in(f"/films/{scene.films['loose preview']}")
    other.evaluate("window.same = true")
    wait_until_it_hears(page)
    scene.device.put(RecordType.RADIOGRAPH, {"encounter": run}, film)
    scene.send()
    page.wait_for_url(f"**/runs/{run}?film={film}")
    expect(page.get_by_role("button", name="Acknowledge")).to_be_visible()
    expect(board.locator(f"#film-{film}")).to_have_count(0)
    expect(board.locator(f"#run-{run}")).to_contain_text("Pneumothorax")
    for path in ("image", "preview", "facts"):
        assert page.request.get(f"/films/{film}/{path}").status == 404
    assert other.evaluate("window.same"), "what changed of another one is none of this page's news"


def test_a_deleted_one_is_said_to_be_gone(scene: Scene, log_in: LogIn) -> None:
    film = scene.films["loose preview"]
    page = log_in(f"/films/{film}")
    expect(page.locator("h1")).to_have_text("Radiograph of no run yet")
    wait_until_it_hears(page)
    scene.device.delete(RecordType.RADIOGRAPH, film)
    scene.send()
    expect(page.get_by_role("alert").filter(has_text="no such radiograph without a run")).to_be_visible()
