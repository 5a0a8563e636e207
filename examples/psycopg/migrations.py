"""migrations.py up|down: applies or reverts the migrations that are listed here."""

import os
import sys

import psycopg

# The name of each migration, with the statements that apply and revert it. clip_auto_embed adds the column and the index.
MIGRATIONS = [
    (
        "0001_product",
        """
        CREATE TABLE product (
          id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          title text NOT NULL UNIQUE,
          price integer NOT NULL DEFAULT 0,
          image bytea NOT NULL
        )
        """,
        "DROP TABLE product",
    ),
    (
        "0002_embedding",
        """
        SELECT clip_auto_embed('product', 'image', model => 'emoji');
        -- Embeds the rows that exist. For a large table, run CALL clip_backfill('product') after the migration instead.
        DO $$ BEGIN WHILE clip_backfill_batch('product') > 0 LOOP END LOOP; END $$
        """,
        "SELECT clip_auto_embed_drop('product', keep_column => false)",
    ),
]

with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY)")
    # Another process that migrates at the same time waits here.
    connection.execute("LOCK migration")
    applied = {name for (name,) in connection.execute("SELECT name FROM migration")}
    if sys.argv[1:] == ["up"]:
        for name, apply, _ in MIGRATIONS:
            if name not in applied:
                connection.execute(apply)
                connection.execute("INSERT INTO migration VALUES (%s)", [name])
                print("applied", name)
    elif sys.argv[1:] == ["down"]:
        for name, _, revert in reversed(MIGRATIONS):
            if name in applied:
                connection.execute(revert)
                connection.execute("DELETE FROM migration WHERE name = %s", [name])
                print("reverted", name)
    else:
        sys.exit("usage: migrations.py up|down")
