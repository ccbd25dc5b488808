"""The whole way with real parts, as ``make e2e`` goes it: X-ray device, ambulance without network, hospital."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import e2e


@pytest.mark.timeout(900)
@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in e2e.TOOLS), reason=f"needs {', '.join(e2e.TOOLS)} (Debian packages)"
)
def test_a_radiograph_taken_without_network_reaches_the_doctor_and_her_answer_the_crew(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.e2e", "--out", str(tmp_path / "shots")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=840, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on the board" in done.stdout
    assert "The audit log is whole" in done.stdout
    assert len(list((tmp_path / "shots").glob("*.png"))) == 7
