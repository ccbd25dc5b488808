"""What can go wrong at the DICOM receiver, and the C-STORE status that tells the sender (PS3.4 B.2.3)."""

from __future__ import annotations

import logging
from typing import Final

from shared.errors import FirstRayError

LOG: Final = logging.getLogger(__name__)

CHECK_DEVICE: Final = "Check the X-ray device's settings for sending to FirstRay."
SEND_AGAIN: Final = "Send the image again from the X-ray device."

ERRORS: Final[dict[str, tuple[str, str]]] = {
    "dicom_settings_invalid": ("The settings of the DICOM receiver are not valid.", "Correct them and start again."),
    "dicom_port_in_use": (
        "The port of the DICOM receiver is in use by another program, so no image can arrive by itself.",
        "Stop the other program or choose another port, here and in the X-ray device.",
    ),
    "dicom_address_unavailable": (
        "The DICOM receiver cannot listen on this address, so no image can arrive by itself.",
        "Check the network connection and the address in the settings; a port below 1024 needs permission.",
    ),
    "dicom_not_listening": (
        "The DICOM receiver does not listen, so no image can arrive by itself.",
        "Save its settings again, or restart FirstRay.",
    ),
    "dicom_peer_not_allowed": (
        "A device outside the allowed networks tried to connect.",
        "If it is the X-ray device, add its network to the settings.",
    ),
    "dicom_called_ae_title": ("A device called FirstRay by another AE title.", CHECK_DEVICE),
    "dicom_calling_ae_title": (
        "A device whose AE title is not on the list tried to send.",
        "If it is the X-ray device, add its AE title to the settings.",
    ),
    "dicom_associations_full": ("Too many connections were open at once.", SEND_AGAIN),
    "dicom_class_not_supported": (
        "A device offered a kind of object other than a radiograph, or in an unknown compression.",
        "Send the chest radiograph itself (CR, DX or Secondary Capture).",
    ),
    "dicom_object_too_large": (
        "A device sent an object larger than a radiograph can be.",
        "Send a single chest radiograph.",
    ),
    "dicom_too_slow": (
        "A device took too long to send an image, and the connection was closed.",
        "Check the cable or the wireless link. " + SEND_AGAIN,
    ),
    "dicom_cut_off": (
        "The connection broke off while an image arrived; nothing of it was kept.",
        "Check the cable or the wireless link. " + SEND_AGAIN,
    ),
    "dicom_protocol": ("A device sent a message that is not valid DICOM.", SEND_AGAIN),
    "dicom_class_mismatch": ("The image is of another kind than the device said.", SEND_AGAIN),
    "dicom_not_understood": ("The image's header cannot be read.", SEND_AGAIN),
    "dicom_stopping": ("FirstRay was closing when the image arrived; it was not kept.", SEND_AGAIN),
    "dicom_not_stored": ("The image could not be stored because of a fault in FirstRay.", SEND_AGAIN),
}
"""Every code of the receiver: (what happened, what to do next). The codes never change their meaning."""

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
CLASS_MISMATCH: Final = 0xA900
NOT_UNDERSTOOD: Final = 0xC000

ANSWERS: Final[dict[str, tuple[int, str]]] = {
    "store_locked": (OUT_OF_RESOURCES, "FirstRay is locked. Unlock it, then send again."),
    "disk_full": (OUT_OF_RESOURCES, "FirstRay's disk is full. Free space, then send again."),
    "disk_read_only": (OUT_OF_RESOURCES, "FirstRay cannot write its disk. See its status screen."),
    "disk_failed": (OUT_OF_RESOURCES, "FirstRay's disk failed. See its status screen."),
    "store_damaged": (OUT_OF_RESOURCES, "FirstRay's store is damaged. See its status screen."),
    "dicom_stopping": (OUT_OF_RESOURCES, "FirstRay is closing. Start it, then send again."),
    "dicom_class_mismatch": (CLASS_MISMATCH, "Data set and SOP Class differ. Export the image again."),
    "dicom_not_understood": (NOT_UNDERSTOOD, "Data set header not readable. Export the image again."),
    "dicom_not_stored": (OUT_OF_RESOURCES, "Not stored: fault in FirstRay. Send again later."),
}
"""Code -> (status, Error Comment (0000,0902), at most 64 characters of the default repertoire, no patient data)."""


def dicom_error(code: str) -> FirstRayError:
    """The error for a code of :data:`ERRORS`."""
    return FirstRayError(code, *ERRORS[code])


def as_error(error: Exception) -> FirstRayError:
    """What the store raised, as it is; what it should not have raised, as ``dicom_not_stored``."""
    if isinstance(error, FirstRayError):
        return error
    LOG.error("storing failed: %s", type(error).__name__)
    return dicom_error("dicom_not_stored")


def answer(error: FirstRayError) -> tuple[int, str]:
    """C-STORE status and Error Comment for a failure; a code not listed is a fault on this side (A700)."""
    return ANSWERS.get(error.code, ANSWERS["dicom_not_stored"])
