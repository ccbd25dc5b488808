"""What can go wrong between ambulance and hospital, in the words the status screen shows.

Which class an error has decides what the client does; its code, message and action are for people.
"""

from __future__ import annotations

from typing import Final

from shared.errors import FirstRayError

REST_ASSURED: Final = "Everything is kept here and is sent by itself as soon as there is a connection."

TEXTS: Final[dict[str, tuple[str, str]]] = {
    "hospital_unreachable": ("The hospital cannot be reached.", REST_ASSURED),
    "hospital_slow": ("The hospital did not answer in time.", REST_ASSURED),
    "not_the_hospital": (
        "What answers is not the hospital: its certificate is not the one this device was enrolled with.",
        "Nothing was sent. Try another network; tell the hospital's IT if this stays.",
    ),
    "certificate_not_yet_valid": (
        "By this device's clock the hospital's certificate is not valid yet: the clock is probably behind.",
        "Set this device's date and time. Nothing was sent.",
    ),
    "certificate_expired": (
        "By this device's clock the hospital's certificate has expired.",
        "Check this device's date and time; if they are right, tell the hospital's IT. Nothing was sent.",
    ),
    "certificate_other_name": (
        "The hospital's certificate is for another address than the one in the settings.",
        "Tell the hospital's IT. Nothing was sent.",
    ),
    "network_portal": (
        "The network answers with a page of its own, such as a log-in page, not with the hospital.",
        "Nothing was sent. Log in to this network, or use another one.",
    ),
    "hospital_failing": (
        "The hospital's server is busy or has a fault.",
        "Nothing is lost; it is tried again by itself.",
    ),
    "hospital_answer_unreadable": (
        "The hospital's answer is not one that this version of FirstRay understands.",
        "Nothing is lost; it is tried again by itself. Tell the hospital's IT if this stays.",
    ),
    "device_unauthorised": (
        "The hospital does not accept this device's credentials.",
        "Enrol this device again. Everything is kept here until then.",
    ),
    "device_revoked": (
        "The hospital no longer trusts this device: nothing is sent or received any more.",
        "Ask the hospital's IT to enrol this device again.",
    ),
    "sha256_mismatch": (
        "An image arrived damaged at the hospital, three times from the beginning.",
        "The image is kept here. Tell the hospital's IT.",
    ),
    "sync_internal_error": (
        "FirstRay met an error of its own while it was sending.",
        "Nothing is lost; it is tried again by itself. Report it if this stays.",
    ),
}
"""Code -> (message, action)."""


class SyncError(FirstRayError):
    """Base of what ends one exchange with the hospital; ``code`` is a key of :data:`TEXTS`."""

    def __init__(self, code: str) -> None:
        super().__init__(code, *TEXTS[code])


class Lost(SyncError):
    """There is no link to the hospital."""

    def __init__(self, code: str = "hospital_unreachable") -> None:
        super().__init__(code)


class Foreign(SyncError):
    """Something answers that is not the hospital."""


class Denied(SyncError):
    """The hospital does not accept the credentials."""

    def __init__(self) -> None:
        super().__init__("device_unauthorised")


class Revoked(SyncError):
    """The hospital has revoked the device; ``wipe`` asks it to destroy its key."""

    def __init__(self, wipe: bool = False) -> None:
        super().__init__("device_revoked")
        self.wipe = wipe


class Failed(SyncError):
    """The hospital answers, but cannot do it now; ``retry_after`` is what it asks for in seconds, 0 where nothing."""

    def __init__(self, code: str = "hospital_failing", retry_after: float = 0.0) -> None:
        super().__init__(code)
        self.retry_after = retry_after
