"""Which presenter and which view belong to a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from edge_app.store.views import Film
from edge_app.ui.presenters.capture import AssignPresenter
from edge_app.ui.presenters.compare import ComparePresenter
from edge_app.ui.presenters.desk import Presenter
from edge_app.ui.presenters.enrol import EnrolPresenter
from edge_app.ui.presenters.history import HistoryPresenter
from edge_app.ui.presenters.places import Place, Screen
from edge_app.ui.presenters.result import ResultPresenter
from edge_app.ui.presenters.run import RunPresenter
from edge_app.ui.presenters.runs import BeginPresenter, KnownPresenter, RunsPresenter
from edge_app.ui.presenters.status import SettingsPresenter, StatusPresenter
from edge_app.ui.screens.capture import AssignView, CaptureView
from edge_app.ui.screens.compare import CompareView
from edge_app.ui.screens.enrol import EnrolView
from edge_app.ui.screens.history import DeletionsView, HistoryView
from edge_app.ui.screens.home import BeginView, HomeView, KnownView
from edge_app.ui.screens.parts import View
from edge_app.ui.screens.patient import PatientView, VitalsView
from edge_app.ui.screens.result import ResultView
from edge_app.ui.screens.run import RunView
from edge_app.ui.screens.settings import PinView, SettingsView
from edge_app.ui.screens.status import StatusView

if TYPE_CHECKING:
    from edge_app.ui.app import FirstRayApp

VIEWS: Final[dict[Screen, type[View]]] = {
    Screen.RUNS: HomeView,
    Screen.CAPTURE: CaptureView,
    Screen.HISTORY: HistoryView,
    Screen.STATUS: StatusView,
    Screen.BEGIN: BeginView,
    Screen.KNOWN: KnownView,
    Screen.RUN: RunView,
    Screen.PATIENT: PatientView,
    Screen.VITALS: VitalsView,
    Screen.ASSIGN: AssignView,
    Screen.RESULT: ResultView,
    Screen.COMPARE: CompareView,
    Screen.DELETIONS: DeletionsView,
    Screen.SETTINGS: SettingsView,
    Screen.PIN: PinView,
    Screen.ENROL: EnrolView,
}


class Opened:
    """A place in the stack: its presenter, and its view once it was shown.

    Attributes:
        stale: something changed while it was not shown.
        shows_errors: its view says errors itself.
    """

    def __init__(self, place: Place, presenter: Presenter[Any]) -> None:
        self.place = place
        self.presenter = presenter
        self.stale = False
        self.shows_errors = place.screen in (Screen.SETTINGS, Screen.PIN, Screen.ENROL)
        self._view: View | None = None

    @property
    def view(self) -> View:
        """The view, made at the first call."""
        if self._view is None:
            self._view = VIEWS[self.place.screen](self.presenter)
        return self._view

    def forget_view(self) -> None:
        """It is made anew, for another language or other colours."""
        if self._view is not None:
            self._view.release()
        self._view = None

    def close(self) -> None:
        """The user is gone from here."""
        self.forget_view()
        if self.place.screen is not Screen.CAPTURE:
            self.presenter.close()


def open_place(app: FirstRayApp, place: Place) -> Opened:
    """The presenter of a place, ready to be shown."""
    return Opened(place, _presenter(app, place))


def _presenter(app: FirstRayApp, place: Place) -> Presenter[Any]:
    desk, station, shell, id = app.desk, app.station, app.shell, place.id
    if id is None:
        return _general(app, place.screen)
    match place.screen:
        case Screen.KNOWN:
            return KnownPresenter(desk, station, id, _begun(app))
        case Screen.ASSIGN:
            return AssignPresenter(desk, station, id, lambda run, film: _assigned(app, run, film))
        case Screen.RESULT:
            return ResultPresenter(desk, station, id, lambda: app.tr, shell.deleted)
        case Screen.COMPARE if place.other is not None:
            return ComparePresenter(desk, station, id, place.other, lambda film: _note(app, film))
        case _:
            return RunPresenter(desk, station, id, shell.deleted)


def _general(app: FirstRayApp, screen: Screen) -> Presenter[Any]:
    desk, station = app.desk, app.station
    makers: dict[Screen, Callable[[], Presenter[Any]]] = {
        Screen.RUNS: lambda: RunsPresenter(desk, station),
        Screen.CAPTURE: lambda: app.capture,
        Screen.HISTORY: lambda: HistoryPresenter(desk, station, app.shell.deleted),
        Screen.DELETIONS: lambda: HistoryPresenter(desk, station, app.shell.deleted),
        Screen.STATUS: lambda: StatusPresenter(desk, station),
        Screen.BEGIN: lambda: BeginPresenter(desk, station, _begun(app)),
        Screen.SETTINGS: lambda: SettingsPresenter(desk, station),
        Screen.PIN: lambda: SettingsPresenter(desk, station, app.shell.back),
        Screen.ENROL: lambda: EnrolPresenter(desk, station, app.shell.back),
    }
    return makers[screen]()


def _begun(app: FirstRayApp) -> Callable[[UUID], None]:
    return lambda run: app.shell.replace(Place(Screen.RUN, run))


def _assigned(app: FirstRayApp, run: UUID, film: UUID) -> None:
    """The radiograph has its run: show the result, with the run behind it."""
    app.shell.replace(Place(Screen.RUN, run))
    app.shell.go(Place(Screen.RESULT, film))


def _note(app: FirstRayApp, film: Film) -> str:
    correction = film.diagnosis.correction if film.diagnosis else None
    if not correction:
        return ""
    return app.tr("Not as received: {correction}", correction=correction.describe(app.tr.language))
