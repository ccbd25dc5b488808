"""The pages' routes without a browser: who may see what, forged requests, headers, what is written into the log."""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageChops
from sqlmodel import select

from shared.identity import new_id
from sync_server import web
from sync_server.app import make_app
from sync_server.db.tables import AcknowledgementRow, AuditRow, ConfirmedReadingRow, MessageRow
from sync_server.domain import accounts
from sync_server.domain.accounts import Role
from sync_server.web.pages import HEADERS, local
from tests.hospital import new_hospital
from tests.web.scene import PASSWORD, SCRIPT, Scene, night

HTML = {"accept": "text/html"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    hospital = new_hospital(tmp_path_factory.mktemp("night"), listen=False)
    yield night(hospital)
    hospital.close()


@pytest.fixture
def anybody(scene: Scene) -> TestClient:
    """Nobody has logged in; the application's lifespan is not entered, for it would close the hospital."""
    return TestClient(make_app(hospital=scene.hospital), follow_redirects=False)


def logged_in(client: TestClient, login: str = "doctor") -> TestClient:
    answer = client.post("/login", data={"login": login, "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    return client


@pytest.fixture
def doctor(anybody: TestClient) -> TestClient:
    return logged_in(anybody)


def csrf(client: TestClient, path: str = "/board") -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get(path, headers=HTML).text)
    assert found
    return found[1]


def paths(scene: Scene) -> list[tuple[str, str]]:
    """Every route of the ER's pages with its method, filled in."""
    filled = []
    run, film = scene.runs["pneumothorax"], scene.films["pneumothorax"]
    app = make_app(hospital=scene.hospital)
    document = app.openapi()
    assert not any(path.startswith("/runs") for path in document["paths"]), "pages are no API"
    for router in (web.login.router, web.own_account.router, web.board.router, web.runs.router):
        for route in router.routes:
            path = route.path.replace("{encounter}", str(run)).replace("{film}", str(film))  # type: ignore[attr-defined]
            filled += [(method, path) for method in route.methods]  # type: ignore[attr-defined]
    return filled


OPEN = {("GET", "/login"), ("POST", "/login"), ("POST", "/language")}


def test_every_route_is_closed_to_nobody(scene: Scene, anybody: TestClient) -> None:
    closed = [one for one in paths(scene) if one not in OPEN]
    assert len(closed) >= 11
    for method, path in closed:
        answer = anybody.request(method, path)
        assert answer.status_code == 401, (method, path)
        assert "김하늘" not in answer.text


def test_a_person_without_log_in_is_led_to_it_and_back(scene: Scene, anybody: TestClient) -> None:
    page = f"/runs/{scene.runs['routine']}?film={new_id()}"
    answer = anybody.get(page, headers=HTML)
    assert answer.status_code == 303
    form = anybody.get(answer.headers["location"], headers=HTML).text
    assert f'name="next" value="{page}"' in form
    back = anybody.post("/login", data={"login": "doctor", "password": PASSWORD, "next": page})
    assert back.headers["location"] == page


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\n"]
)
def test_nobody_is_led_elsewhere(path: str, anybody: TestClient) -> None:
    assert local(path) == "/"
    answer = anybody.post("/login", data={"login": "doctor", "password": PASSWORD, "next": path})
    assert answer.headers["location"] == "/"


def test_a_wrong_password_is_told_and_opens_nothing(anybody: TestClient) -> None:
    answer = anybody.post("/login", data={"login": "doctor", "password": "wrong"}, headers={"accept-language": "en"})
    assert answer.status_code == 401
    assert "do not fit together" in answer.text
    assert "set-cookie" not in answer.headers
    assert "wrong" not in answer.text.replace("wrong password", "")


def test_the_cookie_is_out_of_scripts_and_other_sites_reach(scene: Scene, anybody: TestClient) -> None:
    cookie = anybody.post("/login", data={"login": "doctor", "password": PASSWORD}).headers["set-cookie"]
    assert cookie.startswith("firstray=")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))


def test_the_cookie_is_bound_to_the_host_where_there_is_tls(tmp_path: Path) -> None:
    hospital = new_hospital(tmp_path, listen=False, behind_proxy=True, public_url="https://er.example")
    with hospital.database.writing() as session:
        accounts.create_user(session, "doctor", "A", Role.ER, PASSWORD, "test")
    client = TestClient(make_app(hospital=hospital), base_url="https://er.example", follow_redirects=False)
    cookie = client.post("/login", data={"login": "doctor", "password": PASSWORD}).headers["set-cookie"]
    assert cookie.startswith("__Host-firstray=")
    assert "Secure" in cookie.split("; ")
    assert client.get("/board", headers=HTML).status_code == 200
    hospital.close()


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"}]
)
def test_changes_that_another_site_began_are_refused(scene: Scene, doctor: TestClient, headers: dict[str, str]) -> None:
    token = csrf(doctor)
    url = f"/runs/{scene.runs['routine']}/message"
    for answer in (
        doctor.post(url, data={"csrf": token, "text": "forged"}, headers=headers),
        doctor.post("/login", data={"login": "doctor", "password": PASSWORD}, headers=headers),
        doctor.post("/language", data={"language": "ko"}, headers=headers),
    ):
        assert answer.status_code == 403
    with scene.hospital.database.reading() as session:
        assert session.exec(select(MessageRow).where(MessageRow.text == "forged")).all() == []


@pytest.mark.parametrize("given", [{}, {"csrf": ""}, {"csrf": "guess"}])
def test_every_change_needs_the_sessions_token(scene: Scene, doctor: TestClient, given: dict[str, str]) -> None:
    def made() -> list[int]:
        with scene.hospital.database.reading() as session:
            return [
                len(session.exec(select(table)).all())
                for table in (MessageRow, AcknowledgementRow, ConfirmedReadingRow)
            ]

    before = made()
    changes = [path for method, path in paths(scene) if method == "POST" and path != "/login"]
    assert len(changes) >= 5
    for path in changes:
        answer = doctor.post(path, data={**given, "text": "forged", "language": "ko", "finding-Mass": "present"})
        assert answer.status_code == 403, path
    assert made() == before


def test_the_token_may_come_in_a_header(scene: Scene, doctor: TestClient) -> None:
    answer = doctor.post("/language", data={"language": "en"}, headers={"x-csrf-token": csrf(doctor)})
    assert answer.status_code == 303


def test_pages_may_run_nothing_but_their_own_files_and_are_not_kept(scene: Scene, doctor: TestClient) -> None:
    run, film = scene.runs["pneumothorax"], scene.films["pneumothorax"]
    for path in (
        "/login",
        "/board",
        f"/runs/{run}",
        f"/runs/{run}/facts",
        f"/runs/{run}/films/{film}/image",
        f"/runs/{new_id()}",
    ):
        answer = doctor.get(path, headers=HTML)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (path, name)
        if "html" in answer.headers["content-type"]:
            assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:", answer.text), path
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_static_files_may_be_kept_for_good(anybody: TestClient) -> None:
    for name in ("app.css", "board.js", "fonts/regular.ttf"):
        answer = anybody.get(f"/static/{name}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    for name in ("../pages.py", "%2e%2e/pages.py", "..%2fpages.py"):
        assert anybody.get(f"/static/{name}").status_code == 404


def test_a_hostile_name_is_only_text(scene: Scene, doctor: TestClient) -> None:
    for path in ("/board", f"/runs/{scene.runs['no film']}"):
        page = doctor.get(path, headers=HTML).text
        assert SCRIPT not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_who_saw_what_is_written_down(scene: Scene, doctor: TestClient) -> None:
    run, film = scene.runs["pneumothorax"], scene.films["pneumothorax"]

    def seen() -> list[tuple[str, str, str]]:
        with scene.hospital.database.reading() as session:
            rows = session.exec(select(AuditRow).order_by(AuditRow.number)).all()  # type: ignore[arg-type]
        return [(row.actor, row.action, row.subject) for row in rows]

    before = len(seen())
    doctor.get("/board", headers=HTML)
    doctor.get(f"/runs/{run}", headers=HTML)
    doctor.get(f"/runs/{run}/films/{film}/image")
    doctor.get(f"/runs/{run}/films/{film}/preview")
    assert seen()[before:] == [
        ("user:doctor", "board.viewed", ""),
        ("user:doctor", "run.viewed", str(run)),
        ("user:doctor", "film.viewed", str(film)),
        ("user:doctor", "film.viewed", str(film)),
    ]


def test_images_are_shown_as_the_diagnosis_says(scene: Scene, doctor: TestClient) -> None:
    run, film = scene.runs["pneumothorax"], scene.films["pneumothorax"]

    def image(query: str = "") -> Image.Image:
        answer = doctor.get(f"/runs/{run}/films/{film}/image{query}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/jpeg"
        return Image.open(BytesIO(answer.content))

    plain, inverted, turned = image(), image("?invert=true"), image("?turns=1")
    assert plain.size == (1841, 1955), "smaller than the limit: as it is"
    assert turned.size == plain.size[::-1]
    apart = ImageChops.difference(ImageChops.invert(plain), inverted)
    assert sum(apart.histogram()[:16]) > 0.99 * plain.width * plain.height
    assert len(list((scene.hospital.settings.data / "display").rglob("*.jpg"))) == 3, "made once, then kept"
    assert doctor.get(f"/runs/{run}/films/{film}/image?turns=4").status_code == 422


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs/{other}", 404),
        ("/runs/not-an-id", 422),
        ("/runs/{run}/films/{other}/image", 404),
        ("/runs/{calm}/films/{film}/image", 404),
        ("/runs/{calm}/films/{calm_film}/image", 404),
        ("/runs/{run}/films/..%2f..%2fsecret/image", 404),
    ],
)
def test_what_is_not_there(scene: Scene, doctor: TestClient, path: str, status: int) -> None:
    filled = path.format(
        other=new_id(),
        run=scene.runs["pneumothorax"],
        calm=scene.runs["routine"],
        film=scene.films["pneumothorax"],
        calm_film=scene.films["routine"],
    )
    answer = doctor.get(filled, headers=HTML)
    assert answer.status_code == status
    assert "김하늘" not in answer.text


def test_what_was_typed_wrong_is_told_in_a_line_to_a_script(scene: Scene, doctor: TestClient) -> None:
    url = f"/runs/{scene.runs['routine']}/message"
    answer = doctor.post(url, data={"csrf": csrf(doctor), "text": " "}, headers={"x-fragment": "1"})
    assert answer.status_code == 422
    assert answer.text.startswith("<div")
    assert 'role="alert"' in answer.text


def test_acts_by_plain_forms_lead_back_and_say_so_once(scene: Scene, doctor: TestClient) -> None:
    doctor.post("/language", data={"language": "en", "csrf": csrf(doctor)})
    run, film = scene.runs["routine"], scene.films["routine"]
    form = {"csrf": csrf(doctor), "finding-Mass": "absent", "finding-Nodule": "", "text": "clear"}
    answer = doctor.post(f"/runs/{run}/films/{film}/confirm", data=form)
    assert answer.status_code == 303
    page = doctor.get(answer.headers["location"], headers=HTML).text
    assert "The reading is kept" in page
    assert "The reading is kept" not in doctor.get(f"/runs/{run}", headers=HTML).text
    with scene.hospital.database.reading() as session:
        row = session.exec(select(ConfirmedReadingRow).where(ConfirmedReadingRow.radiograph == film)).one()
    assert (row.findings, row.text, row.radiograph) == ({"Mass": "absent"}, "clear", film)
    bad = doctor.post(f"/runs/{run}/films/{film}/confirm", data={**form, "finding-Mass": "maybe"})
    assert bad.status_code == 422


def test_a_forged_message_is_not_shown(scene: Scene, doctor: TestClient) -> None:
    doctor.cookies.set("firstray_said", "WyJoYWNrZWQiLCAiZ29vZCJd.0000")
    assert "hacked" not in doctor.get("/board", headers=HTML).text


def test_logging_out_closes_the_pages(scene: Scene, doctor: TestClient) -> None:
    answer = doctor.post("/logout", data={"csrf": csrf(doctor)})
    assert answer.headers["location"] == "/login"
    assert doctor.get("/session").status_code == 401


def test_each_speaks_the_language_chosen(scene: Scene, anybody: TestClient) -> None:
    assert "아이디" in anybody.get("/login", headers={"accept-language": "ko-KR"}).text
    assert "Password" in anybody.get("/login", headers={"accept-language": "en-GB"}).text
    anybody.post("/language", data={"language": "ko"})
    assert "아이디" in anybody.get("/login", headers={"accept-language": "en-GB"}).text
    doctor = logged_in(anybody)
    doctor.post("/language", data={"language": "ko", "csrf": csrf(doctor)})
    assert '<html lang="ko">' in doctor.get("/board", headers=HTML).text
    doctor.post("/language", data={"language": "en", "csrf": csrf(doctor)})
    assert '<html lang="en">' in doctor.get("/board", headers=HTML).text


def test_only_admins_see_the_way_to_administration(scene: Scene, anybody: TestClient) -> None:
    assert 'href="/admin"' not in logged_in(anybody).get("/board", headers=HTML).text
    other = TestClient(make_app(hospital=scene.hospital), follow_redirects=False)
    assert 'href="/admin"' in logged_in(other, "admin").get("/board", headers=HTML).text


def test_a_film_that_is_not_there_shows_the_latest(scene: Scene, doctor: TestClient) -> None:
    run: UUID = scene.runs["pneumothorax"]
    assert doctor.get(f"/runs/{run}?film={new_id()}", headers=HTML).status_code == 200, (
        "an unknown film shows the latest"
    )
