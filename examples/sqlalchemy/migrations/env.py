import os
import sys
from pathlib import Path

from alembic import context
from sqlalchemy import create_engine

sys.path.append(str(Path(__file__).parent.parent))
from models import Base  # noqa: E402

with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
