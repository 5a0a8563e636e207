"""table.py migrate|add|load|undo …: the part of the application that owns the table and writes its rows"""

import csv
import os
import sys
from pathlib import Path

import psycopg

CREATE = """
CREATE TABLE IF NOT EXISTS product (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  title text NOT NULL UNIQUE,
  price integer NOT NULL DEFAULT 0,
  image bytea NOT NULL
)
"""
# PGVectorStore reads a table of this layout, whose name begins with data_.
VIEW = """
CREATE OR REPLACE VIEW data_product WITH (security_invoker = true) AS
SELECT id, title AS text, jsonb_build_object('price', price) AS metadata_, id::text AS node_id, embedding FROM product
"""
INSERT = "INSERT INTO product (title, price, image) VALUES (%s, %s, %s) RETURNING id"


def migrate(connection):
    connection.execute(CREATE)
    connection.execute("SELECT clip_auto_embed('product', 'image', model => 'emoji')")
    connection.execute(VIEW)


def add(connection, title, price, image):
    print(connection.execute(INSERT, [title, int(price), Path(image).read_bytes()]).fetchone()[0])


def load(connection, path):
    with open(path, newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        values = [(title, int(price), Path(image).read_bytes()) for title, price, image in rows]
    connection.cursor().executemany(INSERT, values)


def undo(connection):
    connection.execute("DROP VIEW data_product")
    connection.execute("DROP TABLE product")


commands = {function.__name__: function for function in (migrate, add, load, undo)}

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        try:
            commands[command](connection, *arguments)
        except psycopg.Error as error:
            lines = [f"{error.sqlstate}: {error.diag.message_primary}", error.diag.message_hint]
            sys.exit("\n".join(filter(None, lines)))
