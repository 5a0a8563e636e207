"""The models of the shop. The database computes the embeddings, so no code here does."""

from django.db import models
from pgvector.django import CosineDistance, HnswIndex, VectorField


class ClipQuery(models.Func):
    """The embedding of a text, by the model of the column. As a subquery, Postgres calls the function once per statement."""

    template = "(SELECT clip_query('product', %(expressions)s))"
    output_field = VectorField()


class ClipQueryImage(ClipQuery):
    template = "(SELECT clip_query_image('product', %(expressions)s))"


class ProductQuerySet(models.QuerySet):
    def like_text(self, text):
        return self.order_by(CosineDistance("embedding", ClipQuery(models.Value(text))))

    def like_image(self, image):
        return self.order_by(CosineDistance("embedding", ClipQueryImage(models.Value(image))))


class Product(models.Model):
    title = models.TextField(unique=True)
    price = models.IntegerField(db_default=0)
    image = models.BinaryField()
    # A trigger writes this column, and replaces any value that save() writes.
    embedding = VectorField(dimensions=128, null=True, editable=False)

    objects = ProductQuerySet.as_manager()

    class Meta:
        db_table = "product"
        indexes = [HnswIndex(name="product_embedding_idx", fields=["embedding"], opclasses=["vector_cosine_ops"])]


class EmbeddingStatus(models.Model):
    """A view of pg_clip: one row per embedding column."""

    pk = models.CompositePrimaryKey("relation", "target")
    relation = models.TextField()
    target = models.TextField()
    mode = models.TextField()
    pending = models.BigIntegerField()
    failed = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "clip_auto_embed_status"
