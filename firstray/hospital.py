"""``firstray serve``, ``worker`` and ``admin``: the hospital's side, which the environment sets up further.

Every setting of the server is an environment variable ``FIRSTRAY_SERVER_...`` (``sync_server.settings``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from shared.errors import FirstRayError

if TYPE_CHECKING:
    from sync_server.settings import Settings

admin_app = typer.Typer(help="Look after the hospital's server (needs the extra 'server').", no_args_is_help=True)

DataOption = Annotated[
    Optional[Path],
    typer.Option("--data", help="Folder of the server; ./hospital if not given.", envvar="FIRSTRAY_SERVER_DATA"),
]
PasswordOption = Annotated[
    Optional[Path], typer.Option(help="File of the password, for scripts; asked for if not given.")
]
ReadersOption = Annotated[
    Optional[int], typer.Option(min=0, help="Processes that read images; as suits this machine if not given.")
]


def _moment(text: str) -> datetime:
    """ISO 8601; UTC where it names no offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        said = f"{text!r} is no date. Write 2026-11-27, or 2026-11-27T18:30 (UTC)."
        raise typer.BadParameter(said) from None
    return moment.replace(tzinfo=moment.tzinfo or UTC)


SinceOption = Annotated[
    datetime, typer.Option(parser=_moment, metavar="DATE", help="Images that came from then on (UTC).")
]


def serve(
    data: DataOption = None,
    host: Annotated[Optional[str], typer.Option(help="Address to listen on; this machine only if not given.")] = None,
    port: Annotated[Optional[int], typer.Option(min=0, max=65535, help="8443 with a certificate, else 8000.")] = None,
    certificate: Annotated[Optional[Path], typer.Option(help="PEM file of the TLS certificate and its chain.")] = None,
    key: Annotated[Optional[Path], typer.Option(help="PEM file of its key.")] = None,
    public_url: Annotated[Optional[str], typer.Option(help="Where devices and browsers find the server.")] = None,
    readers: ReadersOption = None,
) -> None:
    """The hospital's server: takes what ambulances send, reads it again, and shows it in the browser.

    Database, images, proxy, log-in by OpenID Connect and the rest are environment variables: docs/operations.md.
    """
    settings = _settings(data=data, host=host, port=port, certificate=certificate, key=key, public_url=public_url)
    with _extra():
        from sync_server.jobs.worker import Worker
        from sync_server.serve import run
    if readers == 0:
        run(settings)
        return
    with Worker(settings, readers):
        run(settings)


def worker(data: DataOption = None, readers: ReadersOption = None) -> None:
    """Read images for a server with the same database, on this machine too."""
    settings = _settings(data=data)
    with _extra():
        from sync_server.jobs.worker import run
    run(settings, readers)


@admin_app.command("create-user")
def create_user(
    login: Annotated[str, typer.Argument(help="What the person types to log in.")],
    name: Annotated[str, typer.Option(prompt="Name", help="The person's name, as crews see it.")],
    role: Annotated[str, typer.Option(help="er or admin.")] = "er",
    password_file: PasswordOption = None,
    data: DataOption = None,
) -> None:
    """Make an account. The first one should be an admin's."""
    if role not in ("er", "admin"):
        raise typer.BadParameter("must be one of er, admin", param_hint="--role")
    settings = _settings(data=data)
    with _extra():
        from sync_server import admin_commands
        from sync_server.domain.accounts import Role
    print(admin_commands.create_user(settings, login, name, Role(role), _password(password_file)))


@admin_app.command("set-password")
def set_password(
    login: Annotated[str, typer.Argument()], password_file: PasswordOption = None, data: DataOption = None
) -> None:
    """Give an account another password; its open log-ins end."""
    settings = _settings(data=data)
    with _extra():
        from sync_server import admin_commands
    print(admin_commands.set_password(settings, login, _password(password_file)))


@admin_app.command("enrol")
def enrol(
    device: Annotated[str, typer.Argument(help="What the hospital calls the device, such as 'Ambulance 7'.")],
    ring: Annotated[str, typer.Option(help="Whose model releases it gets.")] = "general",
    data: DataOption = None,
) -> None:
    """Make a one-time code with which a device is taken on within 15 minutes."""
    settings = _settings(data=data)
    with _extra():
        from sync_server import admin_commands
    print(admin_commands.enrolment_code(settings, device, ring))


@admin_app.command("verify-audit")
def verify_audit(data: DataOption = None) -> None:
    """Check that nobody changed the audit log; exit code 1 if somebody did."""
    settings = _settings(data=data)
    with _extra():
        from sync_server import admin_commands
    verdict = admin_commands.verify_audit(settings)
    print(admin_commands.describe(verdict))
    raise typer.Exit(0 if verdict.whole else 1)


@admin_app.command("reanalyse")
def reanalyse(
    release: Annotated[str, typer.Option(help="Id of an uploaded release.")],
    since: SinceOption,
    data: DataOption = None,
) -> None:
    """Have the archive read again by another release."""
    settings = _settings(data=data)
    with _extra():
        from sync_server import admin_release
    print(admin_release.reanalyse(settings, release, since))


@admin_app.command("upload-release")
def upload_release(
    source: Annotated[Path, typer.Argument(help="A release's folder or ZIP.")], data: DataOption = None
) -> None:
    """Take in a model release; its signature is checked."""
    settings = _settings(data=data)
    with _extra():
        from sync_server import admin_release
    print(admin_release.upload(settings, source))


@admin_app.command("assign-release")
def assign_release(
    ring: Annotated[str, typer.Argument(help="A ring of devices, or 'server' for the hospital's own reading.")],
    release: Annotated[str, typer.Argument()],
    data: DataOption = None,
) -> None:
    """Have the devices of a ring, or the hospital itself, run a release."""
    settings = _settings(data=data)
    with _extra():
        from sync_server import admin_release
    print(admin_release.assign(settings, ring, release))


@admin_app.command("roll-back-release")
def roll_back_release(ring: Annotated[str, typer.Argument()], data: DataOption = None) -> None:
    """Have a ring run what it ran before."""
    settings = _settings(data=data)
    with _extra():
        from sync_server import admin_release
    print(admin_release.roll_back(settings, ring))


@admin_app.command("backup")
def backup(
    target: Annotated[Path, typer.Argument(help="Folder of the backups.")],
    keep: Annotated[int, typer.Option(min=1, help="Backups to keep; older ones are forgotten.")] = 7,
    data: DataOption = None,
) -> None:
    """Back up database, keys and images; the server may run."""
    settings = _settings(data=data)
    with _extra():
        from sync_server import admin_data
    print("\n".join(admin_data.backup(settings, target, keep)))


@admin_app.command("restore")
def restore(
    source: Annotated[Path, typer.Argument(help="Folder of the backups.")],
    name: Annotated[Optional[str], typer.Option(help="Which one; the latest if not given.")] = None,
    data: DataOption = None,
) -> None:
    """Restore a backup where there is no hospital yet."""
    settings = _settings(data=data)
    with _extra():
        from sync_server import admin_data
    print("\n".join(admin_data.restore(settings, source, name)))


@admin_app.command("purge")
def purge(data: DataOption = None) -> None:
    """Remove for good what was deleted long enough ago; the server does it by itself every six hours."""
    settings = _settings(data=data)
    with _extra():
        from sync_server import admin_data
    print("\n".join(admin_data.purge(settings)))


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(serve)
    app.command()(worker)
    app.add_typer(admin_app, name="admin")


def _settings(**given: Any) -> Settings:
    with _extra():
        from sync_server.settings import load_settings
    return load_settings(**given)


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise FirstRayError(
            "extra_missing", f"The server needs {error.name}, which is not installed.", "pip install 'firstray[server]'"
        ) from None


def _password(file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise FirstRayError(
                "password_file_missing", "The password's file cannot be read.", "Check that it exists."
            ) from None
    if not sys.stdin.isatty():
        raise FirstRayError("password_missing", "Nobody is there to type the password.", "Give --password-file.")
    typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return typed
