"""A portable X-ray device: ``python -m benchmarks.edge.sender PORT SAMPLE [--small]``.

For every line on standard input it sends the sample as a new instance by C-STORE and prints, in monotonic seconds, when
it began and when success was answered. ``--small`` sends a quarter of the side.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pydicom.uid import generate_uid
from pynetdicom import AE

from edge_app.demo import exposed


def main() -> None:
    """Send as often as asked."""
    port, path = int(sys.argv[1]), Path(sys.argv[2])
    dataset = exposed(path)
    if "--small" in sys.argv:
        pixels = dataset.pixel_array[::4, ::4]
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelData = pixels.tobytes()
    device = AE("BENCH")
    device.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    print("ready", flush=True)
    for _ in sys.stdin:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        began = time.monotonic()
        association = device.associate("127.0.0.1", port, ae_title="FIRSTRAY")
        if not association.is_established:
            sys.exit("the association was refused")
        status = association.send_c_store(dataset).get("Status")
        answered = time.monotonic()
        association.release()
        if status != 0:
            sys.exit(f"C-STORE was answered {status}")
        print(f"{began} {answered}", flush=True)


if __name__ == "__main__":
    main()
