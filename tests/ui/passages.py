"""Passages through the app that need two views or two places, gone through from inside: run as a module with the
app's home folder and a chest radiograph; prints ``"done"``."""

import gc
import sys
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_app.station import Station
from edge_app.ui.presenters.places import Place, Screen
from shared.hospital import ErMessage
from shared.records import Sex
from tests.ui.inside import Step, after, app, go_through, seen, tap
from tests.ui.shift import Shift

WORDS = "correct horse 김하늘"


def plan(shift: Shift) -> Step:
    """All passages, one after the other."""
    yield lambda: seen("runs.new")
    first = (estimated_age, compared_alone, undone_elsewhere, answered, answered_above)
    for passage in (*first, left_behind, other_language, passphrase):
        yield from passage(shift)


def stay() -> None:
    """What is said at the foot of the screen does not go by itself."""
    app()._teller._toast._timer.cancel()


def estimated_age(_: Shift) -> Step:
    """The age tapped before 'Man' is in the run; a second tap takes it back."""
    yield from tap("runs.new")
    for age in (40, 40, 60):
        yield from tap(f"begin.age.{age}")
    yield from tap("begin.male")
    yield lambda: seen("run.edit")
    who = app().station.store.run(app().shell.state.place.id).patient.fields
    assert (who.sex, who.estimated_age) == (Sex.MALE, 60)


def compared_alone(shift: Shift) -> Step:
    """Both films zoom together, and each alone once they are parted."""
    app().shell.go(Place(Screen.COMPARE, shift.ids["earlier"], shift.ids["urgent"]))
    yield lambda: seen("compare.linked")
    view = app()._frame.shown
    left, right = view.ids.left, view.ids.right
    yield lambda: left.film is not None and right.film is not None
    yield from tap("+", left)
    yield lambda: left.zoom_level > 1
    assert right.zoom_level == left.zoom_level, "and the right one with it"
    yield from tap("Fit", left)
    yield from tap("compare.linked")
    yield from tap("+", right)
    yield lambda: right.zoom_level > 1
    assert left.zoom_level == 1, "the left one stays as it was"


def undone_elsewhere(shift: Shift) -> Step:
    """'Undo' at the foot of the screen goes once the list of what was deleted was used."""
    app().shell.go(Place(Screen.RUN, shift.ids["doubtful"]))
    yield lambda: app()._frame.shown.presenter.state.run is not None
    app()._frame.shown.presenter.delete()
    yield lambda: seen("Deleted.")
    stay()
    app().shell.go(Place(Screen.DELETIONS))
    yield from tap("deletions.undo.0")
    yield lambda: seen("Deleted.") is None
    assert app().station.store.run(shift.ids["doubtful"])


def answered(shift: Shift) -> Step:
    """That the emergency room has answered is not said any longer to who reads the answer."""
    app().shell.tab(Screen.STATUS)
    said = ErMessage(encounter=shift.ids["doubtful"], by="Dr. Han", text="Come to room 3.", at=datetime.now(UTC))
    shift.hear(said)
    yield lambda: seen("The emergency room has answered.")
    stay()
    app().shell.go(Place(Screen.RUN, shift.ids["doubtful"]))
    yield lambda: seen("Come to room 3.")
    yield lambda: seen("The emergency room has answered.") is None


def answered_above(shift: Shift) -> Step:
    """A message is said to who looks at an image of its run until it is read: the run beneath does not show it."""
    run = shift.ids["doubtful"]
    for place in (Place(Screen.RUN, run), Place(Screen.RESULT, shift.ids["twice"])):
        app().shell.go(place)
    yield lambda: app()._frame.shown.presenter.state.row is not None
    shift.hear(ErMessage(encounter=run, by="Dr. Han", text="Divert to City Hospital.", at=datetime.now(UTC)))
    yield lambda: seen("The emergency room has answered.")
    stay()
    app().show()
    yield lambda: app()._frame.shown.presenter.state.row.news == 1
    app()._frame.shown.refresh()
    assert seen("The emergency room has answered.")
    yield from tap("Open")
    yield lambda: seen("Divert to City Hospital.")
    yield lambda: app().station.store.run(run).row.news == 0


def left_behind(shift: Shift) -> Step:
    """A result that was left is let go of, although Python's own full rounds are switched off."""
    yield lambda: gc.get_threshold()[2] > 1_000_000
    app().shell.tab(Screen.HISTORY)
    app().shell.go(Place(Screen.RESULT, shift.ids["urgent"]))
    yield lambda: app()._frame.shown.presenter.state.picture is not None
    view = weakref.ref(app()._frame.shown)
    yield after(0.5)
    app().shell.back()
    yield lambda: view() is None


def other_language(_: Shift) -> Step:
    """Fields filled before they had their width show the whole of their text."""
    app().shell.tab(Screen.STATUS)
    app().shell.go(Place(Screen.SETTINGS))
    for name in ("한국어", "English"):
        yield from tap(name)
        yield after(0.4)
        box = seen("settings.ae_title").ids.box
        assert box._scrolled[0] == 0, "no letter is hidden at the left"


def passphrase(_: Shift) -> Step:
    """A passphrase in place of the PIN, typed to unlock; a wrong one is refused."""
    app().shell.go(Place(Screen.PIN))
    yield lambda: seen("pin.old")
    ids = app()._frame.shown.ids
    ids.old.text = "271828"
    yield from tap("Passphrase")
    ids.new.text = ids.again.text = WORDS
    app()._frame.shown.save()
    yield lambda: seen("pin.old") is None
    app().lock()
    for typed in ("something else", WORDS):
        yield lambda: seen("unlock.words")
        seen("unlock.words").text = typed
        yield from tap("unlock.submit")
        yield lambda: app().unlock.state.error is not None or not app().shell.state.locked
        if typed != WORDS:
            assert seen("This passphrase is wrong. Try again."), "it is said so"
            yield lambda: seen("unlock.words").text == ""
    assert not app().shell.state.locked


def fill(chest: str) -> Any:
    """What fills the station."""

    def filled(station: Station) -> Shift:
        return Shift(station.store, Path(chest))

    return filled


def main(home: str, chest: str) -> None:
    """Go through all of them."""
    go_through(Path(home), fill(chest), plan, lambda: print("done", flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
