"""A table of photos"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "photo",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("title", sa.String, nullable=False, unique=True),
        sa.Column("picture", sa.LargeBinary, nullable=False),
    )


def downgrade():
    op.drop_table("photo")
