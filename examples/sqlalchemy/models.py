"""An application's models. Nothing here computes a vector: the database does."""

from pgvector.sqlalchemy import Vector
from sqlalchemy import FetchedValue, Index, LargeBinary
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Photo(Base):
    __tablename__ = "photo"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(unique=True)
    picture: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    # Written by a trigger, so the application neither sends nor caches it.
    embedding: Mapped[list[float] | None] = mapped_column(
        Vector(128), FetchedValue(), server_onupdate=FetchedValue(), deferred=True
    )

    # Declared so that Alembic's autogenerate knows the index that clip_auto_embed makes.
    __table_args__ = (
        Index(
            "photo_embedding_idx",
            "embedding",
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "vector_cosine_ops"},
        ),
    )
