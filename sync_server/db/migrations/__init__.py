"""Bringing older tables up to date (Alembic), in one transaction: all of it or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

SCRIPTS: Path = Path(__file__).parent
LATEST: str = "0001"
"""Revision that this version of FirstRay works with; a test holds it against the scripts."""
_TABLE: Final = "alembic_version"


def revision_of(connection: Connection) -> str | None:
    """Revision of the tables; None where there are none yet."""
    if not inspect(connection).has_table(_TABLE):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def known(revision: str) -> bool:
    """Whether this version of FirstRay can bring the revision up to date."""
    from alembic.script import ScriptDirectory  # slow to import: only where there is something to do

    return any(script.revision == revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions())


def upgrade(connection: Connection) -> None:
    """Bring the tables to :data:`LATEST`, within the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, LATEST)
