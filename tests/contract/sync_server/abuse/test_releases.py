"""Archives that are no release."""

import io
import zipfile
from pathlib import Path

import httpx
import pytest

from shared.errors import ReleaseError
from shared.release_archive import unpack_release
from sync_server.domain import accounts
from sync_server.hospital import Hospital
from tests.contract.sync_server.abuse.attack import admin_token
from tests.hospital.process import ServerProcess


def archive(*entries: tuple[zipfile.ZipInfo | str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", how) as file:
        for name, data in entries:
            file.writestr(name, data)
    return made.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x05\x06",
        archive(("../evil", b"x")),
        archive(("/etc/evil", b"x")),
        archive(("..", b"x")),
        archive((".", b"x")),
        archive(("a/b", b"x")),
        archive(("C:evil", b"x")),
        archive(("..\\evil", b"x")),
        archive((zipfile.ZipInfo(""), b"x")),
        archive(("n" * 300, b"x")),
        archive(("é" * 150, b"x")),
        archive((link("manifest.json"), b"/etc/passwd")),
        archive(("folder/", b"")),
        archive(("manifest.json", b"x"), how=zipfile.ZIP_LZMA),
        archive(("manifest.json", b"x"), how=zipfile.ZIP_BZIP2),
        archive(*((f"file{number}", b"x") for number in range(65))),
        archive(("manifest.json", b"[" * 100_000), ("manifest.sig", b"x")),
        archive(("manifest.json", b"\xff"), ("manifest.sig", b"")),
        archive(("manifest.json", b"x"))[:-30],
    ],
)
def test_a_release_that_is_none_is_refused_and_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "release.zip"
    file.write_bytes(data)
    with pytest.raises(ReleaseError):
        unpack_release(file, tmp_path / "into")
    left = sorted(path.name for path in tmp_path.rglob("*"))
    assert left == ["into", "release.zip"], left


def test_an_admin_hears_why_a_file_is_no_release(server: ServerProcess, hospital: Hospital) -> None:
    token = admin_token(hospital)
    person = accounts.person(hospital.database, token)
    assert person is not None
    cookies = {"firstray": token}
    with httpx.Client(base_url=server.url, trust_env=False, cookies=cookies, timeout=30) as browser:
        for data in (archive(("../evil", b"x")), b"no zip"):
            files = {"file": ("release.zip", data)}
            answer = browser.post("/admin/releases", data={"csrf": person.csrf}, files=files)
            assert answer.status_code == 422, answer.text
            assert "not a model release" in answer.text
        assert browser.post("/admin/releases", files={"file": ("release.zip", b"x")}).status_code == 403
        assert browser.post("/admin/releases", data={"csrf": person.csrf}).status_code == 422
