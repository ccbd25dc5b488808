"""An admin takes in the installed release in Chromium, gives it to a ring and goes back; wrong files are refused."""

import io
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlmodel import col, select

from shared.release import default_release, load_release
from shared.release_archive import pack_release
from sync_server.db.tables import AuditRow, ReleaseRow
from sync_server.domain import inbox, releases
from sync_server.domain.releases import SERVER
from tests.hospital import enrolled_device, new_hospital
from tests.web.conftest import LogIn, violations
from tests.web.scene import Scene, accounts_of, served

SHOTS = os.environ.get("FIRSTRAY_SHOTS")
"""Folder for pictures, to look at."""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    hospital = new_hospital(tmp_path)
    accounts_of(hospital)
    yield Scene(hospital, enrolled_device(hospital, "Ambulance 7"))
    hospital.close()


@pytest.fixture
def address(scene: Scene) -> Iterator[str]:
    with served(scene.hospital) as found:
        yield found


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ZIP of the release that is installed, as its maker signed it."""
    made = tmp_path_factory.mktemp("release") / "release.zip"
    pack_release(load_release(default_release()), made)
    return made


@pytest.fixture
def page(log_in: LogIn) -> Page:
    return log_in("/admin/releases", login="admin")


def upload(page: Page, file: Path) -> None:
    page.get_by_label("ZIP file of the release").set_input_files(file)
    page.get_by_role("button", name="Upload and verify").click()


def assign(page: Page, ring: str, release: str) -> None:
    page.get_by_label("Ring", exact=True).fill(ring)
    page.get_by_label("Release", exact=True).select_option(release)
    page.get_by_role("button", name="Assign").click()


def look(page: Page, name: str) -> None:
    assert violations(page) == []
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"releases-{name}.png", full_page=True)


def offers(scene: Scene) -> list[str]:
    items = inbox.fetch(scene.hospital.database, scene.device.id, 0).items
    return [item.content.release for item in items if item.content.kind == "release"]


def test_the_installed_release_is_taken_in_given_to_a_ring_and_taken_back(
    scene: Scene, page: Page, archive: Path
) -> None:
    release = default_release().name
    rings = page.locator("section[aria-labelledby=t-rings] tbody tr")
    expect(rings.locator("td")).to_have_text(["general", "as installed", "1", "", "", "", ""])
    upload(page, archive)
    expect(page.get_by_role("status")).to_have_text(f"Release {release}: signature and files are right.")
    expect(page.locator("section[aria-labelledby=t-all] tbody tr")).to_have_count(1)
    look(page, "taken-in")
    assert offers(scene) == [], "nothing runs it before it is assigned"

    with scene.hospital.database.writing() as session:  # what the ring ran before: long ago, and its models are gone
        old = session.get(ReleaseRow, release)
        assert old is not None
        session.add(ReleaseRow(**(old.model_dump() | {"id": "2026-01-01.1"})))
    releases.assign(scene.hospital, "general", "2026-01-01.1", "user:admin")
    page.reload()
    assign(page, "general", release)
    expect(page.get_by_role("status")).to_have_text(f"Ring general runs {release}; devices told: 1")
    expect(rings.filter(has_text="general").locator("td")).to_contain_text(
        ["general", release, "1", "", "user:admin", "2026-01-01.1", "Back to"]
    )
    look(page, "assigned")
    assert offers(scene) == ["2026-01-01.1", release]

    page.get_by_role("button", name="Back to 2026-01-01.1").click()
    expect(page.get_by_role("status")).to_have_text("Ring general runs 2026-01-01.1 again.")
    assert offers(scene) == ["2026-01-01.1", release, "2026-01-01.1"]
    look(page, "rolled-back")
    assign(page, SERVER, release)
    expect(page.get_by_role("status")).to_contain_text(f"Ring server runs {release}")
    expect(rings.first).to_contain_text("This hospital")
    assert offers(scene)[-1] == "2026-01-01.1", "the hospital's own release is told to no device"
    with scene.hospital.database.reading() as session:
        acts = select(AuditRow.action).where(col(AuditRow.action).startswith("release."))
        audited = session.exec(acts.order_by(col(AuditRow.number))).all()
    assert list(audited) == [
        "release.uploaded", "release.assigned", "release.assigned", "release.rolled_back", "release.assigned",
    ]  # fmt: skip


def test_a_wrong_file_is_refused_in_words_and_nothing_is_taken_in(
    scene: Scene, page: Page, archive: Path, tmp_path: Path
) -> None:
    cut, picture, altered = tmp_path / "cut.zip", tmp_path / "photo.zip", tmp_path / "altered.zip"
    data = archive.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    picture.write_bytes(b"\xff\xd8\xff\xe0" * 100)
    altered.write_bytes(_with_another_card(archive))
    for file, said in (
        (picture, "The file is not a model release: it is no ZIP or is damaged"),
        (cut, "The file is not a model release: it is no ZIP or is damaged"),
        (altered, "MODEL_CARD.md is not the file that was released (size or SHA-256 differs)."),
    ):
        page.goto("/admin/releases")
        upload(page, file)
        alert = page.get_by_role("alert")
        expect(alert.locator("p").first).to_have_text(re.compile(f"^{re.escape(said)}"))
        expect(alert).to_contain_text("Nothing was taken in")
        look(page, f"refused-{file.stem}")
    page.goto("/admin/releases")
    expect(page.locator("section[aria-labelledby=t-all]")).to_contain_text("None.")
    with scene.hospital.database.reading() as session:
        assert session.exec(select(ReleaseRow)).all() == []
    assert list(scene.hospital.settings.data.glob("release-*")) == []


def _with_another_card(archive: Path) -> bytes:
    """The same ZIP with a model card that was not signed."""
    made = io.BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(made, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            target.writestr(entry, content + b" altered" if entry.filename.endswith("MODEL_CARD.md") else content)
    return made.getvalue()
