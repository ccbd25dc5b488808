"""The API against its own description: whatever Schemathesis thinks of, with a token and without.

``FIRSTRAY_SCHEMA_EXAMPLES`` says how many cases an operation gets.
"""

import os
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from shared.hospital import ProblemDocument
from sync_server.app import make_app
from sync_server.hospital import Hospital
from tests.contract.sync_server.ambulance import Ambulance, served
from tests.hospital import new_hospital

EXAMPLES = int(os.environ.get("FIRSTRAY_SCHEMA_EXAMPLES", "30"))
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    made = new_hospital(tmp_path_factory.mktemp("hospital"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def ambulance(hospital: Hospital) -> Iterator[Ambulance]:
    with served(hospital) as client:
        made = Ambulance(hospital, client)
        made.device.run()
        made.device.send()
        yield made


OPEN = ("/v1/token", "/v1/enrolment", "/healthz", "/readyz", "/metrics")


@pytest.mark.parametrize("known", [True, False], ids=["a device", "a stranger"])
def test_every_answer_is_as_described(ambulance: Ambulance, hospital: Hospital, known: bool) -> None:
    app = make_app(hospital=hospital)
    app.router.lifespan_context = lambda _: nullcontext()  # it would close the hospital after each call
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 10
    for operation in operations:

        @BOUNDED
        @given(case=operation.as_strategy())
        def ask(case: Case) -> None:
            look_at(case, ambulance.token if known else None)

        ask()
    assert not hospital.changes.closed


def look_at(case: Case, token: str | None) -> None:
    """Ask, and compare the answer with the description."""
    if token is not None:
        case.headers["Authorization"] = f"Bearer {token}"
    else:
        case.headers.pop("Authorization", None)
    if case.query.get("wait"):
        case.query["wait"] = 0
    response = case.call()
    checks = [content_type_conformance, response_schema_conformance, status_code_conformance]
    if response.status_code != 503:  # it may say that it cannot do something now
        checks.append(not_a_server_error)
    case.validate_response(response, checks=checks, excluded_checks=[])
    if response.status_code >= 400 and case.method.upper() != "HEAD":
        assert response.headers["content-type"] == ["application/problem+json"], case
        document = ProblemDocument.model_validate(response.json())
        assert document.status == response.status_code
        assert document.code not in ("unknown", "internal_error")
        assert document.detail, response.json()
    if token is None and case.path not in OPEN:
        assert response.status_code in (401, 404, 405, 412), (case, response.status_code)
