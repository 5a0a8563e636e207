"""Checks what examples/sqlalchemy does not show: the embeddings that come back, clip_search, and batches that fail.

    PYTHONPATH=examples/sqlalchemy python orm.py
"""

import math

from app import nearest
from database import engine
from models import Product
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session


def is_unit(vector):
    return len(vector) == 128 and math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-4)


with Session(engine) as session:
    images = {product.title: product.image for product in session.scalars(select(Product))}
    guitar, pizza = images["guitar"], images["pizza"]
    product = session.scalars(select(Product).where(Product.title == "guitar")).one()
    assert is_unit(product.embedding)
    before = list(product.embedding)
    # No face is among the nearest 100 rows, and the index continues until 5 rows match.
    session.execute(text("SET LOCAL enable_seqscan = off"))
    words = func.clip_query("product", "musical instrument")
    distance = Product.embedding.cosine_distance(select(words).scalar_subquery())
    faces = select(Product.title).where(Product.title.like("%face%")).order_by(distance).limit(5)
    far = session.scalars(faces).all()
    assert len(far) == 5 and all("face" in title for title in far), far
    # clip_search finds the same rows without settings.
    session.execute(text("SET LOCAL hnsw.iterative_scan = off"))
    found = func.clip_search("product", "musical instrument", 5, "embedding", "title LIKE '%face%'")
    found = found.table_valued("key", "distance", name="found")
    joined = select(Product.title).join(found, Product.id == found.c.key).order_by(found.c.distance)
    assert session.scalars(joined).all() == far
    # Another column: the same embedding. Another image: another embedding.
    product.title = "a guitar"
    session.commit()
    assert list(product.embedding) == before
    product.image = pizza
    session.commit()
    assert list(product.embedding) != before
    pizzas = [found.title for found in nearest(session, func.clip_query("product", "pizza"), 1000)]
    assert set(pizzas[:2]) == {"a guitar", "pizza"}, pizzas
    product.image = guitar
    session.commit()
    assert math.dist(product.embedding, before) < 1e-5
    # INSERT … RETURNING has the embedding.
    values = {"title": "one", "image": pizza}
    assert is_unit(session.execute(insert(Product).values(values).returning(Product.embedding)).scalar_one())
    session.commit()
    # A batch that fails leaves nothing.
    try:
        session.execute(insert(Product), [{"title": "good", "image": pizza}, {"title": "bad", "image": b"no image"}])
    except DBAPIError as error:
        assert error.orig.sqlstate == "22P03", error
        session.rollback()
    else:
        raise AssertionError("a damaged image was stored")
    assert session.scalar(select(func.count()).where(Product.title.in_(["good", "bad"]))) == 0
    session.query(Product).where(Product.title == "one").delete()
    product.title = "guitar"
    session.commit()
