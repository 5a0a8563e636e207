"""app.py add|load|find|similar|change|remove|pending|queue …"""

import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import class_row


@dataclass
class Product:
    id: int
    title: str
    price: int
    image: bytes
    embedding: str | None


# Postgres calls clip_query once per statement, because it is in a subquery.
FIND = "SELECT title FROM product WHERE price < %s ORDER BY embedding <=> (SELECT clip_query('product', %s)) LIMIT 5"
SIMILAR = "SELECT title FROM product WHERE price < %s ORDER BY embedding <=> (SELECT clip_query_image('product', %s)) LIMIT 5"
# All columns, as an ORM would save them.
SAVE = "UPDATE product SET title = %s, price = %s, image = %s, embedding = %s WHERE id = %s"


def read(path):
    return Path(path).read_bytes()


def add(connection, title, price, image):
    insert = "INSERT INTO product (title, price, image) VALUES (%s, %s, %s) RETURNING id"
    print(connection.execute(insert, [title, int(price), read(image)]).fetchone()[0])


def load(connection, path):
    copy_products = connection.cursor().copy("COPY product (title, price, image) FROM STDIN (FORMAT binary)")
    with open(path, newline="") as file, copy_products as copy:
        copy.set_types(["text", "int4", "bytea"])
        for title, price, image in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            copy.write_row([title, int(price), read(image)])


def find(connection, words, max_price):
    print(*(title for (title,) in connection.execute(FIND, [int(max_price), words])), sep="\n")


def similar(connection, image, max_price):
    print(*(title for (title,) in connection.execute(SIMILAR, [int(max_price), read(image)])), sep="\n")


def change(connection, title, image):
    cursor = connection.cursor(row_factory=class_row(Product))
    product = cursor.execute("SELECT * FROM product WHERE title = %s", [title]).fetchone()
    product.image = read(image)
    save(connection, product)
    product.price += 1
    save(connection, product)


def save(connection, product):
    # The embedding is that of the old image. The database ignores it.
    values = [product.title, product.price, product.image, product.embedding, product.id]
    connection.execute(SAVE, values)
    connection.commit()


def remove(connection, title):
    connection.execute("DELETE FROM product WHERE title = %s", [title])


def pending(connection):
    status = "SELECT pending, failed FROM clip_auto_embed_status WHERE relation = 'product'"
    print(*connection.execute(status).fetchone())


def queue(connection):
    connection.execute("SELECT clip_auto_embed('product', 'image', mode => 'queue')")


commands = {function.__name__: function for function in (add, load, find, similar, change, remove, pending, queue)}

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        try:
            commands[command](connection, *arguments)
        except psycopg.Error as error:
            lines = [f"{error.sqlstate}: {error.diag.message_primary}", error.diag.message_hint]
            sys.exit("\n".join(filter(None, lines)))
