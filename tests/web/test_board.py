"""The board in Chromium: live, loud where it matters, honest about a lost connection, deaf to hostile names."""

from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import expect

from shared.identity import new_id
from shared.records import RecordType
from sync_server.domain import accounts, acts
from tests.hospital import new_hospital
from tests.web.conftest import LogIn
from tests.web.scene import SCRIPT, Scene, diagnosis, night, served


def test_runs_are_in_order_of_urgency_with_what_is_known(scene: Scene, log_in: LogIn) -> None:
    page = log_in()
    today = datetime.now()
    years = today.year - 1957 - ((today.month, today.day) < (3, 2))
    names = page.locator("section:first-of-type .run h3 a")
    expect(names.first).to_have_text("김하늘")
    first = page.locator(f"#run-{scene.runs['pneumothorax']}")
    for text in (
        f"Female · {years} years",
        "Urgent: Pneumothorax",
        "88%",
        "88/50",
        "Hospital's reading differs",
        "Ambulance 7",
    ):
        expect(first).to_contain_text(text)
    expect(first.locator(".figures .urgent")).to_have_count(4)
    unknown = page.locator(f"#run-{scene.runs['unknown']}")
    expect(unknown).to_contain_text("Could not be read")
    expect(page.locator(f"#run-{scene.runs['routine']}")).to_contain_text("Nothing reached the alarm level")
    expect(page.get_by_role("heading", name="Ended in the last 6 hours: 1")).to_be_visible()


def test_a_hostile_name_is_shown_and_does_nothing(scene: Scene, log_in: LogIn) -> None:
    page = log_in()
    expect(page.locator(f"#run-{scene.runs['no film']} h3 a")).to_have_text(SCRIPT)
    page.click(f"#link-{scene.runs['no film']}")
    expect(page.locator("h1")).to_have_text(SCRIPT)
    assert page.title().startswith(SCRIPT)


def test_what_is_pressed_is_not_taken_from_under_the_finger(scene: Scene, log_in: LogIn) -> None:
    page = log_in()

    def press(selector: str, name: str) -> str:
        run = scene.person(name, {"name": name}, 1)
        page.hover(selector)
        page.mouse.down()  # held for three seconds at most
        scene.send()
        page.wait_for_timeout(400)
        expect(page.locator(f"#run-{run}")).to_have_count(0)
        page.mouse.up()
        return f"#run-{run}"

    expect(page.locator(press("#under-way", "Ko Bora"))).to_be_visible()
    press(f"#link-{scene.runs['pneumothorax']}", "Ko Nara")
    page.wait_for_url(f"**/runs/{scene.runs['pneumothorax']}*")


def test_a_new_urgent_run_appears_stands_out_is_announced_and_sounds(scene: Scene, log_in: LogIn) -> None:
    page = log_in()
    page.evaluate("window.tones = []; addEventListener('firstray:sounded', (event) => tones.push(event.detail))")
    sound = page.locator("[data-sound]")
    expect(sound).to_have_attribute("aria-pressed", "false")
    sound.click()
    expect(sound).to_have_text("Sound on")
    expect(sound).to_have_attribute("aria-pressed", "true")
    page.evaluate("window.same = true; tones.length = 0")

    run = scene.person("late", {"name": "Jung Ara", "sex": "female", "estimated_age": 45}, 1, chief_complaint="Stabbed")
    film = scene.device.film(run, sha256="12" * 32)
    scene.device.diagnosis(film, result=diagnosis("12" * 32, {"Pneumothorax": 0.9}, []))
    scene.send()

    late = page.locator(f"#run-{run}")
    expect(late).to_be_visible()
    expect(late.locator(".news")).to_have_text("new")
    expect(page.locator("[data-announce]")).to_contain_text("New: Jung Ara, Pneumothorax")
    assert page.evaluate("tones") == [3]
    assert page.evaluate("window.same"), "the page was not loaded again"

    sound.click()
    expect(sound).to_have_text("Sound off")
    scene.device.put(RecordType.ENCOUNTER, {"chief_complaint": "Stabbed, unstable"}, run)
    scene.send()
    expect(late).to_contain_text("unstable")
    expect(late.locator(".news")).to_have_text("new")
    assert page.evaluate("tones") == [3], "muted"


def test_an_acknowledgement_shows_on_every_board_and_keeps_the_focus(scene: Scene, log_in: LogIn) -> None:
    page = log_in()
    page.focus(f"#link-{scene.runs['unknown']}")
    run = page.locator(f"#run-{scene.runs['unknown']}")
    expect(run).to_contain_text("Not acknowledged")
    with scene.hospital.database.reading() as session:
        doctor = accounts.find(session, "doctor")
    token = accounts.log_in(scene.hospital.database, "doctor", "fifteen quiet ambulances", "10.0.0.1")
    person = accounts.person(scene.hospital.database, token)
    assert person is not None
    assert person.id == doctor.id
    acts.acknowledge(scene.hospital, person, scene.runs["unknown"])
    expect(run).to_contain_text("Acknowledged")
    expect(run).not_to_contain_text("Not acknowledged")
    expect(run.locator(".news")).to_have_text("changed")
    assert page.evaluate("document.activeElement.id") == f"link-{scene.runs['unknown']}"


def test_a_lost_connection_is_said_and_the_board_comes_back_by_itself(tmp_path: Path, log_in: LogIn) -> None:
    hospital = new_hospital(tmp_path)
    scene = night(hospital)
    with served(hospital) as address:
        page = log_in()
        page.goto(f"{address}/login")
        page.fill("#login", "doctor")
        page.fill("#password", "fifteen quiet ambulances")
        page.click("button.primary")
        banner = page.locator("[data-lost]")
        expect(page.locator("#board .run")).to_have_count(5)
        expect(banner).to_be_hidden()
        port = int(address.rpartition(":")[2])
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("may be out of date")
    hospital.close()

    again = new_hospital(tmp_path)
    scene.hospital = scene.device.hospital = again
    who, run = new_id(), new_id()
    scene.device.put(RecordType.PATIENT, {"name": "While away"}, who)
    scene.device.put(RecordType.ENCOUNTER, {"patient": str(who), "started_at": datetime.now(UTC)}, run)
    scene.send()
    with served(again, port=port):
        expect(banner).to_be_hidden()
        expect(page.locator(f"#run-{run}")).to_contain_text("While away")
    again.close()


def test_a_log_in_that_has_ended_leads_to_the_log_in(scene: Scene, log_in: LogIn) -> None:
    page = log_in(login="admin")
    with scene.hospital.database.writing() as session:
        accounts.set_password(session, accounts.find(session, "admin").id, "fifteen quiet ambulances", "test")
    page.reload()
    page.wait_for_url("**/login?next=*")


def test_every_change_is_on_the_screen_without_a_reload(scene: Scene, log_in: LogIn) -> None:
    page = log_in()
    run = scene.runs["no film"]
    complaint = page.locator(f"#run-{run} .complaint")
    expect(complaint).to_be_visible()
    for number in range(5):
        scene.device.put(RecordType.ENCOUNTER, {"chief_complaint": f"Change {number}"}, run)
        scene.send()
        expect(complaint).to_have_text(f"Change {number}")
