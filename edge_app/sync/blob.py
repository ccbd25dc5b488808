"""The image being sent, kept open from chunk to chunk."""

from __future__ import annotations

from typing import BinaryIO

from edge_app.store.views import Upload
from edge_app.sync.ports import Outbox
from shared.errors import FirstRayError


class OpenBlob:
    """Reads chunks of images; only the last one read from stays open. For the outbox's thread."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._open: tuple[str, BinaryIO] | None = None

    def read(self, upload: Upload, size: int) -> bytes:
        """At most ``size`` bytes from the upload's offset on; raises ``FirstRayError`` ``image_damaged``."""
        if self._open is None or self._open[0] != upload.sha256:
            self.close()
            self._open = (upload.sha256, self._outbox.open_blob(upload.sha256))
        blob = self._open[1]
        blob.seek(upload.offset)
        chunk = blob.read(min(size, upload.size - upload.offset))
        if not chunk:
            raise FirstRayError(
                "image_damaged", "An image on this device is shorter than it was.", "Report it; restore a backup."
            )
        return chunk

    def close(self) -> None:
        """Close what is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None
