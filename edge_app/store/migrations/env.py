"""Run by Alembic: migrates on the connection it is handed."""

from alembic import context
from sqlmodel import SQLModel

import edge_app.store.tables  # noqa: F401  (fills the metadata)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
