"""``firstray demo``: the main job on a real radiograph that ships with the package ``pydicom-data``."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from firstray.diagnose import Options, outcomes, print_readable
from firstray.inputs import Input
from shared.errors import FirstRayError

SAMPLE = "RG1_UNCR.dcm"


def sample_radiograph() -> Path:
    """A real chest radiograph: CR, PA, MONOCHROME1, 15 bits, several large masses.

    Raises:
        FirstRayError: ``sample_missing``.
    """
    spec = importlib.util.find_spec("data_store")
    for folder in spec.submodule_search_locations or [] if spec else []:
        found = next(Path(folder).rglob(SAMPLE), None)
        if found:
            return found
    raise FirstRayError("sample_missing", "The sample radiograph is not installed.", "pip install pydicom-data")


def has_display() -> bool:
    """Whether a window can be opened here."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def run(release: Path | None, out: Path) -> int:
    """Show the app with sample patients where there is a display; otherwise print the sample's diagnosis."""
    sample = sample_radiograph()
    if has_display() and importlib.util.find_spec("kivy"):
        from firstray import edge

        try:
            return edge.run(edge.Options(demo=True, release=release))
        except FirstRayError as error:
            if error.code != "no_display":
                raise
    options = Options(release=release, out=out)
    failed = False
    for outcome in outcomes([Input(sample)], options):
        print_readable(outcome)
        failed |= outcome.status != "ok"
    return 1 if failed else 0
