"""The locked screen: choosing a PIN, wrong tries, and a store that does not open."""

from datetime import UTC, datetime

import pytest

from edge_app.store.errors import StoreError
from edge_app.store.keys import PinWrong
from edge_app.store.views import Backup
from edge_app.ui.presenters.unlock import Step, UnlockPresenter
from shared.errors import FirstRayError
from tests.unit.edge_app.presenters.rig import Rig


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Lock:
    """An unlock presenter and what became of it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.opened = 0
        self.clock = Clock()
        self.presenter = UnlockPresenter(rig.desk, rig.station, self._open, self.clock)

    def _open(self) -> None:
        self.opened += 1

    def type(self, digits: str) -> None:
        for digit in digits:
            self.presenter.digit(digit)

    def submit(self, digits: str) -> None:
        self.type(digits)
        self.presenter.submit()
        self.rig.wait(lambda: not self.presenter.state.busy)


@pytest.fixture
def lock(rig: Rig) -> Lock:
    return Lock(rig)


def test_a_new_device_asks_twice_for_a_pin_of_at_least_six_digits(rig: Rig) -> None:
    rig.station.is_new = True
    lock = Lock(rig)
    assert lock.presenter.state.step is Step.CHOOSE
    lock.type("27182")
    assert not lock.presenter.state.ready
    lock.presenter.submit()
    assert lock.presenter.state.step is Step.CHOOSE
    lock.submit("8")
    assert (lock.presenter.state.step, lock.presenter.state.digits) == (Step.REPEAT, 0)
    lock.submit("271828")
    rig.wait(lambda: lock.opened)
    assert rig.station.pins == [("set_up", "271828")]
    assert lock.presenter.state.step is Step.ENTER


def test_two_different_pins_begin_the_choice_again(rig: Rig) -> None:
    rig.station.is_new = True
    lock = Lock(rig)
    lock.submit("271828")
    lock.submit("314159")
    assert lock.presenter.state.step is Step.CHOOSE
    assert lock.presenter.state.error is not None
    assert lock.presenter.state.error.code == "pin_differs"
    assert rig.station.pins == []


def test_a_pin_that_is_too_simple_is_refused_and_chosen_again(rig: Rig) -> None:
    rig.station.is_new = True
    rig.station.answers = [FirstRayError("pin_too_simple", "", "")]
    lock = Lock(rig)
    lock.submit("123456")
    lock.submit("123456")
    assert lock.presenter.state.step is Step.CHOOSE
    assert lock.opened == 0


def test_the_right_pin_opens_and_is_forgotten(lock: Lock) -> None:
    lock.submit("271828")
    assert lock.opened == 1
    assert lock.presenter._pin == ""
    assert lock.presenter.state.digits == 0


def test_erase_takes_the_last_digit_back_and_twelve_is_the_most(lock: Lock) -> None:
    lock.type("1" * 20)
    assert lock.presenter.state.digits == 12
    lock.presenter.erase()
    assert lock.presenter.state.digits == 11


def test_wrong_pins_are_counted_and_slow_down(lock: Lock, rig: Rig) -> None:
    rig.station.answers = [PinWrong("pin_wrong", 0, 1), PinWrong("pin_wrong", 15, 5)]
    lock.submit("111222")
    assert lock.presenter.seconds_left() == 0
    lock.submit("111222")
    assert (lock.presenter.state.tries, lock.presenter.seconds_left()) == (5, 15)
    lock.type("271828")
    assert lock.presenter.state.digits == 0, "nothing is typed while one has to wait"
    lock.clock.now += 14.5
    assert lock.presenter.seconds_left() == 1
    lock.clock.now += 0.6
    lock.submit("271828")
    assert lock.opened == 1


def test_a_store_in_trouble_is_not_taken_for_a_wrong_pin(lock: Lock, rig: Rig) -> None:
    rig.station.answers = [StoreError("store_locked")]
    lock.submit("271828")
    assert lock.presenter.state.trouble is not None
    assert lock.presenter.state.trouble.code == "store_locked"
    assert lock.opened == 0
    lock.presenter.retry()
    rig.wait(lambda: lock.opened)
    assert rig.station.pins == [("unlock", "271828"), ("unlock", "271828")]


def test_a_damaged_store_offers_its_backups_and_is_restored_with_the_pin_typed(lock: Lock, rig: Rig) -> None:
    rig.station.saved = (
        Backup("b2.db", datetime.now(UTC), 10, "daily"),
        Backup("b1.db", datetime.now(UTC), 9, "daily"),
    )
    rig.station.answers = [StoreError("store_damaged")]
    lock.submit("271828")
    rig.wait(lambda: lock.presenter.state.backups)
    lock.presenter.restore(lock.presenter.state.backups[1])
    rig.wait(lambda: lock.opened)
    assert rig.station.pins[1] == ("restore b1.db", "271828")
    assert lock.presenter.state.trouble is None


def test_reset_asks_for_a_pin_according_to_the_device(lock: Lock, rig: Rig) -> None:
    lock.type("27")
    rig.station.is_new = True
    lock.presenter.reset()
    assert (lock.presenter.state.step, lock.presenter.state.digits) == (Step.CHOOSE, 0)


def test_a_passphrase_takes_the_place_of_the_pin_until_it_is_changed_back(lock: Lock, rig: Rig) -> None:
    lock.type("27")
    lock.presenter.use_passphrase(True)
    assert lock.presenter.state.digits == 0, "what was typed as a PIN is dropped"
    lock.presenter.write("nine sign")
    assert not lock.presenter.state.ready
    lock.presenter.write("nine signs and more")
    assert lock.presenter.state.ready
    lock.presenter.submit()
    rig.wait(lambda: lock.opened)
    assert rig.station.pins == [("unlock", "nine signs and more")]
    lock.presenter.reset()
    assert lock.presenter.state.passphrase, "the next time it is asked for again"
    lock.presenter.use_passphrase(False)
    lock.submit("271828")
    assert lock.opened == 2


def test_a_new_device_asks_twice_for_a_passphrase(rig: Rig) -> None:
    rig.station.is_new = True
    lock = Lock(rig)
    lock.presenter.use_passphrase(True)
    for step in (Step.CHOOSE, Step.REPEAT):
        assert lock.presenter.state.step is step
        lock.presenter.write("correct horse")
        lock.presenter.submit()
    rig.wait(lambda: lock.opened)
    assert rig.station.pins == [("set_up", "correct horse")]


def test_records_of_a_key_that_is_gone_are_not_offered_again(rig: Rig) -> None:
    rig.station.is_new = True
    rig.station.saved = (Backup("b1.db", datetime.now(UTC), 9, "daily"),)
    rig.station.answers = [StoreError("store_damaged")]
    lock = Lock(rig)
    lock.submit("271828")
    lock.submit("271828")
    rig.settle()
    assert (lock.presenter.state.lost_key, lock.presenter.state.backups) == (True, ())
    lock.presenter.restore(None)
    rig.wait(lambda: lock.opened)
    assert rig.station.pins[1] == ("restore nothing", "271828")
    assert not lock.presenter.state.lost_key
