"""What radiographs took of memory for a moment is given back."""

import subprocess
import sys

import pytest

KEEPS = """
import ctypes, os, sys, threading
from edge_app.memory import return_large_blocks

if sys.argv[1] == "return":
    return_large_blocks()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

def receive(turn):
    whole = bytearray()
    for _ in range(80):
        whole += bytes(131_072)
    turn.append(bytes(whole))
    turn.clear()
    kept.append(bytes(1000))

kept, before = [], resident()
for _ in range(3):
    threads = [threading.Thread(target=receive, args=([],)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
child = os.environ.get("MALLOC_MMAP_THRESHOLD_", "")
print(resident() - before, child)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc alone")
def test_large_blocks_that_threads_freed_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", KEEPS, "return"], capture_output=True, text=True, check=True)
    kept, child = done.stdout.split()
    assert int(kept) < 20
    assert child, "and by the decoder, a process of its own"
