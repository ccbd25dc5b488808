"""The key: only the PIN opens it, wrong tries cost time, and no trick with plug or clock gives a try back."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from edge_app.store import keys
from edge_app.store.errors import StoreError
from edge_app.store.keys import COST, FILE, WAITS, KeyRing, MasterKey, PinWrong, check_pin
from shared.errors import FirstRayError

PIN, WRONG, OTHER = "483902", "483903", "590213"


class Clock:
    """The wall clock and the seconds since start, both set by the test."""

    def __init__(self) -> None:
        self.wall, self.up, self.boot = 1_000_000.0, 50.0, "boot-1"

    def __call__(self) -> dict[str, object]:
        return {"wall": self.wall, "boot": self.boot, "up": self.up}

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds

    def restart(self) -> None:
        self.boot, self.up = self.boot + "+", 5.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(keys, "_moment", clock)
    return clock


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyRing:
    monkeypatch.setattr(keys, "COST", {"memory_kib": 64, "iterations": 1, "lanes": 1})
    return KeyRing(tmp_path / "store")


def refused(ring: KeyRing, pin: str) -> PinWrong:
    with pytest.raises(PinWrong) as error:
        ring.unlock(pin)
    return error.value


def test_the_pin_opens_the_same_key_again(ring: KeyRing) -> None:
    assert not ring.exists
    key = ring.create(PIN)
    assert ring.exists
    again = ring.unlock(PIN)
    assert again.database_key == key.database_key
    assert len(bytes.fromhex(key.database_key)) == 32
    derived = {key.database_key, key.blob_key.hex(), key.name_key.hex(), key.grave_key.hex()}
    assert len(derived) == 4


def test_the_key_is_nowhere_on_the_disk(ring: KeyRing, tmp_path: Path) -> None:
    key = ring.create(PIN)
    secret = bytes(key._secret)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for piece in (secret, secret.hex().encode(), key.blob_key, key.database_key.encode(), PIN.encode()):
                assert piece not in data


def test_a_closed_key_is_gone(ring: KeyRing) -> None:
    key = ring.create(PIN)
    key.close()
    with pytest.raises(StoreError) as error:
        _ = key.database_key
    assert error.value.code == "key_closed"
    assert not key._secret


def test_wrong_tries_slow_down_and_a_right_one_forgets_them(ring: KeyRing, clock: Clock) -> None:
    ring.create(PIN)
    for number, wait in enumerate((*WAITS, WAITS[-1], WAITS[-1]), 1):
        problem = refused(ring, WRONG)
        assert (problem.code, problem.tries, problem.wait_seconds) == ("pin_wrong", number, wait)
        if wait:
            early = refused(ring, PIN)
            assert (early.code, early.tries, early.wait_seconds) == ("pin_wait", number, wait)
            clock.passes(wait - 1)
            assert refused(ring, PIN).code == "pin_wait"
            clock.passes(1)
    ring.unlock(PIN)
    assert refused(ring, WRONG).tries == 1


def test_a_try_is_counted_before_it_is_looked_at(ring: KeyRing, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    ring.create(PIN)

    def pulled_plug(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keys, "_unwrap", pulled_plug)
        for _ in range(4):
            with pytest.raises(KeyboardInterrupt):
                ring.unlock(WRONG)
            clock.passes(1)
    early = refused(ring, PIN)
    assert (early.code, early.tries) == ("pin_wait", 4)


@pytest.mark.parametrize("restart", [False, True])
def test_setting_the_clock_forward_or_back_helps_nobody(ring: KeyRing, clock: Clock, restart: bool) -> None:
    ring.create(PIN)
    for _ in range(7):
        clock.passes(1000)
        refused(ring, WRONG)
    if restart:
        clock.restart()
        clock.wall -= 5_000_000
        assert refused(ring, PIN).wait_seconds == 300  # the wait begins again ...
    else:
        clock.wall += 5_000_000
        assert refused(ring, PIN).wait_seconds == 300
        clock.wall -= 9_000_000
    clock.passes(200)
    assert refused(ring, PIN).wait_seconds == 100
    clock.passes(100)
    ring.unlock(PIN)  # ... and is over in the same time, not in months


def test_threads_cannot_share_a_try(ring: KeyRing, clock: Clock) -> None:
    ring.create(PIN)
    tries: list[PinWrong] = []
    threads = [threading.Thread(target=lambda: tries.append(refused(ring, WRONG))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(problem.code for problem in tries) == ["pin_wait"] * 2 + ["pin_wrong"] * 4


def test_a_new_pin_opens_the_same_key_and_the_old_one_no_longer(ring: KeyRing, clock: Clock) -> None:
    key = ring.create(PIN)
    with pytest.raises(FirstRayError) as error:
        ring.change_pin(PIN, "123456")
    assert error.value.code == "pin_too_simple"
    with pytest.raises(PinWrong):
        ring.change_pin(WRONG, "a good long passphrase")
    ring.change_pin(PIN, "a good long passphrase")
    assert refused(ring, PIN).code == "pin_wrong"
    assert ring.unlock("a good long passphrase").blob_key == key.blob_key


def test_parameters_are_those_the_wrap_was_made_with(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ring.create(PIN)
    monkeypatch.setattr(keys, "COST", {"memory_kib": 128, "iterations": 2, "lanes": 2})
    assert ring.unlock(PIN).name_key == key.name_key
    ring.change_pin(PIN, "990418")
    assert json.loads((ring._folder / FILE).read_text())["wrap"]["cost"]["iterations"] == 2
    ring.unlock("990418")
    assert COST["memory_kib"] >= 64 * 1024


def test_a_destroyed_key_is_gone_for_good(ring: KeyRing, tmp_path: Path) -> None:
    ring.create(PIN)
    with pytest.raises(FirstRayError) as error:
        ring.create(PIN)
    assert error.value.code == "key_exists"
    cut_off = tmp_path / "store" / "keys.json.0a1b2c3d.part"  # a change of PIN that was killed
    cut_off.write_text("the key, wrapped by another PIN")
    ring.destroy()
    ring.destroy()
    assert not ring.exists
    assert not cut_off.exists()
    with pytest.raises(StoreError) as missing:
        ring.unlock(PIN)
    assert missing.value.code == "store_missing"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 1}', '{"version": 1, "wrap": {}, "tries": 0, "failed": null}']
)
def test_a_damaged_key_file_says_so(ring: KeyRing, content: str) -> None:
    ring.create(PIN)
    (ring._folder / FILE).write_text(content)
    with pytest.raises(StoreError) as error:
        ring.unlock(PIN)
    assert error.value.code == "store_damaged"


def test_another_wrap_cannot_be_slipped_in(ring: KeyRing, tmp_path: Path, clock: Clock) -> None:
    ring.create(PIN)
    file = ring._folder / FILE
    state = json.loads(file.read_text())
    state["wrap"]["sealed"] = "A" * len(state["wrap"]["sealed"])
    file.write_text(json.dumps(state))
    assert refused(ring, PIN).code == "pin_wrong"


@pytest.mark.parametrize(
    "pin",
    [
        "000000",
        "123456",
        "654321",
        "121212",
        "112233",
        "123123",
        "123321",
        "13579135",
        "1234512345",
        "246802",
        "aaaaaaaaaaaa",
    ],
)
def test_pins_that_everybody_tries_first(pin: str) -> None:
    with pytest.raises(FirstRayError) as error:
        check_pin(pin)
    assert error.value.code == "pin_too_simple"


@pytest.mark.parametrize(
    ("pin", "code"), [("48390", "pin_too_short"), ("", "pin_too_short"), ("abc48390", "pin_too_short")]
)
def test_short_pins(pin: str, code: str) -> None:
    with pytest.raises(FirstRayError) as error:
        check_pin(pin)
    assert error.value.code == code


@pytest.mark.parametrize("pin", ["483902", "907153842610", "blue ambulance 7", "구급차는 오늘도 달린다"])
def test_good_pins(pin: str) -> None:
    check_pin(pin)


def test_a_master_key_from_the_same_secret_is_the_same() -> None:
    assert MasterKey(b"k" * 32).database_key == MasterKey(b"k" * 32).database_key != MasterKey(b"l" * 32).database_key


def test_a_process_that_holds_the_key_leaves_no_core_dump() -> None:
    code = (
        "import ctypes, resource; from edge_app.store.keys import MasterKey; MasterKey(bytes(32));"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.split() == ["0", "0"]


def test_a_pin_being_changed_can_be_killed_at_any_moment(ring: KeyRing, tmp_path: Path) -> None:
    """Each step that touches the disk is the last one once; one of the two PINs opens the same key afterwards."""
    secret = ring.create(PIN).database_key
    pins, steps = [PIN, OTHER], 0
    while True:
        pid = os.fork()
        if pid == 0:
            _die_at(steps)
            ring.change_pin(*pins)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            break
        opened = {}
        for pin in pins:
            with suppress(PinWrong):
                opened[pin] = KeyRing(tmp_path / "store").unlock(pin).database_key
        assert list(opened.values()) == [secret]
        if OTHER in opened:
            ring.change_pin(OTHER, PIN)
        steps += 1
    assert steps > 8
    assert KeyRing(tmp_path / "store").unlock(OTHER).database_key == secret


def _die_at(step: int) -> None:
    """Die before the so-manieth event that Python audits of files being opened, renamed or removed."""
    left = [step]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.rename", "os.remove"):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(hook)
