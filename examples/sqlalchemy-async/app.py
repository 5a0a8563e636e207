"""app.py add|load|find|similar|change|remove|pending|queue …"""

import asyncio
import csv
import sys
from pathlib import Path

from sqlalchemy import column, func, insert, select, table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import undefer

from database import engine
from models import Product

# After a commit, objects keep their values. Otherwise the next access would read from the database without await.
new_session = async_sessionmaker(engine, expire_on_commit=False)


def read(path):
    return Path(path).read_bytes()


async def add(session, title, price, image):
    product = Product(title=title, price=int(price), image=read(image))
    session.add(product)
    await session.commit()
    print(product.id)


async def load(session, path):
    with open(path, newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        values = [{"title": title, "price": int(price), "image": read(image)} for title, price, image in rows]
    await session.execute(insert(Product), values)
    await session.commit()


async def nearest(session, query, max_price):
    # As a subquery, Postgres calls the function once per statement.
    distance = Product.embedding.cosine_distance(select(query).scalar_subquery())
    return await session.scalars(select(Product).where(Product.price < int(max_price)).order_by(distance).limit(5))


async def find(session, words, max_price):
    products = await nearest(session, func.clip_query("product", words), max_price)
    print(*(product.title for product in products), sep="\n")


async def similar(session, image, max_price):
    products = await nearest(session, func.clip_query_image("product", read(image)), max_price)
    print(*(product.title for product in products), sep="\n")


async def change(session, title, image):
    found = await session.scalars(select(Product).where(Product.title == title).options(undefer("*")))
    product = found.one()
    product.image = read(image)
    await session.commit()
    product.price += 1
    await session.commit()


async def remove(session, title):
    found = await session.scalars(select(Product).where(Product.title == title))
    await session.delete(found.one())
    await session.commit()


async def pending(session):
    status = table("clip_auto_embed_status", column("relation"), column("pending"), column("failed"))
    found = await session.execute(select(status.c.pending, status.c.failed).where(status.c.relation == "product"))
    print(*found.one())


async def queue(session):
    await session.execute(text("SELECT clip_auto_embed('product', 'image', mode => 'queue')"))
    await session.commit()


commands = {function.__name__: function for function in (add, load, find, similar, change, remove, pending, queue)}


async def main(command, *arguments):
    try:
        async with new_session() as session:
            await commands[command](session, *arguments)
    except DBAPIError as error:
        # The error of asyncpg has the parts.
        cause = error.orig.__cause__
        lines = [f"{cause.sqlstate}: {cause.message}", cause.hint]
        sys.exit("\n".join(filter(None, lines)))
    finally:
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
