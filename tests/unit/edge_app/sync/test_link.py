"""The link's state table, cell by cell, and what the status screen is told."""

import itertools

import pytest

from edge_app.sync.link import LINK, Link, LinkAction, LinkEvent, LinkKind, LinkState
from edge_app.sync.problems import TEXTS, Denied, Foreign, Lost

K, E, A = LinkKind, LinkEvent, LinkAction
TRYING = [kind for kind in K if kind is not K.REVOKED]

SAME_EVERYWHERE = {
    E.ANSWERED: (K.ONLINE, A.STAY),
    E.FAILED: (K.FAILING, A.STAY),
    E.LOST: (K.OFFLINE, A.PROBE),
    E.FOREIGN: (K.FOREIGN, A.REST),
    E.DENIED: (K.UNAUTHORISED, A.REST),
    E.REVOKED: (K.REVOKED, A.HALT),
}


@pytest.mark.parametrize(("kind", "event"), list(itertools.product(TRYING, SAME_EVERYWHERE)))
def test_the_same_happens_from_every_state_that_is_not_final(kind: LinkKind, event: LinkEvent) -> None:
    assert LINK[kind, event] == SAME_EVERYWHERE[event]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (K.OFFLINE, K.CONNECTING),
        (K.CONNECTING, K.CONNECTING),
        (K.ONLINE, K.CONNECTING),
        (K.FOREIGN, K.CONNECTING),
        (K.FAILING, K.FAILING),
        (K.UNAUTHORISED, K.UNAUTHORISED),
    ],
)
def test_a_hospital_that_was_found_is_not_yet_one_that_works(kind: LinkKind, shown: LinkKind) -> None:
    assert LINK[kind, E.REACHED] == (shown, A.WORK)
    assert LINK[kind, E.RETRY] == (kind, A.PROBE)


@pytest.mark.parametrize("event", list(E))
def test_revoked_is_final(event: LinkEvent) -> None:
    assert LINK[K.REVOKED, event] == (K.REVOKED, A.HALT)


def test_no_cell_is_missing() -> None:
    assert LINK.keys() == set(itertools.product(K, E))


def test_the_status_says_since_when_what_went_wrong_and_when_all_is_well_again() -> None:
    said: list[LinkState] = []
    link = Link(said.append)
    assert link.happened(E.LOST, Lost()) is A.PROBE
    assert said[-1].last_error is not None
    assert said[-1].last_error.code == "hospital_unreachable"
    since = said[-1].since
    assert link.happened(E.FOREIGN, Foreign("network_portal")) is A.REST
    assert said[-1].since > since
    link.happened(E.REACHED)
    link.happened(E.ANSWERED)
    assert said[-1].last_error is not None
    link.settled()
    assert (said[-1].kind, said[-1].last_error) == (K.ONLINE, None)
    assert said[-1].last_contact is not None
    count = len(said)
    link.settled()
    assert len(said) == count, "nothing changed, nothing is said"


def test_a_refusal_of_the_credentials_is_shown_as_such() -> None:
    link = Link(lambda state: None)
    assert link.happened(E.DENIED, Denied()) is A.REST
    assert link.state.kind is K.UNAUTHORISED
    assert link.state.last_error is not None
    assert "Enrol" in link.state.last_error.action


def test_every_text_says_what_happened_and_what_to_do() -> None:
    for code, (message, action) in TEXTS.items():
        assert code == code.lower()
        assert message.endswith(".")
        assert action.endswith(".")
