"""How the device stands: what the hospital holds, what waits and why, and what support needs to know."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kivy.lang import Builder
from kivy.uix.widget import Widget

from edge_app.ui import theme
from edge_app.ui.i18n import Translator
from edge_app.ui.presenters import words
from edge_app.ui.presenters.places import Place, Screen
from edge_app.ui.presenters.status import StatusPresenter, StatusState
from edge_app.ui.screens.capture import receiver_lines
from edge_app.ui.screens.home import run_row
from edge_app.ui.screens.parts import View, aside, button, notice, running_app, section, text
from edge_app.ui.widgets import Meter
from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.station import Status

LITTLE_ROOM = 2e9
"""Bytes free below which the disk is said to be filling up."""
REFUSALS_SHOWN = 10


class StatusView(View):
    """The device and its hospital."""

    presenter: StatusPresenter
    columns_from = 760

    def __init__(self, presenter: StatusPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self.title = self.tr("Status")

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: StatusState = self.presenter.state
        status, tr = state.status, self.tr
        if status is None:
            return
        link = status.link
        minute = words.ago(link.last_contact, tr) if link else ""
        self.show(
            self.ids.hospital,
            (status.link, status.standing, status.hospital, minute),
            lambda: self._hospital(status, tr),
        )
        self.show(self.ids.news, state.news, lambda: self._news(state, tr))
        receiver = (status.receiver, status.dicom, status.addresses, status.hot_folder)
        self.show(self.ids.receiver, receiver, lambda: self._receiver(status, tr))
        told = (status.models, status.version, status.reading)
        self.show(self.ids.models, told, lambda: self._models(status, tr))
        room = (status.room.free // 10**8, status.room.total, status.room.images // 10**7)
        self.show(self.ids.room, (room, state.damage), lambda: self._room(state, status, tr))
        health = status.health
        coarse = (health.battery_percent, health.plugged, health.temperature_c, health.memory_mb // 10)
        self.show(self.ids.health, (coarse, health.uptime_s // 60), lambda: self._health(status, tr))
        self.show(self.ids.support, state.exported, lambda: self._support(state, tr))

    def _hospital(self, status: Status, tr: Translator) -> list[Widget]:
        standing, link = status.standing, status.link
        said, kind = words.link(link, tr)
        widgets = [
            section(status.hospital.name if status.hospital else tr("Hospital")),
            text(f"{theme.KIND_MARK[kind]} {said}", colour=theme.KIND[kind], bold=True, large=True),
        ]
        if link is None:
            widgets.append(aside(tr("Records stay on this device until a hospital is set up.")))
        else:
            widgets.append(aside(tr("Last contact: {ago}", ago=words.ago(link.last_contact, tr))))
            if link.last_error is not None:
                error = FirstRayError(link.last_error.code, link.last_error.message, link.last_error.action)
                widgets.append(notice(words.error(error, tr), tr("Why nothing is sent")))
            if link.upload is not None:
                widgets.append(
                    Meter(
                        label=tr("Sending an image"),
                        figure=f"{words.size(link.upload.sent)} / {words.size(link.upload.size)}",
                        fraction=link.upload.sent / max(link.upload.size, 1),
                    )
                )
            if link.bytes_per_second:
                widgets.append(aside(tr("Speed: {speed}/s", speed=words.size(link.bytes_per_second))))
        held = tr("Records the hospital provably holds (signed receipts): {n}", n=standing.events_held)
        widgets.append(text(held, bold=True))
        if standing.last_receipt_at:
            widgets.append(aside(tr("Last receipt: {time}", time=words.clock(standing.last_receipt_at))))
        widgets += self._waiting(status, tr)
        return widgets

    def _waiting(self, status: Status, tr: Translator) -> list[Widget]:
        standing = status.standing
        waiting = [
            tr("records {n}", n=standing.events_waiting) if standing.events_waiting else "",
            tr("previews {n}", n=standing.previews_waiting) if standing.previews_waiting else "",
            tr("original images {n}", n=standing.originals_waiting) if standing.originals_waiting else "",
        ]
        widgets: list[Widget] = []
        if any(waiting):
            widgets.append(
                text(
                    tr("Waiting: {what} ({size})", what=words.joined(waiting), size=words.size(standing.bytes_waiting))
                )
            )
            if standing.oldest_waiting_at:
                widgets.append(
                    aside(tr("The oldest waits since {time}.", time=words.clock(standing.oldest_waiting_at)))
                )
        elif standing.events_held:
            widgets.append(text(tr("Nothing waits."), colour=theme.GOOD))
        if standing.refusals:
            widgets.append(
                text(tr("Refused by the hospital: {n}", n=len(standing.refusals)), colour=theme.URGENT, bold=True)
            )
            for refusal in standing.refusals[:REFUSALS_SHOWN]:
                widgets.append(aside(f"{refusal.what}: {refusal.message or refusal.code} ({refusal.code})"))
            widgets.append(aside(tr("The data stay on this device. Tell the hospital's IT the code.")))
        return widgets

    def _news(self, state: StatusState, tr: Translator) -> list[Widget]:
        if not state.news:
            return []
        rows = [run_row(run, tr, f"status.news.{n}") for n, run in enumerate(state.news)]
        return [section(tr("News from the emergency room")), *rows]

    def _receiver(self, status: Status, tr: Translator) -> list[Widget]:
        watched = status.hot_folder.name if status.hot_folder else tr("none")
        return [
            section(tr("X-ray device (DICOM)")),
            *receiver_lines(status, tr),
            aside(tr("Watched folder: {folder}", folder=watched)),
        ]

    def _models(self, status: Status, tr: Translator) -> list[Widget]:
        models = status.models
        widgets: list[Widget] = [section(tr("Models"))]
        if models.error is not None:
            widgets.append(notice(words.error(models.error, tr), tr("Images cannot be read"), theme.URGENT))
        elif not models.ready:
            widgets.append(text(tr("Loading the models…")))
        else:
            widgets.append(text(words.joined([models.release, models.precision, models.runtime])))
        if status.reading:
            widgets.append(text(tr("Images being read: {n}", n=status.reading)))
        widgets.append(aside(tr("FirstRay {version}", version=status.version)))
        widgets.append(aside(tr("Research use; not a medical device")))
        return widgets

    def _room(self, state: StatusState, status: Status, tr: Translator) -> list[Widget]:
        room = status.room
        used = 1 - room.free / room.total if room.total else 0.0
        little = room.free < LITTLE_ROOM
        widgets: list[Widget] = [
            section(tr("Storage")),
            Meter(
                label=tr("Disk"),
                figure=tr("{size} free", size=words.size(room.free)),
                fraction=used,
                kind="urgent" if little else "plain",
            ),
            aside(
                tr(
                    "Images {images}, records {records}",
                    images=words.size(room.images),
                    records=words.size(room.database),
                )
            ),
        ]
        if state.damage is not None:
            widgets.append(notice(words.error(state.damage, tr), tr("The records need attention"), theme.URGENT))
        if little:
            widgets.append(text(tr("Little room is left: delete old runs that the hospital holds."), bold=True))
        return widgets

    def _health(self, status: Status, tr: Translator) -> list[Widget]:
        health = status.health
        charging = tr("charging") if health.plugged else ""
        lines = [
            tr("Battery: {percent}%", percent=round(health.battery_percent)) + f" {charging}"
            if health.battery_percent is not None
            else tr("Battery: not told by this device"),
            tr("Temperature: {degrees} °C", degrees=round(health.temperature_c))
            if health.temperature_c is not None
            else tr("Temperature: not told by this device"),
            tr("Memory in use: {n} MB", n=round(health.memory_mb)),
            tr("Running for {n} min", n=int(health.uptime_s // 60)),
        ]
        return [section(tr("Device")), *[text(line) for line in lines]]

    def _support(self, state: StatusState, tr: Translator) -> list[Widget]:
        widgets: list[Widget] = [button(tr("Settings"), "status.settings", self._to_settings)]
        widgets.append(section(tr("For support")))
        widgets.append(aside(tr("A file without patient data: versions, counts, states, log.")))
        widgets.append(button(tr("Export diagnostics"), "status.export", self._export))
        if state.exported is not None:
            widgets.append(text(tr("Written: {file}", file=state.exported.name), colour=theme.GOOD))
        return widgets

    def _to_settings(self) -> None:
        running_app().shell.go(Place(Screen.SETTINGS))

    def _export(self) -> None:
        running_app().pick_place(self.tr("Where to?"), self.presenter.export)


Builder.load_file(str(Path(__file__).with_name("status.kv")))
