"""What the test of this example asks beside what app.py shows: updates, bulk inserts, and the values that come back."""

import math
import sys

from app import add, connect, find, read
from models import Photo
from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session


def is_unit(vector):
    return len(vector) == 128 and math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-4)


photos = dict(read(sys.argv[1]))
guitar, pizza = photos["guitar"], photos["pizza"]

with Session(connect()) as session:
    # The vector is there when the object is loaded again, of the length that the model has.
    photo = session.scalars(select(Photo).where(Photo.title == "guitar")).one()
    assert is_unit(photo.embedding)
    before = list(photo.embedding)
    # A condition that the nearest rows do not match finds rows all the same, by the index too.
    session.execute(text("SET LOCAL enable_seqscan = off"))
    far = find(session, "musical instrument", 5, Photo.title.like("%face%"))
    assert len(far) == 5 and all("face" in found.title for found in far)
    # As many rows as match a filter, whatever the settings: keys with distances, joined with the table.
    found = func.clip_search("photo", "musical instrument", 5, "embedding", "title LIKE '%face%'").table_valued("key", "distance", name="found")
    rows = session.execute(select(Photo.title, found.c.distance).join(found, Photo.id == found.c.key).order_by(found.c.distance)).all()
    assert [row.title for row in rows] == [photo.title for photo in far], rows
    # Another column: the same vector. Another picture: another vector.
    photo.title = "a guitar"
    session.commit()
    assert list(photo.embedding) == before
    photo.picture = pizza
    session.commit()
    assert list(photo.embedding) != before
    assert [found.title for found in find(session, "pizza", 2)] in (["a guitar", "pizza"], ["pizza", "a guitar"])
    photo.picture = guitar
    session.commit()
    assert math.dist(photo.embedding, before) < 1e-5
    # Bulk inserts, with and without RETURNING; a batch that fails leaves nothing.
    session.execute(insert(Photo), [{"title": f"bulk {i}", "picture": pizza} for i in range(20)])
    made = session.execute(insert(Photo).values(title="one", picture=pizza).returning(Photo.embedding)).scalar_one()
    assert is_unit(made)
    session.commit()
    try:
        add(session, [("good", pizza), ("bad", b"not a picture")])
    except Exception as error:
        assert error.orig.sqlstate == "22P03", error
        session.rollback()
    else:
        raise AssertionError("a broken picture was stored")
    assert session.scalar(select(func.count()).where(Photo.title.in_(["good", "bad"]))) == 0
    session.query(Photo).where((Photo.title == "one") | Photo.title.startswith("bulk")).delete()
    photo.title = "guitar"
    session.commit()
