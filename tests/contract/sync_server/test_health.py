"""Health, metrics, what every answer has in common, and the API's description."""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from shared.errors import FirstRayError
from sync_server.api import health
from sync_server.app import make_app
from sync_server.hospital import Hospital
from sync_server.logs import JsonLines
from tests.hospital import new_hospital
from tests.hospital.http import app_without_tokens

TOKEN = "a-token-long-enough"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, listen=False, metrics_token=TOKEN)
    yield made
    made.close()


@pytest.fixture
def http(hospital: Hospital) -> TestClient:
    return TestClient(app_without_tokens(hospital))


def test_healthz_needs_no_credentials(http: TestClient) -> None:
    response = http.get("/healthz")
    assert response.status_code == 200
    assert response.json()["status"] == "ok"


def test_readyz_says_what_works(http: TestClient) -> None:
    response = http.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"ready": True, "database": True, "images": True})


def test_readyz_says_what_does_not_work(http: TestClient, hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise FirstRayError("image_store_failing", "The disk is gone.")

    monkeypatch.setattr(hospital.images, "check", fail)
    response = http.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"ready": False, "database": True, "images": False})


def test_the_store_is_not_written_to_for_everybody_who_asks(
    http: TestClient, hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[None] = []
    monkeypatch.setattr(hospital.images, "check", lambda: checks.append(None))
    monkeypatch.setattr(health, "FRESH_S", 1000.0)
    assert {http.get("/readyz").status_code for _ in range(20)} == {200}
    assert len(checks) == 1


def test_what_was_found_of_the_store_is_not_told_for_ever(
    http: TestClient, hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise FirstRayError("image_store_failing", "The disk is gone.")

    monkeypatch.setattr(health, "FRESH_S", 0.0)
    assert http.get("/readyz").status_code == 200
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hospital.images, "check", fail)
        assert http.get("/readyz").status_code == 503
    assert http.get("/readyz").status_code == 200


def test_readyz_without_a_database(http: TestClient, hospital: Hospital) -> None:
    file = hospital.settings.data / "hospital.db"
    hospital.database.close()
    for one in hospital.settings.data.glob("hospital.db*"):
        one.rename(one.with_name(f"away-{one.name}"))
    file.mkdir()
    response = http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["database"] is False
    assert http.get("/healthz").status_code == 200


def test_a_server_that_stops_is_not_ready(http: TestClient, hospital: Hospital) -> None:
    hospital.changes.stop_waiting()
    assert http.get("/readyz").status_code == 503


def test_metrics_need_their_token(http: TestClient) -> None:
    http.get("/healthz")
    assert http.get("/metrics").status_code == 403
    assert http.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 403
    response = http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200
    assert re.search(r'firstray_http_seconds_count\{method="GET",route="/healthz",status="200"\} \d', response.text)


def test_a_route_is_named_whole_and_without_what_was_asked(http: TestClient, hospital: Hospital) -> None:
    wanted = {
        "/admin/users": "/admin/users",
        "/admin/devices/01890000-0000-7000-8000-000000000000": "/admin/devices/{device}",
        "/runs/01890000-0000-7000-8000-000000000000?film=secret": "/runs/{encounter}",
        "/v1/releases/secret": "/v1/releases/{release}",
        "/secret": "none",
    }
    for path in wanted:
        http.get(path)
    text = http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    named = set(re.findall(r'firstray_http_seconds_count\{method="GET",route="([^"]+)"', text))
    assert set(wanted.values()) <= named
    whole = {context.path for context in iter_route_contexts(make_app(hospital=hospital).routes)} | {"none"}
    assert named <= whole
    assert {route for route in named if route.endswith("/users")} == {"/admin/users"}


def test_metrics_without_a_token_are_for_this_machine(tmp_path: Path) -> None:
    hospital = new_hospital(tmp_path, listen=False)
    app = app_without_tokens(hospital)
    assert TestClient(app, client=("203.0.113.7", 5000)).get("/metrics").status_code == 403
    assert TestClient(app, client=("127.0.0.1", 5000)).get("/metrics").status_code == 200
    hospital.close()


def test_every_answer_has_the_id_of_its_request(http: TestClient) -> None:
    assert http.get("/healthz", headers={"X-Request-Id": "proxy-0123"}).headers["X-Request-Id"] == "proxy-0123"
    made = http.get("/healthz", headers={"X-Request-Id": "bad id\tx"}).headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{16}", made)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [("GET", "/nothing", (404, "not_found")), ("PUT", "/v1/events", (405, "method_not_allowed"))],
)
def test_what_does_not_exist_is_a_problem(http: TestClient, method: str, path: str, expected: tuple[int, str]) -> None:
    response = http.request(method, path)
    assert (response.status_code, response.json()["code"]) == expected
    assert response.headers["Content-Type"] == "application/problem+json"


def test_bodies_are_limited_where_none_is_expected(http: TestClient) -> None:
    response = http.post("/v1/enrolment", content=b" " * (2 << 20))
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


@pytest.mark.filterwarnings("error")
def test_every_operation_of_the_description_has_an_id_of_its_own(http: TestClient) -> None:
    paths = http.get("/v1/openapi.json").json()["paths"]
    named = Counter(operation["operationId"] for path in paths.values() for operation in path.values())
    assert len(named) > 10
    assert named.most_common(1)[0][1] == 1
    assert {"get", "head"} <= paths["/v1/releases/{release}"].keys()


def test_the_description_names_every_model_it_refers_to(http: TestClient) -> None:
    document = http.get("/v1/openapi.json").json()
    text = json.dumps(document)
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert named <= document["components"]["schemas"].keys()
    assert {"EventBatch", "Event", "BatchAnswer", "Inbox", "Receipt"} <= named
    assert set(re.findall(r'"\$ref": "([^"]+)"', text)) == {f"#/components/schemas/{name}" for name in named} | {
        ref for ref in re.findall(r'"\$ref": "([^"]+)"', text) if ref.startswith("#/components/")
    }


def test_log_lines_are_json_without_texts_of_exceptions() -> None:
    try:
        raise ValueError("김하늘")
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, __file__, 1, "failed at %s", ("here",), _info(), extra={"status": 500}
        )
    line: dict[str, Any] = json.loads(JsonLines().format(record))
    assert (line["message"], line["level"], line["error"], line["status"]) == (
        "failed at here",
        "ERROR",
        "ValueError",
        500,
    )
    assert any("test_log_lines" in place for place in line["places"])
    assert "김하늘" not in json.dumps(line, ensure_ascii=False)


def _info() -> Any:
    import sys

    return sys.exc_info()
