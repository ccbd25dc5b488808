"""What guessing one password costs whoever has stolen the database."""

from argon2 import Type, extract_parameters

from sync_server.domain import accounts

REAL = accounts._HASH
"""Before the tests replace it by a quick one."""


def test_a_guess_costs_at_least_what_owasp_asks_for() -> None:
    """Argon2id with 19 MiB and two passes, or more (OWASP Password Storage Cheat Sheet)."""
    cost = extract_parameters(REAL.hash("fifteen quiet ambulances"))
    assert cost.type is Type.ID
    assert cost.memory_cost >= 19 * 1024
    assert cost.time_cost >= 2
