"""A private PostgreSQL: a cluster of its own in a temporary folder, spoken to over a socket in it, gone afterwards."""

import atexit
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from sync_server.db.engine import migrate, open_engine
from tests import memory

_running: dict[str, "Cluster"] = {}
_OPTIONS = "-c listen_addresses='' -c max_connections=200 -c shared_buffers=64MB"
_PREFIX = "frpg"
_HASTY = "-c fsync=off -c full_page_writes=off"
"""Tests kill processes of the hospital, never the machine."""


class Cluster:
    """A running cluster; :meth:`new_database` gives an empty database's SQLAlchemy URL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._template: str | None = None

    def new_database(self) -> str:
        """Empty."""
        return self._made("")

    def with_tables(self) -> str:
        """With the tables of this version, in a tenth of the time of making them."""
        if self._template is None:
            url = self.new_database()
            engine = open_engine(url)
            migrate(engine)
            engine.dispose()
            self._template = url.partition("@/")[2].partition("?")[0]
        return self._made(f' TEMPLATE "{self._template}"')

    @contextmanager
    def lent(self) -> Iterator[str]:
        """One with tables for a while; a thousand of them would fill the memory."""
        url = self.with_tables()
        try:
            yield url
        finally:
            self.drop(url)

    def _made(self, like: str) -> str:
        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            how = " STRATEGY file_copy" if connection.info.server_version >= 150000 else ""  # before, the only one
            connection.execute(f'CREATE DATABASE "{name}"{like}{how}')  # type: ignore[call-overload]
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def drop(self, url: str) -> None:
        name = url.partition("@/")[2].partition("?")[0]
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')  # type: ignore[call-overload]

    def _conninfo(self, name: str) -> str:
        return f"host={self.folder} user=postgres dbname={name}"


def _programs() -> Path | None:
    """Folder of the newest ``initdb`` and ``pg_ctl``; Debian keeps them out of the path."""
    folders = [Path(one) for one in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    found = shutil.which("initdb")
    folders += [Path(found).resolve().parent] if found else []
    return next((one for one in folders if (one / "initdb").exists() and (one / "pg_ctl").exists()), None)


def _end_abandoned(root: Path) -> None:
    """End and remove clusters of test runs that were killed: nobody else would, and they may lie in memory."""
    for folder in root.glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and psutil.pid_exists(int(owner)):
            continue
        with suppress(OSError, ValueError):  # it has ended already, or another run removes it now
            os.kill(int((folder / "data" / "postmaster.pid").read_text().split("\n")[0]), signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _cluster(programs: Path, options: str = _OPTIONS) -> Iterator[Cluster]:
    # A short path: a socket's may have 107 characters. PostgreSQL refuses to run as root.
    root = memory.FOLDER if tempfile.gettempdir() == str(memory.FOLDER) else Path("/tmp")
    _end_abandoned(root)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=root))
    as_user: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = folder / "data"

    def run(*command: str) -> None:
        done = subprocess.run(
            [*as_user, *command], capture_output=True, text=True, timeout=120, cwd=folder, check=False
        )
        assert done.returncode == 0, done.stderr or done.stdout

    try:
        initdb = ("-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        run(str(programs / "initdb"), *initdb)
        log = str(folder / "log")
        given = f"{options} -c unix_socket_directories='{folder}'"
        run(str(programs / "pg_ctl"), "-D", str(data), "-w", "-t", "60", "-l", log, "-o", given, "start")
        try:
            yield Cluster(folder)
        finally:
            run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def private_cluster() -> Iterator[Cluster | None]:
    """A cluster for the length of the ``with``, as safe as PostgreSQL is; None where PostgreSQL is not installed."""
    programs = _programs()
    if programs is None:
        yield None
        return
    with _cluster(programs) as cluster:
        yield cluster


def cluster_or_skip() -> Iterator[Cluster]:
    """For a session's fixture; one cluster serves all of a test run. Skips only where PostgreSQL is not installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    if "cluster" not in _running:
        stack = ExitStack()
        atexit.register(stack.close)
        _running["cluster"] = stack.enter_context(_cluster(programs, f"{_OPTIONS} {_HASTY}"))
    yield _running["cluster"]
