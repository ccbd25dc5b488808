"""A receipt proves what it says, and nothing else, and only by a key that is known."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.errors import FirstRayError
from shared.receipts import HeldEvent, HeldImage, Receipt, key_id, sign_receipt

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
KEYS = {key_id(KEY.public_key()): KEY.public_key()}
DEVICE = UUID(int=5)
WHEN = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
held = st.one_of(
    st.builds(HeldEvent, chain=st.uuids(), number=st.integers(1, 2**53 - 1), hash=hashes),
    st.builds(HeldImage, sha256=hashes, size=st.integers(1, 2**53 - 1)),
)
times = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))


@given(held, st.uuids(), times)
def test_a_signed_receipt_holds_also_after_json(holds: HeldEvent | HeldImage, device: UUID, when: datetime) -> None:
    receipt = sign_receipt(KEY, device, holds, when)
    receipt.verify(KEYS)
    again = Receipt.model_validate_json(receipt.model_dump_json())
    assert again == receipt
    again.verify(KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"device": uuid4()},
        {"holds": HeldImage(sha256="1" * 64, size=10)},
        {"holds": HeldImage(sha256="0" * 64, size=11)},
        {"holds": HeldEvent(chain=uuid4(), number=1, hash="0" * 64)},
        {"stored_at": datetime(2026, 3, 1, 12, 30, 16, tzinfo=UTC)},
        {"signature": ""},
        {"signature": "A" * 86 + "=="},
        {"signature": "not base64 at all!"},
    ],
)
def test_any_change_is_found(change: dict[str, Any]) -> None:
    receipt = sign_receipt(KEY, DEVICE, HeldImage(sha256="0" * 64, size=10), WHEN)
    with pytest.raises(FirstRayError) as error:
        receipt.model_copy(update=change).verify(KEYS)
    assert error.value.code == "receipt_forged"


@given(st.integers(0, 63), st.integers(0, 7))
def test_any_bit_of_the_signature_counts(place: int, bit: int) -> None:
    import base64

    receipt = sign_receipt(KEY, DEVICE, HeldImage(sha256="0" * 64, size=10), WHEN)
    signature = bytearray(base64.b64decode(receipt.signature))
    signature[place] ^= 1 << bit
    forged = receipt.model_copy(update={"signature": base64.b64encode(signature).decode()})
    with pytest.raises(FirstRayError) as error:
        forged.verify(KEYS)
    assert error.value.code == "receipt_forged"


def test_an_unknown_key_and_a_key_under_another_name() -> None:
    other = Ed25519PrivateKey.generate()
    receipt = sign_receipt(other, DEVICE, HeldImage(sha256="0" * 64, size=10), WHEN)
    with pytest.raises(FirstRayError) as unknown:
        receipt.verify(KEYS)
    assert unknown.value.code == "receipt_key_unknown"
    with pytest.raises(FirstRayError) as forged:
        receipt.model_copy(update={"key": next(iter(KEYS))}).verify(KEYS)
    assert forged.value.code == "receipt_forged"


def test_key_ids_are_short_and_stable() -> None:
    assert key_id(KEY.public_key()) == key_id(Ed25519PrivateKey.from_private_bytes(b"k" * 32).public_key())
    assert len(key_id(KEY.public_key())) == 16
    assert key_id(KEY.public_key()) != key_id(Ed25519PrivateKey.generate().public_key())


@pytest.mark.parametrize("number", [0, -1])
def test_an_event_that_cannot_be_is_not_held(number: int) -> None:
    with pytest.raises(ValidationError):
        HeldEvent(chain=uuid4(), number=number, hash="0" * 64)
