"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "chainrow",
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("chain", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("clock", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("place"),
        sa.UniqueConstraint("chain"),
    )
    op.create_table(
        "deletionrow",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("due_at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_deletionrow_due_at"), "deletionrow", ["due_at"])
    op.create_table(
        "eventrow",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("chain", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("subject", sa.Uuid(), nullable=True),
        sa.Column("type", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("body", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("receipt", sa.String(), nullable=True),
        sa.Column("code", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("chain", "number"),
    )
    op.create_index("ix_event_of_record", "eventrow", ["subject", "state"])
    op.create_index("ix_event_state", "eventrow", ["state", "id"])
    op.create_table(
        "graverow",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "inboxrow",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("encounter", sa.Uuid(), nullable=True),
        sa.Column("radiograph", sa.Uuid(), nullable=True),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("seen", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_inbox_of_run", "inboxrow", ["encounter", "kind", "seen"])
    op.create_index(op.f("ix_inboxrow_radiograph"), "inboxrow", ["radiograph"])
    op.create_table(
        "patientrow",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("stamps", sa.String(), nullable=False),
        sa.Column("search", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "settingrow",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "encounterrow",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("stamps", sa.String(), nullable=False),
        sa.Column("patient", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.String(32), nullable=False),
        sa.Column("ended_at", sa.String(32), nullable=True),
        sa.Column("hidden", sa.Uuid(), nullable=True),
        sa.Column("search", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient"],
            ["patientrow.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_run_listed", "encounterrow", ["started_at", "id", "ended_at", "hidden", "search"])
    op.create_index("ix_run_of_patient", "encounterrow", ["patient", "hidden", "started_at"])
    op.create_table(
        "radiographrow",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("stamps", sa.String(), nullable=False),
        sa.Column("encounter", sa.Uuid(), nullable=True),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("received_at", sa.String(32), nullable=False),
        sa.Column("diagnosis", sa.Uuid(), nullable=True),
        sa.Column("hidden", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["encounter"],
            ["encounterrow.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_film_of_run", "radiographrow", ["encounter", "received_at"])
    op.create_index("ix_film_read", "radiographrow", ["diagnosis", "received_at"])
    op.create_index(op.f("ix_radiographrow_sha256"), "radiographrow", ["sha256"])
    op.create_table(
        "vitalsignsrow",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("stamps", sa.String(), nullable=False),
        sa.Column("encounter", sa.Uuid(), nullable=False),
        sa.Column("taken_at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["encounter"],
            ["encounterrow.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_vitalsignsrow_encounter"), "vitalsignsrow", ["encounter"])
    op.create_table(
        "diagnosisrow",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("stamps", sa.String(), nullable=False),
        sa.Column("radiograph", sa.Uuid(), nullable=False),
        sa.Column("made_at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["radiograph"],
            ["radiographrow.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_diagnosisrow_radiograph"), "diagnosisrow", ["radiograph"])
    op.create_table(
        "findingrow",
        sa.Column("radiograph", sa.Uuid(), nullable=False),
        sa.Column("finding", sa.String(), nullable=False),
        sa.Column("encounter", sa.Uuid(), nullable=True),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["radiograph"],
            ["radiographrow.id"],
        ),
        sa.PrimaryKeyConstraint("radiograph", "finding"),
    )
    op.create_index("ix_finding_of_run", "findingrow", ["encounter"])
    op.create_index("ix_run_of_finding", "findingrow", ["finding", "encounter"])
    op.create_table(
        "imagerow",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("radiograph", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("diagnosis", sa.Uuid(), nullable=True),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["radiograph"],
            ["radiographrow.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_imagerow_name"), "imagerow", ["name"])
    op.create_index(op.f("ix_imagerow_radiograph"), "imagerow", ["radiograph"])
    op.create_table(
        "uploadrow",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("radiograph", sa.Uuid(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("queued_at", sa.String(32), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=True),
        sa.Column("offset", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("receipt", sa.String(), nullable=True),
        sa.Column("code", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["radiograph"],
            ["radiographrow.id"],
        ),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_index("ix_upload_next", "uploadrow", ["state", "kind", "urgent", "queued_at"])
    op.create_index(op.f("ix_uploadrow_radiograph"), "uploadrow", ["radiograph"])
