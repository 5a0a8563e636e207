"""The models of the shop. The database computes the embeddings, so no code here does."""

from pgvector.sqlalchemy import Vector
from sqlalchemy import FetchedValue, Identity, Index, LargeBinary, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    title: Mapped[str] = mapped_column(Text, unique=True)
    price: Mapped[int] = mapped_column(server_default="0")
    image: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    # A trigger writes this column. FetchedValue makes SQLAlchemy read it after INSERT and UPDATE, and never send it.
    embedding: Mapped[list[float] | None] = mapped_column(
        Vector(128), FetchedValue(), server_onupdate=FetchedValue(), deferred=True
    )

    # clip_auto_embed creates this index. It is declared here so that Alembic does not remove it.
    __table_args__ = (
        Index(
            "product_embedding_idx",
            "embedding",
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "vector_cosine_ops"},
        ),
    )
