import os

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg"))
