"""``make e2e``: from an X-ray device in an ambulance without network to the emergency room, and back, with real parts.

The hospital's server with TLS, an account and an enrolled device by their own commands; the app without a screen; DCMTK
as the X-ray device; a link that is cut and comes back; Chromium as the emergency room; then the app's window with what
the emergency room said. Ends with an error as soon as a step does not show what it must. Needs Xvfb, xdotool,
ImageMagick, DCMTK and Chromium.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from benchmarks.edge.display import virtual_screen
from firstray.demo import sample_radiograph
from tests.fake_hospital.certificates import Authority
from tests.fake_hospital.shaper import Shaper
from tests.ui.screen import Screen, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

PIN: Final = "271828"
MESSAGE: Final = "Resuscitation room 2 is ready."
TOOLS: Final = ("Xvfb", "xdotool", "import", "storescu", "chromium")
PATIENCE_MS: Final = 60_000


class Program:
    """One ``firstray`` command that runs, with its output in a file."""

    def __init__(self, log: Path, environment: dict[str, str], *arguments: str) -> None:
        self._log = log
        with log.open("wb") as out:
            command = [sys.executable, "-m", "firstray", *arguments]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment})

    def said(self, words: str) -> bool:
        """Whether it has printed these words; fails where it has ended."""
        text = self._log.read_text(errors="replace")
        if self.process.poll() is not None:
            raise RuntimeError(f"ended with {self.process.returncode}: {text[-3000:]}")
        return words in text

    def stop(self) -> None:
        """End it, kindly first."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Album:
    """The screenshots, in order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._step = 0

    def next(self, name: str) -> Path:
        """Where the next one goes."""
        self._step += 1
        file = self._folder / f"{self._step:02d}-{name}.png"
        print(file)
        return file


def firstray(environment: dict[str, str], *arguments: str) -> str:
    """What one command printed."""
    done = subprocess.run(
        [sys.executable, "-m", "firstray", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"firstray {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def secret(file: Path, text: str) -> Path:
    """A file that only its owner may read."""
    file.touch(mode=0o600)
    file.write_text(text)
    return file


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """Stops it in the end."""
    try:
        yield program
    finally:
        program.stop()


def journey(work: Path, display: str, album: Album) -> None:
    """The whole way; see the module."""
    authority = Authority()
    port = free_port()
    with Shaper(port) as link:
        there = f"https://127.0.0.1:{link.port}"
        server_is = {
            "FIRSTRAY_SERVER_DATA": str(work / "hospital"),
            "FIRSTRAY_SERVER_PORT": str(port),
            "FIRSTRAY_SERVER_PUBLIC_URL": there,
            "FIRSTRAY_SERVER_CERTIFICATE": str(secret(work / "server.pem", authority.issue())),
            "FIRSTRAY_SERVER_KEY": str(work / "server.pem"),
            "FIRSTRAY_SERVER_CA": str(secret(work / "ca.pem", authority.pem)),
            "FIRSTRAY_SERVER_LANGUAGE": "en",
        }
        password = secret(work / "password", secrets.token_urlsafe(16))
        for login, name, role in (("dr.han", "Dr. Han", "er"), ("it", "Hospital IT", "admin")):
            options = ("--name", name, "--role", role, "--password-file", str(password))
            firstray(server_is, "admin", "create-user", login, *options)
        with running(Program(work / "server.log", server_is, "serve")):
            wait_until(lambda: _answers(port, work / "ca.pem"), "the server")
            _ambulance(work, display, album, server_is, link, port)
        print(firstray(server_is, "admin", "verify-audit").strip())


def _answers(port: int, ca: Path) -> bool:
    try:
        return httpx.get(f"https://127.0.0.1:{port}/readyz", verify=str(ca)).is_success
    except httpx.HTTPError:
        return False


def _ambulance(work: Path, display: str, album: Album, server_is: dict[str, str], link: Shaper, port: int) -> None:
    pin = secret(work / "pin", PIN)
    told = firstray(server_is, "admin", "enrol", "Ambulance 7")
    url, code = re.findall(r"--enrol (\S+) (\S+)", told)[0]
    store = ("--store", str(work / "store"), "--pin-file", str(pin))
    print(firstray({}, "edge", *store, "--enrol", url, code).strip())
    dicom = free_port()
    receiver = ("--host", "127.0.0.1", "--port", str(dicom))
    with running(Program(work / "edge.log", {}, "edge", "--headless", *store, *receiver)) as edge:
        wait_until(lambda: edge.said("ready"), "the device")
        with emergency_room(work, port) as page:
            page.wait_for_selector("#board")
            link.cut()
            send(dicom)
            wait_until(lambda: edge.said("read "), "the reading in the ambulance")
            if page.locator("li.run").count():
                raise RuntimeError("the board shows a run before the link is back")
            page.screenshot(path=album.next("board-before"))
            link.restore()
            began = time.monotonic()
            page.wait_for_selector("li.run", timeout=PATIENCE_MS)
            print(f"on the board {time.monotonic() - began:.1f} s after the link was back")
            at_the_hospital(page, album)
    with running_window(display, work, receiver) as window:
        back_in_the_ambulance(window, album)
    with emergency_room(work, port, "it", "/admin") as page:
        page.screenshot(path=album.next("admin"), full_page=True)


@contextmanager
def emergency_room(work: Path, port: int, login: str = "dr.han", path: str = "/board") -> Iterator[Page]:
    """A browser of the hospital, logged in."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            page = browser.new_page(ignore_https_errors=True, viewport={"width": 1440, "height": 900}, locale="en-GB")
            page.set_default_timeout(PATIENCE_MS)
            page.goto(f"https://127.0.0.1:{port}/login?next={path}")
            page.fill("#login", login)
            page.fill("#password", (work / "password").read_text())
            page.click("form[action='/login'] button.primary")
            page.wait_for_url(f"**{path}*")
            yield page
        finally:
            browser.close()


def at_the_hospital(page: Page, album: Album) -> None:
    """The doctor sees the run, opens it, compares, acknowledges and writes."""
    page.wait_for_selector("li.run .top-finding")
    page.screenshot(path=album.next("board"))
    page.click("li.run h3 a")
    page.wait_for_selector("[data-mode='side']")
    page.wait_for_selector(".viewer img, .viewer canvas", state="attached")
    wait_until(lambda: _full_precision(page), "the hospital's own reading")
    page.screenshot(path=album.next("patient"), full_page=True)
    page.click("[data-mode='side']")
    page.screenshot(path=album.next("side-by-side"))
    page.fill("#message-text", MESSAGE)
    page.click("form[action$='/message'] button.primary")
    page.click("form[action$='/acknowledge'] button.primary")
    page.wait_for_selector("text=Acknowledged by Dr. Han")
    page.screenshot(path=album.next("acknowledged"), full_page=True)


def _full_precision(page: Page) -> bool:
    return "fp32" in page.inner_text("main")


def send(port: int) -> None:
    """Send the sample radiograph as an X-ray device does."""
    command = ["storescu", "-aec", "FIRSTRAY", "-aet", "PORTABLE1", "127.0.0.1", str(port), str(sample_radiograph())]
    subprocess.run(command, check=True, timeout=120)


@contextmanager
def running_window(display: str, work: Path, receiver: tuple[str, ...]) -> Iterator[Screen]:
    """The same device with its screens."""
    home = work / "home"
    home.mkdir()
    window = Screen(display, home, "--store", str(work / "store"), "--language", "en", *receiver)
    try:
        yield window
    finally:
        window.close()


def back_in_the_ambulance(window: Screen, album: Album) -> None:
    """The crew unlocks and finds what the emergency room said."""
    window.wait_for("unlock.digit.1")
    time.sleep(1)
    for digit in PIN:
        window.touch(f"unlock.digit.{digit}")
    window.touch("unlock.enter")
    window.touch("nav.status")
    window.touch("status.news.0")
    window.wait_to_read("Seen by Dr. Han")
    window.wait_to_read(MESSAGE)
    album.next("ambulance").write_bytes(window.photo())


def main() -> int:
    """Go the whole way; exit code 0 only if every step showed what it must."""
    parser = argparse.ArgumentParser(prog="make e2e", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/e2e"))
    out = parser.parse_args().out
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with virtual_screen() as environment, tempfile.TemporaryDirectory(prefix="firstray-e2e-") as work:
        try:
            journey(Path(work), environment["DISPLAY"], Album(out))
        except BaseException:
            for log in sorted(Path(work).glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}", file=sys.stderr)
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
