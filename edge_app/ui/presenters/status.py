"""How the device stands: what the hospital holds, what waits, and what can be set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_app.store.views import RunRow
from edge_app.ui.presenters.desk import Desk, Presenter, nothing
from edge_app.ui.presenters.forms import Mistake, mistake
from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.station import Station, Status


@dataclass(frozen=True, slots=True)
class StatusState:
    """State of the status screen.

    Attributes:
        status: None until it is read.
        news: runs with answers of the hospital that the crew has not seen.
        damage: what the store's full check found, or why no backup could be made; None if all is well.
        exported: where the diagnostics were written; None before.
    """

    status: Status | None = None
    news: tuple[RunRow, ...] = ()
    damage: FirstRayError | None = None
    exported: Path | None = None
    error: FirstRayError | None = None


class StatusPresenter(Presenter[StatusState]):
    """Shows the status, and writes it into a file for support."""

    def __init__(self, desk: Desk, station: Station) -> None:
        super().__init__(desk, station, StatusState())

    def export(self, folder: Path) -> None:
        """Write the diagnostics, which hold no patient data, into a folder."""

        def work() -> Path:
            data = self._station.diagnostics()
            file = folder / f"firstray-diagnostics-{datetime.now():%Y%m%d-%H%M%S}.zip"
            try:
                file.write_bytes(data)
            except OSError:
                raise FirstRayError(
                    "export_failed",
                    "The diagnostics could not be written there.",
                    "Choose another folder, or check that the USB stick is plugged in and not write-protected.",
                ) from None
            return file

        self._do(work, lambda file: self._set(exported=file), long=True)

    def _fetch(self, state: StatusState) -> dict[str, Any]:
        del state
        store = self._station.store
        news = tuple(row for row in store.runs(limit=50) if row.news)
        return {"status": self._station.status(), "news": news, "damage": store.damage}


@dataclass(frozen=True, slots=True)
class Settings:
    """State of the settings.

    Attributes:
        status: holds the receiver's settings and the watched folder; None until it is read.
        wrong: field -> why it was not taken.
        busy: something is being changed.
        done: what was done last: ``receiver``, ``pin``; empty before.
    """

    status: Status | None = None
    wrong: tuple[tuple[str, Mistake], ...] = ()
    busy: bool = False
    done: str = ""
    error: FirstRayError | None = None


class SettingsPresenter(Presenter[Settings]):
    """Changes how the device receives, and the PIN.

    Args:
        desk, station: as in :class:`Presenter`.
        finished: called after the PIN was changed.
    """

    def __init__(self, desk: Desk, station: Station, finished: Callable[[], None] = nothing) -> None:
        super().__init__(desk, station, Settings())
        self._finished = finished

    def set_receiver(self, ae_title: str, port: str) -> None:
        """Receive under another AE title (PS3.5 6.2: 1..16 characters) or port."""
        status = self._state.status
        title = ae_title.strip().upper()
        wrong = []
        if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
            wrong.append(("ae_title", mistake("1 to 16 letters or digits.")))
        if not port.isdecimal() or not 1024 <= int(port) <= 65535:
            wrong.append(("port", mistake("Between {low} and {high}.", low=1024, high=65535)))
        self._set(wrong=tuple(wrong), done="")
        if wrong or status is None or self._state.busy:
            return
        settings = replace(status.dicom, ae_title=title, port=int(port))
        self._change(lambda: self._station.set_dicom(settings), "receiver")

    def set_hot_folder(self, folder: Path | None) -> None:
        """Watch another folder, or none."""
        self._change(lambda: self._station.set_hot_folder(folder), "folder")

    def change_pin(self, old: str, new: str, again: str) -> None:
        """Change the PIN; the new one is typed twice."""
        if self._state.busy:
            return
        if new != again:
            self._set(wrong=(("again", mistake("The two differ.")),), error=None)
            return
        self._set(wrong=(), error=None)
        self._change(lambda: self._station.change_pin(old, new), "pin")

    def _fetch(self, state: Settings) -> dict[str, Any]:
        del state
        return {"status": self._station.status()}

    def _change(self, work: Callable[[], None], done: str) -> None:
        self._set(busy=True, done="")

        def finished(_: object) -> None:
            self._set(busy=False, done=done)
            self.reload()
            if done == "pin":
                self._finished()

        self._do(work, finished, self._not_changed, long=True)

    def _not_changed(self, error: FirstRayError) -> None:
        self._set(busy=False, error=error)
        self.reload()
