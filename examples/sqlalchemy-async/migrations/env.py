import asyncio

from alembic import context

from database import engine
from models import Base


def include_object(object, name, type_, reflected, compare_to):
    # pg_clip creates this index for mode 'queue', and drops it for the other modes.
    return name != "product_embedding_pending_idx"


def migrate(connection):
    context.configure(connection=connection, target_metadata=Base.metadata, include_object=include_object)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(main())
