import os

from sqlalchemy import make_url
from sqlmodel import create_engine

engine = create_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"))
