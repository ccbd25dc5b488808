"""Log-in through an OpenID provider, over HTTP: the whole way, and every way it must not go."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import Response
from joserfc import jwt
from joserfc.jwk import OctKey
from sqlmodel import col, select

from sync_server.db.tables import AccountRow, AttemptRow, AuditRow, WebSessionRow
from sync_server.domain import accounts, guessing, linking, oidc_provider
from sync_server.domain.accounts import Role
from sync_server.hospital import Hospital
from tests.hospital import new_hospital
from tests.hospital.openid import CLIENT, SECRET, OpenId, free_port, open_id, signing_key
from tests.web.scene import served

PASSWORD = "fifteen quiet ambulances"
ENGLISH = {"Accept-Language": "en", "Accept": "text/html"}


@dataclass
class House:
    """A hospital that is served, and its provider."""

    hospital: Hospital
    provider: OpenId
    address: str

    def browser(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, headers=ENGLISH, follow_redirects=True)

    def account(self, login: str = "doctor", name: str = "", **more: Any) -> None:
        """An account without password that waits for ``name``."""
        with self.hospital.database.writing() as session:
            row = accounts.create_user(session, login, "이서연", Role.ER, more.get("password"), "test", "en")
            if name:
                linking.prepare(session, row.id, name, "test")

    def row(self, login: str = "doctor") -> AccountRow:
        with self.hospital.database.reading() as session:
            row = accounts.find(session, login)
            session.expunge(row)
            return row

    def audited(self, action: str) -> list[AuditRow]:
        with self.hospital.database.reading() as session:
            rows = session.exec(select(AuditRow).where(AuditRow.action == action).order_by(col(AuditRow.number))).all()
            session.expunge_all()
            return list(rows)

    def sessions(self) -> int:
        with self.hospital.database.reading() as session:
            return len(session.exec(select(WebSessionRow)).all())


@pytest.fixture
def house(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(oidc_provider, "AGAIN_S", 0.0)
    port = free_port()
    with open_id() as provider:
        hospital = new_hospital(
            tmp_path,
            public_url=f"http://127.0.0.1:{port}",
            oidc_issuer=provider.issuer,
            oidc_client_id=CLIENT,
            oidc_client_secret=SECRET,
            oidc_name="Hospital ID",
        )
        with served(hospital, port) as address:
            yield House(hospital, provider, address)


def callback(browser: httpx.Client) -> str:
    """Log in at the provider; the address it sends the browser back to, which is not asked yet."""
    away = browser.get("/login/oidc", follow_redirects=False)
    assert away.status_code == 303
    back = httpx.get(away.headers["location"])
    assert back.status_code == 302
    return back.headers["location"]


def refused(answer: httpx.Response, status: int, says: str) -> None:
    """The log-in page says what went wrong, a password can be typed, and nobody was logged in."""
    assert answer.status_code == status, answer.text
    assert says in answer.text
    assert 'action="/login"' in answer.text
    assert "code=" not in answer.text, "what came with the address is nowhere on the page"
    assert not any(cookie.startswith("firstray=") for cookie in answer.headers.get_list("set-cookie"))


def test_who_is_awaited_gets_in_and_is_linked_for_good(house: House) -> None:
    house.account(name="seoyeon.lee")
    with house.browser() as browser:
        page = browser.get("/login?next=/board%3Fa%3D1")
        assert "Log in with Hospital ID" in page.text
        assert 'href="/login/oidc?next=/board%3Fa%3D1"' in page.text
        board = browser.get("/login/oidc?next=/board%3Fa%3D1")
        assert (board.status_code, str(board.url)) == (200, f"{house.address}/board?a=1")
        assert "이서연" in board.text
        assert "firstray_oidc" not in browser.cookies
    row = house.row()
    assert (row.oidc, row.oidc_name) == (f"{house.provider.issuer} 4711", None)
    assert [entry.details["sub"] for entry in house.audited("user.oidc_linked")] == ["4711"]
    (entry,) = house.audited("log_in")
    assert (entry.actor, entry.details) == ("user:doctor", {"address": "127.0.0.1", "via": "oidc"})

    house.provider.person = {"sub": "4711", "preferred_username": "another name"}
    with house.browser() as browser:
        assert browser.get("/login/oidc").url.path == "/board"
    house.provider.person = {"sub": "0815", "preferred_username": "seoyeon.lee"}
    with house.browser() as browser:
        refused(browser.get("/login/oidc"), 403, "no account here is linked to you")


def test_the_session_is_like_any_other_and_ends_with_the_log_out(house: House) -> None:
    house.account(name="seoyeon.lee")
    with house.browser() as browser:
        answer = browser.get(callback(browser), follow_redirects=False)
        cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("firstray="))
        assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
        first = browser.cookies["firstray"]
        assert browser.get("/login/oidc").status_code == 200
        assert browser.cookies["firstray"] != first, "every log-in has a session of its own"
        token = browser.get("/board").text.split('name="csrf" value="')[1].split('"')[0]
        browser.post("/logout", data={"csrf": token})
        assert browser.get("/board").url.path == "/login"


def test_nobody_gets_in_because_the_provider_knows_them(house: House) -> None:
    house.account(name="someone.else")
    with house.browser() as browser:
        refused(browser.get("/login/oidc"), 403, "no account here is linked to you")
    assert house.sessions() == 0
    (entry,) = house.audited("log_in.failed")
    assert entry.details["sub"] == "4711", "the admin finds there what to link"
    assert entry.details["reason"] == "oidc_no_account"


@pytest.mark.parametrize(
    ("claims", "gets_in"),
    [
        ({"email": "Lee@hospital.example", "email_verified": True}, True),
        ({"email": "lee@hospital.example"}, False),
        ({"email": "lee@hospital.example", "email_verified": False}, False),
        ({"email": "lee@hospital.example", "email_verified": "true"}, False),
        ({"name": "lee@hospital.example", "nickname": "lee@hospital.example"}, False),
        ({"preferred_username": "lee@hospital.example\x00", "email": ["lee@hospital.example"]}, False),
        ({"preferred_username": " ", "email_verified": True}, False),
    ],
)
def test_an_e_mail_counts_only_where_the_provider_verified_it(
    house: House, claims: dict[str, Any], gets_in: bool
) -> None:
    house.account(name="lee@hospital.example")
    house.provider.person = {"sub": "4711", **claims}
    with house.browser() as browser:
        assert browser.get("/login/oidc").status_code == (200 if gets_in else 403)
    assert house.sessions() == int(gets_in)


def test_names_of_two_accounts_open_neither(house: House) -> None:
    house.account("one", name="seoyeon.lee")
    house.account("two", name="lee@hospital.example")
    house.provider.person = {
        "sub": "4711",
        "preferred_username": "seoyeon.lee",
        "email": "lee@hospital.example",
        "email_verified": True,
    }
    with house.browser() as browser:
        refused(browser.get("/login/oidc"), 403, "no account here is linked to you")


def test_who_is_shut_out_stays_out(house: House) -> None:
    house.account(name="seoyeon.lee")
    with house.hospital.database.writing() as session:
        accounts.set_disabled(session, accounts.find(session, "doctor").id, True, "test")
    with house.browser() as browser:
        refused(browser.get("/login/oidc"), 403, "no account here is linked to you")
    assert house.row().oidc is None


def test_an_account_without_password_is_entered_by_no_password(house: House) -> None:
    house.account(name="seoyeon.lee")
    with house.browser() as browser:
        for password in ("None", " ", PASSWORD):
            answer = browser.post("/login", data={"login": "doctor", "password": password})
            refused(answer, 401, "do not fit together")


def test_cancelled_at_the_provider(house: House) -> None:
    house.account(password=PASSWORD)
    house.provider.person = None
    with house.browser() as browser:
        refused(browser.get("/login/oidc?next=/board"), 401, "cancelled")
        assert house.audited("log_in.failed") == []
        answer = browser.post("/login", data={"login": "doctor", "password": PASSWORD, "next": "/board"})
        assert answer.url.path == "/board"


def test_an_answer_is_good_once(house: House) -> None:
    house.account(name="seoyeon.lee")
    with house.browser() as browser:
        back = callback(browser)
        kept = browser.cookies["firstray_oidc"]
        assert browser.get(back).status_code == 200
        refused(browser.get(back), 401, "it is finished already")
        browser.cookies.set("firstray_oidc", kept)
        refused(browser.get(back), 401, "could not be trusted")
    assert house.sessions() == 1


def test_an_answer_is_good_in_its_own_browser_only(house: House) -> None:
    house.account(name="seoyeon.lee")
    with house.browser() as theirs, house.browser() as mine:
        back = callback(theirs)
        refused(mine.get(back), 401, "in another window")
        own = parse_qs(urlsplit(callback(mine)).query)
        stolen = parse_qs(urlsplit(back).query)["code"][0]
        spliced = {"state": own["state"][0], "code": stolen, "iss": house.provider.issuer}
        refused(mine.get("/login/oidc/callback", params=spliced), 401, "could not be trusted")
    assert house.sessions() == 0


@pytest.mark.parametrize(
    "params", [{}, {"state": "x"}, {"code": "x"}, {"error": "access_denied"}, {"state": "é" * 50, "code": "\x00"}]
)
def test_an_answer_to_nothing_is_refused_without_asking_the_provider(house: House, params: dict[str, str]) -> None:
    with house.browser() as browser:
        refused(browser.get("/login/oidc/callback", params=params), 401, "Start again")
        browser.cookies.set("firstray_oidc", "e30.e30.e30")
        refused(browser.get("/login/oidc/callback", params=params), 401, "Start again")
    assert house.provider.asked == []
    assert house.audited("log_in.failed") == []


def test_an_answer_from_another_provider_is_refused(house: House) -> None:
    house.account(name="seoyeon.lee")
    with house.browser() as browser:
        back = callback(browser)
        swapped = httpx.URL(back).copy_set_param("iss", "https://evil.example")
        refused(browser.get(swapped), 401, "could not be trusted")
        missing = httpx.URL(callback(browser)).copy_remove_param("iss")
        refused(browser.get(missing), 401, "could not be trusted")
    assert "/token" not in house.provider.asked


LIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "nonce of another log-in": lambda claims: claims | {"nonce": "x" * 43},
    "no nonce": lambda claims: {name: value for name, value in claims.items() if name != "nonce"},
    "another issuer": lambda claims: claims | {"iss": "https://evil.example"},
    "another client": lambda claims: claims | {"aud": "billing"},
    "several clients, none named": lambda claims: claims | {"aud": [CLIENT, "billing"]},
    "another authorized party": lambda claims: claims | {"aud": [CLIENT, "billing"], "azp": "billing"},
    "expired": lambda claims: claims | {"exp": int(time.time()) - 120},
    "never expires": lambda claims: {name: value for name, value in claims.items() if name != "exp"},
    "of the future": lambda claims: claims | {"iat": int(time.time()) + 600},
    "not yet": lambda claims: claims | {"nbf": int(time.time()) + 600},
    "expires in words": lambda claims: claims | {"exp": "tomorrow"},
    "no subject": lambda claims: claims | {"sub": ""},
    "subject a number": lambda claims: claims | {"sub": 4711},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_id_token_that_is_not_for_this_log_in_is_refused(
    house: House, lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.account(name="seoyeon.lee")
    house.provider.lies = LIES[lie]
    with house.browser() as browser, caplog.at_level(logging.DEBUG):
        back = callback(browser)
        refused(browser.get(back), 401, "could not be trusted")
    assert house.sessions() == 0
    assert house.row().oidc is None
    (entry,) = house.audited("log_in.failed")
    assert entry.details["reason"] == "oidc_failed"
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("sync_server")]
    assert any("refused" in line for line in ours), "IT finds out why"
    code = parse_qs(urlsplit(back).query)["code"][0]
    assert not any(secret in line for line in ours for secret in (SECRET, code, "seoyeon"))


def unsigned(claims: dict[str, Any]) -> str:
    import base64
    import json

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part(claims)}."


@pytest.mark.parametrize(
    "forge",
    [
        unsigned,
        lambda claims: jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET)),
        lambda claims: jwt.encode({"alg": "RS256", "kid": "one"}, claims, signing_key()),
        lambda claims: jwt.encode({"alg": "RS256", "kid": "unheard"}, claims, signing_key()),
        lambda claims: "no token",
        lambda claims: "a.b.c",
        lambda claims: None,
    ],
    ids=["none", "HS256 with the client's secret", "another key", "an unknown key", "words", "dots", "missing"],
)
def test_a_signature_of_anybody_else_is_refused(
    house: House, forge: Callable[[dict[str, Any]], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    house.account(name="seoyeon.lee")
    held: dict[str, Any] = {}
    house.provider.lies = lambda claims: held.setdefault("claims", claims)
    right = house.provider.token

    def forged(code: str, verifier: str, redirect: str) -> Any:
        assert right(code, verifier, redirect)
        return forge(held["claims"]) or 0

    monkeypatch.setattr(house.provider, "token", forged)
    with house.browser() as browser:
        refused(browser.get("/login/oidc"), 401, "could not be trusted")
    assert house.sessions() == 0


def test_description_and_keys_are_asked_once_and_a_new_key_is_found(house: House) -> None:
    house.account(name="seoyeon.lee")
    for _ in range(2):
        with house.browser() as browser:
            assert browser.get("/login/oidc").status_code == 200
    assert house.provider.asked.count("/.well-known/openid-configuration") == 1
    assert house.provider.asked.count("/keys") == 1
    house.provider.published = [house.provider.key.as_dict(private=False)]
    house.provider.key, house.provider.alg = signing_key("two"), "PS256"
    with house.browser() as browser:
        assert browser.get("/login/oidc").status_code == 200
    assert house.provider.asked.count("/keys") == 2


def test_a_client_that_posts_its_secret(house: House) -> None:
    house.account(name="seoyeon.lee")
    house.provider.description = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    with house.browser() as browser:
        assert browser.get("/login/oidc").url.path == "/board"


DESCRIPTION = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (DESCRIPTION, Response(status_code=503)),
        (DESCRIPTION, Response("<html>maintenance</html>")),
        (DESCRIPTION, Response("[]")),
        (DESCRIPTION, Response(b"x" * 300_000)),
        (DESCRIPTION, Response(status_code=302, headers={"Location": "https://evil.example"})),
        ("/token", Response(status_code=500)),
        ("/token", Response("[" * 100_000)),
        ("/keys", Response(status_code=404)),
    ],
)
def test_a_provider_out_of_order_is_told_and_a_password_still_works(house: House, path: str, answer: Response) -> None:
    house.account(password=PASSWORD)
    house.provider.answers[path] = answer
    with house.browser() as browser:
        refused(browser.get("/login/oidc?next=/board"), 502, "does not answer properly")
        assert browser.post("/login", data={"login": "doctor", "password": PASSWORD}).url.path == "/board"
    house.provider.answers.clear()
    house.account("nurse", name="seoyeon.lee")
    with house.browser() as browser:
        assert browser.get("/login/oidc").url.path == "/board", "it is asked again once it is well"


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": None},
    ],
)
def test_a_description_that_leads_elsewhere_is_not_used(house: House, description: dict[str, Any]) -> None:
    house.provider.description = description
    with house.browser() as browser:
        refused(browser.get("/login/oidc"), 502, "does not answer properly")


def test_a_provider_that_is_not_there(house: House) -> None:
    house.account(password=PASSWORD)
    settings = house.hospital.settings
    gone = oidc_provider.Provider(f"http://127.0.0.1:{free_port()}", CLIENT, SECRET, settings.oidc_redirect)
    with pytest.raises(Exception, match="does not answer"):
        gone.identity("code", oidc_provider.Attempt("s", "n", "v", "/"))


def test_failures_are_counted_by_address(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "MOST_BY_ADDRESS", 3)
    with house.browser() as browser:
        for _ in range(3):
            refused(browser.get("/login/oidc"), 403, "no account here")
        tokens = house.provider.asked.count("/token")
        refused(browser.get("/login/oidc"), 429, "too many failed log-ins")
        assert house.provider.asked.count("/token") == tokens, "the provider is spared"
    with house.hospital.database.reading() as session:
        assert {row.subject for row in session.exec(select(AttemptRow)).all()} == {"address:127.0.0.1"}


@pytest.mark.parametrize("next", ["//evil.example", "https://evil.example", "/\\evil.example", "/" + "가" * 600])
def test_nobody_is_led_elsewhere(house: House, next: str) -> None:
    house.account(name="seoyeon.lee")
    with house.browser() as browser:
        away = browser.get("/login/oidc", params={"next": next}, follow_redirects=False)
        back = httpx.get(away.headers["location"]).headers["location"]
        assert browser.get(back, follow_redirects=False).headers["location"] == "/"


def test_a_hospital_without_provider_offers_none(tmp_path: Any) -> None:
    hospital = new_hospital(tmp_path)
    with served(hospital) as address, httpx.Client(base_url=address, headers=ENGLISH) as browser:
        assert "/login/oidc" not in browser.get("/login").text
        refused(browser.get("/login/oidc"), 404, "no log-in service")
        refused(browser.get("/login/oidc/callback?code=x&state=y"), 404, "no log-in service")
