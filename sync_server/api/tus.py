"""Reading the headers of tus 1.0 (https://tus.io/protocols/resumable-upload)."""

from __future__ import annotations

import base64
import re
from typing import Final

from pydantic import ValidationError

from shared.hospital import ImageKind, ImageMetadata
from sync_server.api.problems import Problem

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,checksum,expiration,termination"
BODY_TYPE: Final = "application/offset+octet-stream"

_PAIR: Final = re.compile(r"([^\s,]+) ([A-Za-z0-9+/]+={0,2})")


def number(name: str, text: str) -> int:
    """A header's whole number; raises Problem 400."""
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise Problem(400, "malformed", f"{name} must be a whole number.")
    return int(text)


def metadata(text: str) -> ImageMetadata:
    """What an upload is (tus 1.0, "Upload-Metadata"): ``key base64,key base64``; raises Problem 400."""
    values = {}
    for pair in text.split(","):
        if (found := _PAIR.fullmatch(pair.strip())) is None:
            raise Problem(400, "malformed", "Upload-Metadata must be pairs of a key and a value in base64.")
        try:
            values[found[1]] = base64.b64decode(found[2], validate=True).decode()
        except ValueError:
            raise Problem(400, "malformed", "A value of Upload-Metadata is no text in base64.") from None
    try:
        # Other keys are for other clients (filename, filetype): left alone.
        return ImageMetadata.model_validate_strings({key: values.get(key, "") for key in ImageMetadata.model_fields})
    except ValidationError:
        kinds = ", ".join(ImageKind)
        raise Problem(
            400, "malformed", f"Upload-Metadata must say radiograph (a UUID), kind ({kinds}) and sha256 (hexadecimal)."
        ) from None


def checksum(text: str | None) -> bytes | None:
    """What the body's SHA-256 must be (tus 1.0, "Checksum"); None where it is not said; raises Problem 400."""
    if text is None:
        return None
    algorithm, _, value = text.partition(" ")
    try:
        digest = base64.b64decode(value, validate=True)
    except ValueError:
        digest = b""
    if algorithm != "sha256" or len(digest) != 32:
        raise Problem(400, "checksum_unknown", "Upload-Checksum must be: sha256, a blank, the digest in base64.")
    return digest
