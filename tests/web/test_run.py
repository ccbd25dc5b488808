"""A run's page in Chromium: films, boxes and greys, both readings, and what the ER does with them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect
from sqlmodel import select

from shared.identity import new_id
from shared.records import RecordType
from sync_server.db.tables import ConfirmedReadingRow, MessageRow
from sync_server.domain import inbox
from tests.hospital import new_hospital
from tests.web.conftest import LogIn
from tests.web.scene import Scene, diagnosis, night, served
from tests.web.waiting import wait_for, wait_until_it_hears


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    hospital = new_hospital(tmp_path)
    yield night(hospital)
    hospital.close()


@pytest.fixture
def address(scene: Scene) -> Iterator[str]:
    with served(scene.hospital) as found:
        yield found


@pytest.fixture
def page(scene: Scene, log_in: LogIn) -> Page:
    opened = log_in(f"/runs/{scene.runs['pneumothorax']}", width=1600)
    expect(opened.locator(".pane img").first).to_have_js_property("complete", True)
    wait_for(opened, "document.querySelectorAll('.box').length > 0")  # the film is there, and is drawn
    return opened


def boxes(page: Page) -> list[str]:
    return page.locator(".box text").all_text_contents()


def grey(page: Page) -> float:
    """Mean grey of what the first pane shows, 0..255."""
    from io import BytesIO

    from PIL import Image, ImageStat

    shot = page.locator(".pane").first.screenshot()
    return float(ImageStat.Stat(Image.open(BytesIO(shot)).convert("L").crop((100, 100, 400, 400))).mean[0])


def test_boxes_lie_where_the_diagnosis_says_and_can_be_switched_off(page: Page) -> None:
    assert boxes(page) == ["Pneumothorax", "Lung mass", "Pleural effusion"]
    image, frame = page.locator(".pane img").bounding_box(), page.locator(".box .line").first.bounding_box()
    assert image is not None
    assert frame is not None
    assert frame["x"] + 1.5 == pytest.approx(image["x"] + 0.56 * image["width"], abs=3)
    assert frame["height"] - 3 == pytest.approx(0.35 * image["height"], abs=4)
    expect(page.locator(".box.dashed text")).to_have_text("Pleural effusion")
    page.get_by_label("Lung mass", exact=True).uncheck()
    assert boxes(page) == ["Pneumothorax", "Pleural effusion"]
    page.get_by_role("button", name="Boxes").click()
    assert boxes(page) == []


def test_both_readings_side_by_side_and_overlaid(page: Page) -> None:
    page.get_by_role("button", name="Side by side").click()
    expect(page.locator(".pane")).to_have_count(2)
    wait_for(page, "document.querySelectorAll('.box').length === 5")
    expect(page.locator(".pane").nth(1).locator(".box.server text")).to_have_text(["Pneumothorax", "Pleural effusion"])
    page.get_by_role("button", name="Overlaid").click()
    expect(page.locator(".pane")).to_have_count(1)
    wait_for(page, "document.querySelectorAll('.box').length === 5")
    assert "Hospital: Pleural effusion" in boxes(page)
    assert "Ambulance: Lung mass" in boxes(page)
    page.get_by_role("button", name="Hospital", exact=True).click()
    wait_for(page, "document.querySelectorAll('.box').length === 2")


def test_zoom_keeps_the_place_under_the_pointer_and_fit_brings_all_back(page: Page) -> None:
    image = page.locator(".pane img")
    before = image.bounding_box()
    assert before is not None
    x, y = before["x"] + before["width"] * 0.3, before["y"] + before["height"] * 0.6
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)
    wait_for(page, f"document.querySelector('.pane img').getBoundingClientRect().width > {2 * before['width']}")
    after = image.bounding_box()
    assert after is not None
    assert (x - after["x"]) / after["width"] == pytest.approx(0.3, abs=0.01)
    assert (y - after["y"]) / after["height"] == pytest.approx(0.6, abs=0.01)
    page.mouse.down()
    page.mouse.move(x + 60, y + 30, steps=4)
    page.mouse.up()
    moved = image.bounding_box()
    assert moved is not None
    assert (moved["x"] - after["x"], moved["y"] - after["y"]) == (pytest.approx(60, abs=1), pytest.approx(30, abs=1))
    page.locator(".pane").focus()
    page.keyboard.press("0")
    assert image.bounding_box() == before


def test_greys_are_windowed_and_inverted(page: Page) -> None:
    plain = grey(page)
    page.locator(".pane").focus()
    page.keyboard.press("i")
    expect(page.get_by_role("button", name="Invert")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("b")
    inverted = grey(page)
    assert inverted == pytest.approx(255 - plain, abs=12)
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("button", name="Window").click()
    box = page.locator(".pane").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 500, steps=5)
    page.mouse.up()
    assert grey(page) < plain - 20, "the level was moved up: darker"


def test_the_differences_are_in_words(page: Page) -> None:
    facts = page.locator("#facts")
    expect(facts).to_contain_text("The two readings differ in what matters")
    expect(facts).to_contain_text("Urgent to the hospital's reading only: Pleural effusion.")
    expect(facts).to_contain_text("Lung mass: ambulance suspected, hospital unlikely.")
    expect(facts.locator("tr.differs")).to_have_count(2)
    page.get_by_text("Unlikely or not assessed").click()
    row = facts.locator("tr", has_text="Emphysema")
    expect(row.locator("td")).to_have_text(["Not assessed", "Not assessed"])


def test_what_the_er_does_is_kept_and_told_to_the_crew(scene: Scene, page: Page) -> None:
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".run-acks")).to_contain_text("Acknowledged by 이서연")
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    page.get_by_label("Message", exact=True).fill("Chest drain is ready <b>now</b>")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#facts")).to_contain_text("Chest drain is ready <b>now</b>")
    expect(page.get_by_label("Message", exact=True)).to_have_value("")
    page.locator("input[name=finding-Pneumothorax][value=present]").check()
    page.locator("input[name=finding-Mass][value=unsure]").check()
    page.get_by_label("Text", exact=True).fill("Tension pneumothorax")
    page.get_by_role("button", name="Confirm the reading").click()
    expect(page.get_by_text("The reading is kept")).to_be_visible()
    confirmed = page.locator("section", has_text="Confirmed readings of this film")
    expect(confirmed).to_contain_text("Pneumothorax: present")
    expect(confirmed).to_contain_text("Tension pneumothorax")
    with scene.hospital.database.reading() as session:
        assert session.exec(select(ConfirmedReadingRow)).one().findings == {"Mass": "unsure", "Pneumothorax": "present"}
        assert session.exec(select(MessageRow)).one().text == "Chest drain is ready <b>now</b>"
    kinds = [item.content.kind for item in inbox.fetch(scene.hospital.database, scene.device.id, 0).items]
    assert kinds == ["server_diagnosis", "acknowledgement", "message", "confirmed_reading"]


def test_a_run_is_acknowledged_again_after_another_reading(scene: Scene, page: Page) -> None:
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".run-acks")).to_contain_text("Acknowledged by 이서연")
    wait_until_it_hears(page)
    scene.device.film(scene.runs["pneumothorax"], "a" * 64)
    scene.send()
    expect(page.locator(".run-acks")).to_contain_text("before the latest image or reading")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    expect(page.locator(".run-acks .good")).to_have_count(1)


def test_news_come_in_while_somebody_types(scene: Scene, page: Page) -> None:
    page.get_by_label("Text", exact=True).fill("half a sent")
    page.locator("input[name=finding-Edema][value=absent]").check()
    wait_until_it_hears(page)
    scene.device.put(RecordType.ENCOUNTER, {"notes": "Now intubated."}, scene.runs["pneumothorax"])
    scene.device.vital_signs(scene.runs["pneumothorax"], spo2=71)
    scene.send()
    expect(page.locator("#facts")).to_contain_text("Now intubated.")
    expect(page.locator(".signs tbody tr").first).to_contain_text("71")
    expect(page.get_by_label("Text", exact=True)).to_have_value("half a sent")
    expect(page.locator("input[name=finding-Edema][value=absent]")).to_be_checked()


def test_what_changes_before_the_page_hears_of_changes_is_shown(scene: Scene, log_in: LogIn) -> None:
    page, held = log_in("/"), list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/live", hold)
    page.goto(f"/runs/{scene.runs['routine']}")
    while not held:
        page.wait_for_timeout(50)
    scene.device.put(RecordType.ENCOUNTER, {"notes": "Now intubated."}, scene.runs["routine"])
    scene.send()
    expect(page.locator("#facts")).not_to_contain_text("Now intubated.")
    held[0].continue_()
    expect(page.locator("#facts")).to_contain_text("Now intubated.")


def test_an_empty_reading_is_refused_in_words(page: Page) -> None:
    page.get_by_role("button", name="Confirm the reading").click()
    expect(page.get_by_role("alert").filter(has_text="says nothing yet")).to_be_visible()


def test_the_preview_stands_in_until_the_original_comes(scene: Scene, log_in: LogIn) -> None:
    page = log_in(f"/runs/{scene.runs['routine']}")
    expect(page.locator(".pane-note")).to_contain_text("Preview from the ambulance")
    expect(page.locator("#facts")).to_contain_text("Waits for the original image")
    expect(page.get_by_role("button", name="Side by side")).to_be_disabled()
    expect(page.locator(".pane img")).to_have_js_property("naturalWidth", 512)


def test_a_film_that_could_not_be_read_says_why(scene: Scene, log_in: LogIn) -> None:
    page = log_in(f"/runs/{scene.runs['unknown']}")
    expect(page.locator("#facts")).to_contain_text("Could not be read")
    expect(page.locator("#facts")).to_contain_text("The DICOM file breaks off")
    expect(page.locator(".pane-note")).to_contain_text("still on its way")


def test_a_corrected_film_is_shown_as_it_was_read(scene: Scene, log_in: LogIn) -> None:
    film = scene.films["pneumothorax"]
    with scene.hospital.database.reading() as session:
        from sync_server.db.tables import RadiographRow

        row = session.get(RadiographRow, film)
        assert row is not None
        sha256 = row.sha256
    assert sha256 is not None
    turned = diagnosis(sha256, {"Mass": 0.6}, [], correction={"quarter_turns": 1, "invert": False})
    scene.device.put(
        RecordType.DIAGNOSIS, {"radiograph": film, "made_at": "2030-01-01T00:00:00Z", "result": turned}, new_id()
    )
    scene.send()
    page = log_in(f"/runs/{scene.runs['pneumothorax']}")
    wait_for(page, "document.querySelector('.pane img').naturalWidth === 1955")
    expect(page.locator("#facts")).to_contain_text("Shown corrected: turned 90° anticlockwise")


def test_values_that_lost_are_shown(scene: Scene, log_in: LogIn) -> None:
    run = scene.runs["routine"]
    older = scene.device.clock.now()
    scene.device.put(RecordType.ENCOUNTER, {"chief_complaint": "Newer words"}, run)
    scene.device.put(RecordType.ENCOUNTER, {"chief_complaint": "Older words"}, run, stamp=older)
    scene.send()
    page = log_in(f"/runs/{run}")
    expect(page.locator("dl.facts dd").first).to_have_text("Newer words")
    page.get_by_text("Replaced values").click()
    expect(page.locator("details", has_text="Replaced values")).to_contain_text("Older words")
