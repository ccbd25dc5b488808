"""How the station is started, and what it tells: options, changes, and the status that screens show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID

from edge_app.capture.dicom import DicomSettings, ReceiverStatus
from edge_app.health import Health
from edge_app.hospital_access import HospitalAccess
from edge_app.store.views import Room, Standing
from edge_app.sync import LinkState
from shared.diagnosis import Diagnoser
from shared.errors import FirstRayError
from shared.prevalence import SitePrevalence
from shared.version import VERSION


@dataclass(frozen=True, slots=True)
class Change:
    """Something changed.

    Attributes:
        kind: ``models``, ``film``, ``reading`` (of a film begins), ``picture``, ``found`` (:meth:`Station.under_way`
            has it), ``read`` (its outcome is stored), ``run``, ``patient``, ``delivery``, ``inbox`` and ``reviewed``
            (the hospital said something about a run, about a film), ``deletion``, ``link``, ``receiver``, ``refused``
            (an image could not be taken or read: ``error`` says why), ``revoked``.
        id: of the record, where one is meant.
        error: why, where something failed.
    """

    kind: str
    id: UUID | None = None
    error: FirstRayError | None = None


@dataclass(frozen=True, slots=True)
class StationOptions:
    """How the station starts; what the command line says wins over what the store remembers.

    Attributes:
        release: folder of the model release; None means the installed one.
        prevalence: a site's own prevalences.
        dicom: the receiver's settings; None means as remembered, else the defaults.
        receive: whether to receive at all.
        hot_folder: folder to take images from; None means as remembered, else none.
        hospital: to send to from now on; None means as remembered, else none.
        alone: nobody is there to be asked to which run an image belongs; each image begins one of its own.
    """

    release: Path | None = None
    prevalence: SitePrevalence | None = None
    dicom: DicomSettings | None = None
    receive: bool = True
    hot_folder: Path | None = None
    hospital: HospitalAccess | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """Whether films can be read, and by what; ``error`` where they cannot."""

    ready: bool
    release: str = ""
    precision: str = ""
    runtime: str = ""
    error: FirstRayError | None = None

    @classmethod
    def of(cls, models: Diagnoser | None, error: FirstRayError | None) -> Self:
        """Of loaded models, or of none."""
        if models is None:
            return cls(ready=False, error=error)
        variant = models.variant
        return cls(True, models.release.id, variant.precision, variant.runtime, error)


@dataclass(frozen=True, slots=True)
class Status:
    """Everything the status screen shows.

    Attributes:
        receiver: None where receiving is switched off; ``receiver.problem`` says why it does not listen.
        dicom: the receiver's settings: AE title and port to enter at the X-ray device.
        addresses: this machine's IPv4 addresses, to enter at the X-ray device.
        hot_folder: watched for images; None for none.
        models: what reads films.
        link: None where no hospital is set up.
        standing, room, health: see there.
        reading: films that wait to be read or are being read.
        hospital: that this device sends to; None for none.
        version: of FirstRay.
    """

    receiver: ReceiverStatus | None
    dicom: DicomSettings
    addresses: tuple[str, ...]
    hot_folder: Path | None
    models: ModelStatus
    link: LinkState | None
    standing: Standing
    room: Room
    health: Health
    reading: int
    hospital: HospitalAccess | None = None
    version: str = VERSION
