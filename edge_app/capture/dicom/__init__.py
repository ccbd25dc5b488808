"""The DICOM receiver: X-ray devices send radiographs to it by C-STORE (PS3.4 Annex B)."""

from edge_app.capture.dicom.errors import ERRORS
from edge_app.capture.dicom.receiver import DicomReceiver
from edge_app.capture.dicom.settings import PRIVATE_NETWORKS, DicomSettings
from edge_app.capture.dicom.status import Happening, Occasion, ReceiverStatus

__all__ = ["ERRORS", "PRIVATE_NETWORKS", "DicomReceiver", "DicomSettings", "Happening", "Occasion", "ReceiverStatus"]
