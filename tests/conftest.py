"""What several tests use: the sample radiographs, the training data where it is at hand, the release in use."""

import importlib.util
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import memory

PARTS = {
    "edge": ("unit/shared", "unit/edge_app", "unit/firstray", "fault", "ui", "contract"),
    "server": ("unit/shared", "unit/sync_server", "unit/firstray", "fault", "contract", "web"),
}
"""Test folders of a part that is tested without the rest (``make test PART=edge``)."""
OTHERS = {
    "edge": re.compile(r"contract/(sync_server|test_enrolled_edge|test_end_to_end)|fault/\w*(server|job)"),
    "server": re.compile(r"(contract|fault)/\w*(dicom_receiver|edge|to_end|killed_device|station|store|sync)\w*\.py"),
}
"""Tests of the other part, or of both together, in folders that they share."""

# The same examples in every run, however slow the machine; FIRSTRAY_EXPLORE=1 draws others.
settings.register_profile(
    "firstray",
    deadline=None,
    derandomize="FIRSTRAY_EXPLORE" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("firstray")


def pytest_configure() -> None:
    """Before any temporary folder is made."""
    memory.use_for_temporary_folders()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the folders that do not belong to the part under test."""
    name = os.environ.get("FIRSTRAY_TEST_PART", "all")
    part = PARTS.get(name)
    tests = Path(__file__).parent
    if part is None or not collection_path.is_relative_to(tests):
        return None
    relative = collection_path.relative_to(tests).as_posix()
    if OTHERS[name].match(relative):
        return True
    related = any(folder.startswith(relative + "/") or (relative + "/").startswith(folder + "/") for folder in part)
    return None if related or relative in (".", "conftest.py") else True


def sample_file(name: str) -> Path:
    """A file of the package pydicom-data."""
    spec = importlib.util.find_spec("data_store")
    folders = [Path(folder) for folder in spec.submodule_search_locations or []] if spec else []
    return next(path for folder in folders for path in folder.rglob(name))


@pytest.fixture(scope="session")
def chest() -> Path:
    """A real chest radiograph: CR, PA, MONOCHROME1, 15 bits, several large masses."""
    return sample_file("RG1_UNCR.dcm")


@pytest.fixture(scope="session")
def chest_jpeg2000() -> Path:
    """The same radiograph, JPEG 2000 lossless."""
    return sample_file("RG1_J2KR.dcm")


@pytest.fixture(scope="session")
def legs() -> Path:
    """A real radiograph of legs."""
    return sample_file("RG3_UNCR.dcm")


@pytest.fixture(scope="session")
def training_data() -> Path:
    """The development data folder; skips where there is none."""
    named = os.environ.get("FIRSTRAY_DATA")
    if not named or not (Path(named) / "labels.csv").is_file():
        pytest.skip("FIRSTRAY_DATA names no training data folder")
    return Path(named)
