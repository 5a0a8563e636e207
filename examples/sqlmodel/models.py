"""The models of the shop. The database computes the embeddings, so no code here does."""

from pgvector.sqlalchemy import Vector
from sqlalchemy import Column, FetchedValue, Identity, Index, Integer, LargeBinary, Text
from sqlmodel import Field, SQLModel


class Product(SQLModel, table=True):
    # clip_auto_embed creates this index. It is declared here so that Alembic does not remove it.
    __table_args__ = (
        Index(
            "product_embedding_idx",
            "embedding",
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "vector_cosine_ops"},
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(Integer, Identity(), primary_key=True))
    title: str = Field(sa_type=Text, unique=True)
    price: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    image: bytes = Field(sa_type=LargeBinary)
    # A trigger writes this column, and replaces any value that the application writes.
    embedding: list[float] | None = Field(
        default=None, sa_column=Column(Vector(128), FetchedValue(), server_onupdate=FetchedValue())
    )
