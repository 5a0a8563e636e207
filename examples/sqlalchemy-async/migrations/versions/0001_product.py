"""A table of products"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "product",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("title", sa.Text, nullable=False, unique=True),
        sa.Column("price", sa.Integer, nullable=False, server_default="0"),
        sa.Column("image", sa.LargeBinary, nullable=False),
    )


def downgrade():
    op.drop_table("product")
