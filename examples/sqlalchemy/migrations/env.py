from alembic import context

from database import engine
from models import Base


def include_object(object, name, type_, reflected, compare_to):
    # pg_clip creates this index for mode 'queue', and drops it for the other modes.
    return name != "product_embedding_pending_idx"


with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, include_object=include_object)
    with context.begin_transaction():
        context.run_migrations()
