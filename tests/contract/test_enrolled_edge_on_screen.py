"""A hospital is set up on the screen: the real app on a virtual screen, real taps, and real servers over TLS."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import select

from benchmarks.edge.display import virtual_screen
from sync_server.db.tables import DeviceRow, EnrolmentCodeRow, HistoryRow
from sync_server.domain import enrolment
from tests.contract.sync_server.running import RunningHospital
from tests.ui.screen import wait_until
from tests.ui.tablet import Tablet

TOOLS = ("Xvfb", "xdotool", "import")

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)} (Debian packages)"
)

Hospitals = Callable[[str], RunningHospital]


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospitals]:
    """Starts a hospital of a name."""
    started: list[RunningHospital] = []

    def start(name: str) -> RunningHospital:
        made = RunningHospital(tmp_path / name.replace(" ", "-"), hospital_name=name)
        made.start()
        started.append(made)
        return made

    yield start
    for made in started:
        made.stop()


@pytest.fixture
def tablet(tmp_path: Path) -> Iterator[Tablet]:
    """The app, opened, with a run under way, on the form of the hospital."""
    with virtual_screen() as screen:
        made = Tablet(screen["DISPLAY"], tmp_path, "--language", "en")
        try:
            made.set_up()
            made.touch("runs.new")
            made.touch("begin.unknown")
            made.touch("nav.status")
            made.scroll_to("status.settings", 900, 600)
            made.touch("status.settings")
            made.touch("settings.hospital")
            yield made
            assert "Traceback" not in made.output()
        finally:
            made.close()


def new_code(running: RunningHospital) -> str:
    return str(enrolment.make_code(running.hospital, "user:admin", "Ambulance 7").code)


def rows(running: RunningHospital, table: type) -> list[object]:
    with running.hospital.database.reading() as session:
        return list(session.exec(select(table)).all())


def write(tablet: Tablet, field: str, key: str, text: str) -> None:
    """Type in an empty field on the keyboard that belongs to it, known by one of its keys."""
    tablet.touch(field)
    tablet.wait_for(key)
    tablet.type_keys(text)
    tablet.touch("hide")


def empty(tablet: Tablet, field: str, length: int) -> None:
    tablet.touch(field)
    key = tablet.wait_for("backspace")["rect"]
    for _ in range(length):
        tablet.tap((key[0] + key[2]) / 2, (key[1] + key[3]) / 2)
    tablet.touch("hide")


def scan(tablet: Tablet, code: enrolment.NewCode) -> None:
    """As a scanner that is a keyboard types the QR code of the admin page."""
    tablet._run("xdotool", "type", "--delay", "40", f"{code.url} {code.code}")


def look(tablet: Tablet, url: str, code: str) -> None:
    write(tablet, "enrol.address", "/", url)
    write(tablet, "enrol.code", "Z", code.replace("-", ""))
    tablet.touch("enrol.look")


def test_a_hospital_is_recognised_accepted_and_later_replaced_by_another(tablet: Tablet, hospital: Hospitals) -> None:
    city = hospital("City Hospital")
    code = new_code(city)
    look(tablet, city.url, code)
    tablet.wait_for_title("Is this the right hospital?")
    tablet.wait_for("City Hospital")
    assert tablet.reads(code[-24:]), "the fingerprint is the end of the code, as the admin page shows it"
    assert not rows(city, DeviceRow), "nothing was told before the yes"
    tablet.touch("enrol.accept")
    tablet.wait_to_read("as Ambulance 7")
    wait_until(lambda: rows(city, HistoryRow), "the run at the hospital")
    tablet.wait_for("All delivered")

    harbour = hospital("Harbour Hospital")
    tablet.touch("settings.hospital")
    tablet.wait_to_read("This device sends to: City Hospital")
    tablet.touch("enrol.address")
    tablet.wait_for("/")
    scan(tablet, enrolment.make_code(harbour.hospital, "user:admin", "Ambulance 7"))
    tablet.touch("hide")
    tablet.touch("enrol.look")
    tablet.touch("enrol.accept")
    tablet.wait_to_read("City Hospital gets nothing more from this device")
    assert not rows(harbour, DeviceRow), "nothing was told before the second yes"
    tablet.touch("Replace")
    tablet.wait_to_read("Harbour Hospital")
    (run,) = rows(city, HistoryRow)
    assert isinstance(run, HistoryRow)
    wait_until(lambda: [row.encounter for row in rows(harbour, HistoryRow)] == [run.encounter], "the run there too")


def test_what_goes_wrong_is_said_with_what_to_do(tablet: Tablet, hospital: Hospitals) -> None:
    city = hospital("City Hospital")
    code = new_code(city)
    tablet.touch("enrol.look")
    tablet.wait_to_read("As the admin page shows it")
    tablet.wait_to_read("0 of 32 letters and digits.")

    city.stop()
    look(tablet, city.url, code)
    tablet.wait_to_read("Nothing answers at this address.")
    city.start()
    with city.hospital.database.writing() as session:
        (made,) = session.exec(select(EnrolmentCodeRow)).all()
        made.expires_at = datetime.now(UTC) - timedelta(seconds=1)
        session.add(made)
    tablet.touch("enrol.look")
    tablet.touch("enrol.accept")
    tablet.wait_to_read("is older than 15 minutes")
    assert not rows(city, DeviceRow)

    other = hospital("Harbour Hospital")
    empty(tablet, "enrol.code", len(code))
    write(tablet, "enrol.code", "Z", new_code(other).replace("-", ""))
    tablet.touch("enrol.look")
    tablet.wait_to_read("is not the hospital of the code")
    empty(tablet, "enrol.code", len(code))
    write(tablet, "enrol.code", "Z", new_code(city).replace("-", ""))
    tablet.touch("enrol.look")
    tablet.touch("enrol.accept")
    tablet.wait_to_read("as Ambulance 7")
