"""app.py add|load|find|similar|change|remove|pending|queue …"""

import csv
import sys
from pathlib import Path

from sqlalchemy import column, table, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, func, select

from database import engine
from models import Product


def read(path):
    return Path(path).read_bytes()


def add(session, title, price, image):
    product = Product(title=title, price=int(price), image=read(image))
    session.add(product)
    session.commit()
    print(product.id)


def load(session, path):
    with open(path, newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        session.add_all(Product(title=title, price=int(price), image=read(image)) for title, price, image in rows)
    session.commit()


def nearest(session, query, max_price):
    # As a subquery, Postgres calls the function once per statement.
    distance = Product.embedding.cosine_distance(select(query).scalar_subquery())
    return session.exec(select(Product.title).where(Product.price < int(max_price)).order_by(distance).limit(5))


def find(session, words, max_price):
    print(*nearest(session, func.clip_query("product", words), max_price), sep="\n")


def similar(session, image, max_price):
    print(*nearest(session, func.clip_query_image("product", read(image)), max_price), sep="\n")


def change(session, title, image):
    product = session.exec(select(Product).where(Product.title == title)).one()
    product.image = read(image)
    session.commit()
    product.price += 1
    session.commit()


def remove(session, title):
    session.delete(session.exec(select(Product).where(Product.title == title)).one())
    session.commit()


def pending(session):
    status = table("clip_auto_embed_status", column("relation"), column("pending"), column("failed"))
    print(*session.exec(select(status.c.pending, status.c.failed).where(status.c.relation == "product")).one())


def queue(session):
    session.exec(text("SELECT clip_auto_embed('product', 'image', mode => 'queue')"))
    session.commit()


commands = {function.__name__: function for function in (add, load, find, similar, change, remove, pending, queue)}

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    try:
        with Session(engine) as session:
            commands[command](session, *arguments)
    except DBAPIError as error:
        # The driver's error has the parts. A failure to connect has none.
        if error.orig.sqlstate is None:
            raise
        diagnostic = error.orig.diag
        lines = [f"{diagnostic.sqlstate}: {diagnostic.message_primary}", diagnostic.message_hint]
        sys.exit("\n".join(filter(None, lines)))
