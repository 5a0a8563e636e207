"""An application: it stores pictures as ever, and finds them by words.

    DATABASE_URL=postgresql+psycopg:///photos python app.py add FILE.tsv
    DATABASE_URL=postgresql+psycopg:///photos python app.py find WORDS
"""

import csv
import os
import sys

from models import Photo
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session


def read(path):
    """Titles and pictures of a file that COPY would read."""
    csv.field_size_limit(10_000_000)
    with open(path, newline="") as file:
        for title, picture in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield title, bytes.fromhex(picture.removeprefix(r"\\x"))


def add(session, photos):
    session.add_all(Photo(title=title, picture=picture) for title, picture in photos)
    session.commit()


def connect():
    # An index gives its nearest rows, of which conditions may leave few or none: with this it goes on until enough match.
    settings = "-c hnsw.iterative_scan=strict_order -c hnsw.ef_search=100"
    return create_engine(os.environ["DATABASE_URL"], connect_args={"options": settings})


def find(session, words, limit=5, *conditions):
    # The model that embeds the words is that of the column.
    distance = Photo.embedding.cosine_distance(select(func.clip_query("photo", words)).scalar_subquery())
    return session.scalars(select(Photo).where(*conditions).order_by(distance).limit(limit)).all()


if __name__ == "__main__":
    verb, argument = sys.argv[1:]
    with Session(connect()) as session:
        match verb:
            case "add":
                add(session, read(argument))
            case "find":
                print("\n".join(photo.title for photo in find(session, argument)))
