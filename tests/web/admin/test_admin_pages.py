"""The admin's pages in a real Chromium: each by what an admin does there, and by axe-core."""

import base64
import csv
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlmodel import select

from shared.identity import new_id
from sync_server.db.tables import AccountRow, DeviceRow, HistoryRow, ReleaseRow, RingRow, ServerReadingRow
from sync_server.domain import accounts
from tests.hospital import enrolled_device, new_hospital
from tests.web.conftest import violations
from tests.web.scene import PASSWORD, SCRIPT, Scene, night, served
from tests.web.waiting import wait_for

SHOTS = os.environ.get("FIRSTRAY_SHOTS")
"""Folder for a picture of each page, to look at."""
PAGES = ("", "/histories", "/histories?shown=hidden", "/merges", "/devices", "/users", "/releases", "/audit")
NOW = datetime.now(UTC)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    hospital = new_hospital(tmp_path, public_url="http://127.0.0.1:8000")
    yield night(hospital)
    hospital.close()


@pytest.fixture
def address(scene: Scene) -> Iterator[str]:
    with served(scene.hospital) as url:
        yield url


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """Logged in as an admin; fails the test where a page has an error in its console or a dialog pops up."""
    page = context.new_page()
    wrong: list[str] = []
    # A refusal is a page of its own, which Chromium calls a resource that failed.
    refusal = re.compile("Failed to load resource: the server responded with a status of 422")
    page.on(
        "console",
        lambda said: wrong.append(said.text) if said.type == "error" and not refusal.match(said.text) else None,
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    log_in(page, address, "admin")
    yield page
    assert wrong == []


def log_in(page: Page, address: str, login: str, password: str = PASSWORD) -> None:
    page.goto(f"{address}/login")
    page.get_by_label("Login").or_(page.get_by_label("아이디")).fill(login)
    page.get_by_label("Password").or_(page.get_by_label("비밀번호")).fill(password)
    page.locator("form[action='/login'] button").click()
    page.wait_for_url(f"{address}/board")


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def furnish(scene: Scene) -> None:
    """Something on every page: devices in trouble, images set aside, releases and rings, a merge, deleted runs."""
    lost = enrolled_device(scene.hospital, "Ambulance 9")
    lost.run("이지우")
    lost.send()
    with scene.hospital.database.writing() as session:
        for row in session.exec(select(DeviceRow)).all():
            row.seen_at = NOW - timedelta(days=9 if row.name == "Ambulance 9" else 0)
            row.flagged = "fork" if row.name == "Ambulance 7" else None
            session.add(row)
        for number, state in enumerate(("poison", "failed", "waiting")):
            session.add(
                ServerReadingRow(
                    id=new_id(),
                    sha256=f"{number:064x}",
                    release="2026-11-25.2",
                    state=state,
                    tries=3,
                    error="worker_died",
                    asked_at=NOW - timedelta(minutes=30),
                    due_at=NOW,
                )
            )
        for number, name in enumerate(("2026-10-01.1", "2026-11-25.2")):
            session.add(
                ReleaseRow(
                    id=name, sha256="ab" * 32, size=10**7, manifest={}, uploaded_at=NOW, uploaded_by="user:admin"
                )
            )
            session.add(RingRow(id=number + 1, ring="server", release=name, at=NOW, by="user:admin"))


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_page_is_whole_on_desk_and_phone(
    page: Page, context: BrowserContext, scene: Scene, address: str, language: str, scheme: str
) -> None:
    furnish(scene)
    with scene.hospital.database.writing() as session:
        admin = accounts.find(session, "admin")
        accounts.set_language(session, admin.id, "ko" if language == "ko" else "en")
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    device = scene.device.id
    wrong: list[tuple[str, int, str]] = []
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for path in (*PAGES, f"/devices/{device}"):
            answer = page.goto(f"{address}/admin{path}")
            assert answer is not None
            assert answer.status == 200
            name = re.sub(r"\W+", "-", path) if str(device) not in path else "-device"
            shot(page, f"admin{name}-{width}-{scheme}-{language}")
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            wrong += [(path, width, f"wider than the screen by {wide}")] if wide > 0 else []
            wrong += [(path, width, one) for one in violations(page)]
            if language == "ko":
                texts = page.locator("main :is(h1, h2, th, label, legend, button)").all_inner_texts()
                latin = [text for text in texts if re.fullmatch(r"[A-Za-z ,.…']+", text.strip())]
                wrong += [(path, width, text) for text in latin if text.strip() not in ("ID", "English")]
    assert wrong == []


def test_a_history_is_found_deleted_with_a_reason_and_shown_again(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/histories")
    expect(page.get_by_text("Runs found: 5")).to_be_visible()
    page.get_by_label("Name, identifier").fill("하늘 a-4471")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("Runs found: 1")).to_be_visible()
    row = page.get_by_role("row", name=re.compile("김하늘"))
    expect(row).to_contain_text("Pneumothorax")
    expect(row).to_contain_text("differs")
    row.get_by_role("checkbox").check()
    expect(page.get_by_text("Chosen: 1")).to_be_visible()
    page.get_by_role("button", name="Delete …").click()
    delete = page.get_by_role("dialog").get_by_role("button", name="Delete")
    delete.click()  # without a reason nothing is sent
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Reason").fill("registered twice")
    delete.click()
    expect(page.get_by_role("status").first).to_contain_text("Deleted: 1. Gone for good in 30 days.")
    expect(page.get_by_text("Nothing matches.")).to_be_visible()
    page.goto(f"{address}/admin/histories?shown=hidden")
    row = page.get_by_role("row", name=re.compile("김하늘"))
    expect(row).to_contain_text("registered twice")
    expect(row).to_contain_text("user:admin")
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Show the chosen runs again").click()
    expect(page.get_by_role("status").first).to_contain_text("Shown again: 1")
    page.goto(f"{address}/admin/audit?action=run.")
    expect(page.get_by_role("row", name=re.compile("run.deleted"))).to_contain_text("registered twice")
    expect(page.get_by_role("row", name=re.compile("run.restored"))).to_be_visible()


def test_filters_stay_and_the_keyboard_is_enough(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/histories")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Name, identifier")).to_be_focused()
    page.get_by_label("Finding").select_option("Pneumothorax")
    page.get_by_label("Urgent").select_option("true")
    page.get_by_label("Sorted by").select_option("name")
    page.get_by_label("Name, identifier").press("Enter")
    expect(page.get_by_text("Runs found: 1")).to_be_visible()
    expect(page.get_by_label("Finding")).to_have_value("Pneumothorax")
    expect(page.get_by_label("Sorted by")).to_have_value("name")


def test_exports_are_files_of_what_was_chosen_or_found(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/histories?q=john")
    page.get_by_label("Choose all on this page").check()

    def download(form: str, scope: str) -> bytes:
        page.get_by_role("button", name="Export …").click()
        page.get_by_role("radio", name=scope).check()
        page.get_by_label("As", exact=True).select_option(form)
        with page.expect_download() as begun:
            page.get_by_role("dialog").get_by_role("button", name="Export").click()
        page.get_by_role("button", name="Close").click()
        assert begun.value.suggested_filename.startswith("firstray-")
        return Path(begun.value.path()).read_bytes()

    rows = list(csv.DictReader(io.StringIO(download("csv", "the chosen runs").decode("utf-8-sig"))))
    assert [row["name"] for row in rows] == ["John Ahn"]
    bundle = json.loads(download("fhir", "all that match"))
    assert [one["resource"]["name"][0]["text"] for one in bundle["entry"] if "name" in one["resource"]] == ["John Ahn"]
    with zipfile.ZipFile(io.BytesIO(download("zip", "all that match"))) as archive:
        assert "images.csv" in archive.namelist()
    page.goto(f"{address}/admin/audit?action=runs.exported")
    expect(page.get_by_role("row", name=re.compile("runs.exported"))).to_have_count(3)


def test_two_patients_are_compared_merged_and_taken_apart(page: Page, address: str, scene: Scene) -> None:
    page.goto(f"{address}/admin/histories")
    for who in ("Unknown man", "John Ahn"):
        page.get_by_role("row", name=re.compile(who)).get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare two patients …").click()
    expect(page.get_by_role("heading", name="Are these two the same patient?")).to_be_visible()
    shot(page, "admin-merge")
    assert violations(page) == []
    page.locator("section", has=page.get_by_role("heading", name="John Ahn")).get_by_label("This one remains").check()
    page.get_by_label("Why are they the same?").fill("wallet found")
    page.get_by_role("button", name="Merge").click()
    expect(page.get_by_role("row", name=re.compile("Unknown man"))).to_contain_text("wallet found")
    with scene.hospital.database.reading() as session:
        merged = session.get_one(HistoryRow, scene.runs["unknown"])
        assert merged.name == "John Ahn"
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("No patients are merged.")).to_be_visible()
    with scene.hospital.database.reading() as session:
        assert session.get_one(HistoryRow, scene.runs["unknown"]).name is None


def test_merging_three_or_one_is_refused_in_words(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/histories")
    page.get_by_label("Choose all on this page").check()
    page.get_by_role("button", name="Compare two patients …").click()
    expect(page.get_by_text("Choose one run of each patient.")).to_be_visible()


def test_a_device_is_taken_on_moved_and_shut_out(page: Page, address: str, scene: Scene) -> None:
    page.goto(f"{address}/admin/devices")
    page.get_by_label("Name of the device").fill("Ambulance 12")
    page.get_by_role("button", name="Make a code").click()
    expect(page.get_by_role("heading", name="Code for Ambulance 12")).to_be_visible()
    shot(page, "admin-code")
    assert violations(page) == []
    picture = page.get_by_role("img", name=re.compile("QR code"))
    wait_for(page, "document.querySelector('img[alt*=\"QR code\"]').naturalWidth > 50")
    source = picture.get_attribute("src") or ""
    assert b"<svg" in base64.b64decode(source.partition(",")[2])
    page.goto(f"{address}/admin/devices/{scene.device.id}")
    page.get_by_label("Ring").fill("pilot")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_label("Ring")).to_have_value("pilot")
    shut_out = page.get_by_role("button", name="Shut out")
    expect(shut_out).to_be_disabled()
    page.get_by_label(re.compile("Type the device's name")).fill("Ambulance 7")
    page.get_by_label(re.compile("Lost or stolen")).check()
    shut_out.click()
    expect(page.get_by_role("status").first).to_contain_text("will be wiped")
    with scene.hospital.database.reading() as session:
        row = session.get_one(DeviceRow, scene.device.id)
        assert (row.wipe, row.revoked_by, row.ring) == (True, "user:admin", "pilot")


def test_an_account_is_made_used_and_shut_out(page: Page, browser: Browser, address: str, scene: Scene) -> None:
    page.goto(f"{address}/admin/users")
    page.get_by_label("Login").fill("nurse")
    page.get_by_label("Name").fill("한지민")
    page.get_by_role("button", name="Make the account").click()
    expect(page.get_by_role("heading", name="The account nurse is made")).to_be_visible()
    password = page.locator("code.large").inner_text()
    assert re.fullmatch(r"([a-z2-9]{5}-){3}[a-z2-9]{5}", password)
    other = browser.new_context()
    try:
        nurse = other.new_page()
        log_in(nurse, address, "nurse", password)
        refused = nurse.goto(f"{address}/admin/users")
        assert refused is not None
        assert refused.status == 403
        page.goto(f"{address}/admin/users")
        page.get_by_role("button", name="Shut out nurse").click()
        expect(page.get_by_role("button", name="Let in again nurse")).to_be_visible()
        nurse.goto(f"{address}/board")
        expect(nurse).to_have_url(re.compile("/login"))
    finally:
        other.close()
    page.get_by_role("button", name="Change to: Admin nurse").click()
    expect(page.get_by_role("button", name="Change to: Admin nurse")).to_have_count(0)
    with scene.hospital.database.reading() as session:
        row = session.exec(select(AccountRow).where(AccountRow.login == "nurse")).one()
        assert row.role == "admin"
    expect(page.get_by_role("row", name=re.compile("Park Jiho"))).to_contain_text("You")


def test_an_image_set_aside_is_tried_again(page: Page, address: str, scene: Scene) -> None:
    furnish(scene)
    page.goto(f"{address}/admin")
    expect(page.get_by_text(re.compile("Is a worker running"))).to_be_visible()
    expect(page.get_by_text("Tried in vain so far, and tried again by itself: worker_died")).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("status").first).to_contain_text("waits to be read again")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)


def test_a_release_that_is_none_is_refused_and_a_ring_rolls_back(
    page: Page, address: str, scene: Scene, tmp_path: Path
) -> None:
    furnish(scene)
    page.goto(f"{address}/admin/releases")
    page.get_by_role("button", name="Back to 2026-10-01.1").click()
    expect(page.get_by_role("row", name=re.compile("This hospital"))).to_contain_text("2026-10-01.1")
    forged = tmp_path / "release.zip"
    with zipfile.ZipFile(forged, "w") as archive:
        archive.writestr("../../manifest.json", "{}")
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status) if answer.request.method == "POST" else None)
    page.get_by_label("ZIP file of the release").set_input_files(forged)
    page.get_by_role("button", name="Upload and verify").click()
    expect(page.get_by_role("heading", name="This did not work")).to_be_visible()
    assert answers[-1] == 422


def test_the_audit_log_is_searched_and_a_change_of_it_is_seen(page: Page, address: str, scene: Scene) -> None:
    page.goto(f"{address}/admin/audit")
    page.get_by_role("button", name="Verify the log").click()
    expect(page.get_by_role("status").first).to_contain_text("The log is whole")
    page.get_by_role("textbox", name="What (begins with)", exact=True).fill("user.")
    page.get_by_role("button", name="Search").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("user.created")
    with scene.hospital.database.writing() as session:
        session.connection().exec_driver_sql("UPDATE audit SET actor = 'user:nobody' WHERE number = 1")
    page.get_by_role("button", name="Verify the log").click()
    expect(page.get_by_role("status").first).to_contain_text("broken at entry 1")


def test_a_name_that_is_a_script_is_a_name(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/histories")
    expect(page.get_by_role("link", name=SCRIPT)).to_be_visible()
    page.goto(f"{address}/admin/histories?q=%3Cscript%3Ealert(1)%3C/script%3E")
    expect(page.get_by_text("Runs found: 1")).to_be_visible()
    expect(page.get_by_label("Name, identifier")).to_have_value(SCRIPT)
