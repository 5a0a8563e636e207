"""Products can be searched by a text or an image"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.execute("SELECT clip_auto_embed('product', 'image', model => 'emoji')")
    # Embeds the rows that exist. For a large table, run CALL clip_backfill('product') after the migration instead.
    op.execute("DO $$ BEGIN WHILE clip_backfill_batch('product') > 0 LOOP END LOOP; END $$")


def downgrade():
    op.execute("SELECT clip_auto_embed_drop('product', keep_column => false)")
