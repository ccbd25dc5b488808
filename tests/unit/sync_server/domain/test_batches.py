"""The quick way to the hash of an event's content gives what RFC 8785 gives, whatever a device writes."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_server.domain.batches import hashed

_NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def canonical_hash(content: dict[str, Any]) -> str | None:
    try:
        return hashlib.sha256(rfc8785.dumps(content)).hexdigest()
    except (rfc8785.CanonicalizationError, ValueError):
        return None


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), _VALUES))
def test_any_content(content: dict[str, Any]) -> None:
    assert hashed(content) == canonical_hash(content)


@pytest.mark.parametrize(
    "value",
    [1.0, -0.0, 0.1, 1e-5, -1e-7, 5e-324, 123456789012345.0, 1e15, 1e16, 1e21, 1e22, 2**53 - 1, -(2**53) + 1],
)
def test_numbers_that_python_writes_otherwise(value: float) -> None:
    for content in ({"a": value}, {"a": [value]}, {"a": [0, value, 0]}, {"a": {"b": value}}):
        assert hashed(content) == canonical_hash(content) is not None


@pytest.mark.parametrize("value", [2**53, -(2**53), 2**70])
def test_whole_numbers_without_canonical_form(value: int) -> None:
    assert hashed({"a": [value]}) is None


def test_names_beyond_the_basic_plane_are_sorted_as_utf_16() -> None:
    content = {"\ufb33": 1, "\U0001f600": 2, "a": 3}
    assert hashed(content) == canonical_hash(content)


def test_what_only_looks_like_a_number_within_a_text() -> None:
    content = {"a": ':1.0,":1e-05,[9999999999999999', "b": "\x7f\u2028\t"}
    assert hashed(content) == canonical_hash(content)
