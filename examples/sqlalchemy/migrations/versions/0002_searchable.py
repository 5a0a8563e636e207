"""Photos can be searched by words"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_clip CASCADE")
    op.execute("SELECT clip_auto_embed('photo', 'picture', model => 'emoji')")
    # Rows that are there already. A large table is better left to CALL clip_backfill('photo'), after the migration.
    op.execute("DO $$ BEGIN WHILE clip_backfill_batch('photo') > 0 LOOP END LOOP; END $$")


def downgrade():
    op.execute("SELECT clip_auto_embed_drop('photo', keep_column => false)")
