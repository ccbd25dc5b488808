"""Images in S3, against a server that speaks it (moto). Needs the extra ``s3`` and the command ``moto_server``."""

import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import FirstRayError
from sync_server.domain.images import ImageStore

pytest.importorskip("s3fs", reason="the extra s3 is not installed")
SERVER = os.environ.get("MOTO_SERVER") or shutil.which("moto_server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="moto_server is not installed")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([str(SERVER), "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL) as server:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until, "moto did not start"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


@pytest.fixture
def store(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("images", exist_ok=True)
    return ImageStore("s3://images/firstray", tmp_path / "locks")


def test_images_lie_in_a_bucket(store: ImageStore, tmp_path: Path) -> None:
    body = os.urandom(7_000_000)
    sha256 = hashlib.sha256(body).hexdigest()
    file = tmp_path / "arrived"
    file.write_bytes(body)
    assert store.size(sha256) is None
    store.put(file, sha256)
    file.unlink()
    assert store.size(sha256) == len(body)
    with store.open(sha256) as held:
        held.seek(6_999_990)
        assert held.read() == body[-10:]
        held.seek(0)
        assert held.read() == body
    with store.guarded(sha256):
        store.delete(sha256)
        store.delete(sha256)
    assert not store.exists(sha256)
    with pytest.raises(FirstRayError) as caught:
        store.open(sha256)
    assert caught.value.code == "image_not_held"
    store.check()


def test_a_service_that_does_not_answer_is_told(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    dead = ImageStore("s3://images/firstray", tmp_path / "locks")
    dead._files.config_kwargs = {"connect_timeout": 1, "retries": {"max_attempts": 0}}
    file = tmp_path / "arrived"
    file.write_bytes(b"x")
    for act in (dead.check, lambda: dead.put(file, "0" * 64), lambda: dead.size("0" * 64)):
        with pytest.raises(FirstRayError) as caught:
            act()
        assert caught.value.code == "image_store_failing"
