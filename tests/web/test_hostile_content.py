"""Texts that would be scripts, in every field a device, a patient or a colleague can fill, on every page, in Chromium.

Nothing of them runs: no dialog, no error, no complaint of the content security policy, no request to elsewhere, no
element made of them; and they are shown as the text they are.
"""

import csv
import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect

from shared.identity import new_id
from shared.records import RecordType
from sync_server.db.tables import ServerReadingRow
from sync_server.domain import accounts, acts, hiding
from sync_server.domain.accounts import Role
from sync_server.hospital import Hospital
from tests.hospital import enrolled_device, new_hospital
from tests.web.scene import PASSWORD, Scene, diagnosis, served
from tests.web.waiting import HEARING, SECONDS, wait_until_it_hears

SHOTS = os.environ.get("FIRSTRAY_SHOTS")
"""Folder for pictures, to look at."""
HOSTILE = {
    "script": "<script>alert(1)</script>",
    "image": '"><img src=x onerror=alert(1)>',
    "attribute": "' onmouseover=alert(1) autofocus onfocus=alert(1) x='",
    "template": "{{ 7919*7907 }}{% raw %}${7919*7907}<%= 7919*7907 %>",
    "vector": "</title></textarea></style><svg onload=alert(1)>",
    "htmx": '<b hx-get="/logout" hx-trigger="load" data-hx-on:load="alert(1)">x</b>',
    "address": "javascript:alert(1)//",
    "stream": "x</div><iframe srcdoc='<script>parent.alert(1)</script>'>",
    "formula": '=HYPERLINK("http://evil.example","click")',
}
WALL = ('"><img src=x onerror=alert(1)>' * 4)[:120]
STRANGE = "script, iframe, img[src='x'], svg[onload], [onerror], [onload], [onmouseover], [onfocus], [hx-get='/logout']"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    hospital = new_hospital(tmp_path_factory.mktemp("hospital"), hospital_name=HOSTILE["script"])
    yield furnished(hospital)
    hospital.close()


@pytest.fixture(scope="module")
def address(scene: Scene) -> Iterator[str]:
    with served(scene.hospital) as found:
        yield found


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """An admin's; whatever should not happen on a page fails the test at its end."""
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(SECONDS * 1000)
    context.add_init_script(HEARING)
    page = context.new_page()
    wrong: list[str] = []
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda asked: None if asked.url.startswith((address, "data:")) else wrong.append(asked.url))
    page.goto("/login")
    page.fill("#login", "admin")
    page.fill("#password", PASSWORD)
    page.click("button.primary")
    page.wait_for_url("**/board")
    yield page
    context.close()
    assert wrong == []


def furnished(hospital: Hospital) -> Scene:
    """A hostile text in every field there is."""
    with hospital.database.writing() as session:
        accounts.create_user(session, "admin", HOSTILE["image"], Role.ADMIN, PASSWORD, "test", "en")
        accounts.create_user(session, "doctor", HOSTILE["script"], Role.ER, PASSWORD, "test", "en")
    scene = Scene(hospital, enrolled_device(hospital, HOSTILE["image"]))
    for kind, text in HOSTILE.items():
        patient = {"name": text, "sex": "female", "identifiers": [{"system": text, "value": text}]}
        run = scene.person(kind, patient, 10, chief_complaint=text, notes=f"{text}\n{WALL}", incident_number=text)
        label = {"name": text, "patient_id": text, "birth_date": text, "sex": text}
        film = scene.device.film(
            run, sha256=f"{len(scene.films) + 1:064x}", acquired_at=text, station=text, device_patient=label
        )
        scene.films[kind] = film
        read = diagnosis(f"{len(scene.films):064x}", {"Pneumothorax": 0.9}, [], release=text[:60], prevalence=text[:60])
        scene.device.diagnosis(film, result=read)
        unread = scene.device.film(run, sha256=f"{len(scene.films) + 100:064x}")
        scene.device.put(RecordType.DIAGNOSIS, {"radiograph": unread, "made_at": datetime.now(UTC), "error": text})
        scene.device.put(RecordType.PATIENT, {"name": f"{text} "}, new_id())
    scene.send()
    token = accounts.log_in(hospital.database, "doctor", PASSWORD, HOSTILE["script"])
    doctor = accounts.person(hospital.database, token)
    assert doctor is not None
    for kind, text in HOSTILE.items():
        acts.acknowledge(hospital, doctor, scene.runs[kind])
        acts.send_message(hospital, doctor, scene.runs[kind], text)
        acts.confirm(hospital, doctor, scene.runs[kind], scene.films[kind], {}, text)
    with hospital.database.writing() as session:
        now = datetime.now(UTC)
        session.add(
            ServerReadingRow(
                id=new_id(), sha256="ff" * 32, release=HOSTILE["image"], state="poison", tries=3,
                error=HOSTILE["script"], asked_at=now, due_at=now,
            )
        )  # fmt: skip
    hidden = scene.person("hidden", {"name": HOSTILE["vector"]}, 5, chief_complaint=HOSTILE["image"])
    scene.send()
    hospital.database.write(lambda session: hiding.hide(session, [hidden], HOSTILE["script"], HOSTILE["image"]))
    return scene


def look_at(page: Page, *texts: str) -> None:
    """The page is whole, shows these texts, and none of its elements came from them."""
    page.wait_for_timeout(300)
    ours = page.locator("script[src^='/static/']").count()
    assert page.locator("script").count() == ours
    for selector in STRANGE.split(", ")[1:]:
        assert page.locator(selector).count() == 0, selector
    shown = page.locator("body").inner_text()
    for text in texts:
        assert " ".join(text.split()) in " ".join(shown.split()), text
    assert str(7919 * 7907) not in shown, "a template calculated"


def test_the_board_and_what_comes_over_its_stream(scene: Scene, page: Page) -> None:
    expect(page.locator("#board .run")).to_have_count(len(HOSTILE))
    look_at(page, *HOSTILE.values())
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / "hostile-board.png", full_page=True)
    late = scene.person("late", {"name": WALL, "sex": "male"}, 1, chief_complaint=HOSTILE["stream"])
    film = scene.device.film(late, sha256="ee" * 32)
    scene.device.diagnosis(film, result=diagnosis("ee" * 32, {"Pneumothorax": 0.9}, []))
    scene.send()
    expect(page.locator(f"#run-{late} h3 a")).to_have_text(WALL)
    look_at(page, WALL, HOSTILE["stream"])
    scene.device.delete(RecordType.ENCOUNTER, late)
    scene.send()
    expect(page.locator(f"#run-{late}")).to_have_count(0)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_runs_page(scene: Scene, page: Page, kind: str) -> None:
    page.goto(f"/runs/{scene.runs[kind]}?film={scene.films[kind]}")
    text = HOSTILE[kind]
    expect(page.locator("h1")).to_have_text(text)
    look_at(page, text, WALL)
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"hostile-run-{kind}.png", full_page=True)
    wait_until_it_hears(page)
    scene.device.put(RecordType.ENCOUNTER, {"chief_complaint": f"{text} again"}, scene.runs[kind])
    scene.send()
    expect(page.locator("body")).to_contain_text(f"{text} again")
    look_at(page, text)


def test_the_admins_pages(scene: Scene, page: Page) -> None:
    runs = list(scene.runs.values())
    for path in (
        "/admin",
        "/admin/histories",
        "/admin/histories?shown=hidden",
        f"/admin/merges/new?run={runs[0]}&run={runs[1]}",
        "/admin/merges",
        "/admin/devices",
        f"/admin/devices/{scene.device.id}",
        "/admin/users",
        "/admin/releases",
        "/admin/audit",
    ):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        look_at(page)
    page.goto("/admin/histories")
    look_at(page, HOSTILE["script"], HOSTILE["image"], HOSTILE["vector"])
    page.goto("/admin/users")
    look_at(page, HOSTILE["script"])
    page.goto("/admin/devices")
    look_at(page, HOSTILE["image"])


@pytest.mark.parametrize("kind", ["script", "image", "attribute", "template", "vector"])
def test_what_is_typed_comes_back_as_text(page: Page, kind: str) -> None:
    text = HOSTILE[kind]
    for path in (
        "/admin/histories?q={}",
        "/admin/audit?actor={}",
        "/admin/audit?subject={}",
        "/board?x={}",
        "/runs/{}",
    ):
        page.goto(path.format(quote(text, safe="")))
        look_at(page)
    page.goto("/admin/histories?q=" + quote(text, safe=""))
    expect(page.locator("input[name=q]")).to_have_value(text)


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "/\\evil.example"])
def test_the_log_in_leads_nowhere_else(browser: Browser, address: str, next: str) -> None:
    context = browser.new_context(base_url=address)
    page = context.new_page()
    page.goto("/login?next=" + quote(next, safe=""))
    page.fill("#login", "doctor")
    page.fill("#password", PASSWORD)
    page.click("button.primary")
    page.wait_for_url(f"{address}/board")
    context.close()


def test_a_failed_log_in_shows_the_login_as_text(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address)
    page = context.new_page()
    wrong: list[str] = []
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.goto("/login")
    page.fill("#login", HOSTILE["image"])
    page.fill("#password", "x")
    page.click("button.primary")
    expect(page.locator("#login")).to_have_value(HOSTILE["image"])
    look_at(page)
    context.close()
    assert wrong == []


def test_a_spreadsheet_calculates_nothing(scene: Scene, page: Page, tmp_path: Path) -> None:
    cells = [cell for row in exported(page, tmp_path, scene.runs["formula"]) for cell in row]
    assert f"'{HOSTILE['formula']}" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]


def exported(page: Page, folder: Path, run: UUID) -> list[list[str]]:
    """The table of a run, downloaded as an admin does it."""
    page.goto("/admin/histories")
    csrf = page.locator("input[name=csrf]").first.get_attribute("value")
    answer = page.request.post(
        "/admin/histories/export",
        form={"csrf": csrf or "", "format": "csv", "scope": "chosen", "run": str(run)},
    )
    assert answer.status == 200
    (folder / "runs.csv").write_bytes(answer.body())
    return list(csv.reader(io.StringIO(answer.body().decode("utf-8-sig"))))
