"""Errors that a user meets: each has a stable code, says what happened and what to do next.

A code is part of the contract: it appears in ``firstray diagnose --json``, in records and in translations, and never
changes its meaning. Modules define their own codes as constants beside the code that raises them.
"""

from __future__ import annotations


class FirstRayError(Exception):
    """Base of every error FirstRay raises on purpose.

    Args:
        code: stable machine-readable code, lower case with underscores, e.g. ``"dicom_truncated"``.
        message: what happened and what it means, one or two sentences, without patient data.
        action: what the user should do next.
    """

    def __init__(self, code: str, message: str, action: str = "") -> None:
        super().__init__(f"{message} {action}".strip())
        self.code = code
        self.message = message
        self.action = action


class RadiographError(FirstRayError):
    """A file cannot be read as a radiograph (see :mod:`shared.radiograph`)."""


class ReleaseError(FirstRayError):
    """A model release is missing, incomplete, altered or not signed by a trusted key (see :mod:`shared.release`)."""


class RuntimeUnavailable(FirstRayError):
    """No installed inference runtime can run the requested variant (see :mod:`shared.runtime`)."""
