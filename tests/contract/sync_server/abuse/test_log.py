"""The server's log, at its most talkative, names no patient."""

from collections.abc import Callable

import httpx

from shared.records import RecordType
from sync_server.domain import accounts
from sync_server.hospital import Hospital
from tests.contract.sync_server.abuse.attack import PASSWORD, admin_token
from tests.contract.sync_server.ambulance import Ambulance
from tests.hospital.process import ServerProcess


def test_the_servers_log_names_no_patient(server: ServerProcess, hospital: Hospital, ambulance: Ambulance) -> None:
    """With trouble of several kinds, and every page looked at."""
    name, complaint, number = "Zebulon Quackenbush", "Xylophone swallowed", "ID-77123456"
    device = ambulance.device
    patient, encounter = device.run(name, chief_complaint=complaint, notes=complaint)
    device.put(RecordType.PATIENT, {"identifiers": [{"system": "hospital", "value": number}]}, patient)
    assert ambulance.ask("POST", "/v1/events", content=device.unsent()).status_code == 200
    ambulance.ask("POST", "/v1/events", content=device.unsent().replace(b"female", b"fem\\u0000ale"))
    ambulance.ask("POST", "/v1/events", content=b'{"events": [{"name": "Zebulon Quackenbush"')
    ambulance.ask("GET", "/v1/inbox", params={"after": name})
    token = admin_token(hospital)
    person = accounts.person(hospital.database, token)
    assert person is not None
    cookies = {"firstray": token}
    with httpx.Client(base_url=server.url, trust_env=False, cookies=cookies, timeout=30) as browser:
        pages: list[Callable[[], httpx.Response]] = [
            lambda: browser.get("/board"),
            lambda: browser.get(f"/runs/{encounter}"),
            lambda: browser.get("/admin/histories", params={"q": name}),
            lambda: browser.get("/admin/histories", params={"q": number, "since": name}),
            lambda: browser.post(f"/runs/{encounter}/message", data={"text": complaint, "csrf": person.csrf}),
            lambda: browser.post(
                "/admin/histories/export", data={"format": "csv", "scope": "all", "csrf": person.csrf}
            ),
            lambda: browser.post("/login", data={"login": name, "password": number}),
        ]
        for page in pages:
            assert page().status_code < 500
    log = server.log.read_text()
    assert '"answered"' in log
    for word in (*name.split(), complaint, "Xylophone", number, PASSWORD, token, ambulance.token):
        assert word not in log, word
