from django.db import migrations, models
from pgvector.django import HnswIndex, VectorField


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_product")]

    operations = [
        # clip_auto_embed adds the column and the index. state_operations describes them to Django.
        migrations.RunSQL(
            [
                "SELECT clip_auto_embed('product', 'image', model => 'emoji')",
                # Embeds the rows that exist. For a large table, run CALL clip_backfill('product') after the migration instead.
                "DO $$ BEGIN WHILE clip_backfill_batch('product') > 0 LOOP END LOOP; END $$",
            ],
            "SELECT clip_auto_embed_drop('product', keep_column => false)",
            state_operations=[
                migrations.AddField("product", "embedding", VectorField(dimensions=128, null=True, editable=False)),
                migrations.AddIndex(
                    "product",
                    HnswIndex(name="product_embedding_idx", fields=["embedding"], opclasses=["vector_cosine_ops"]),
                ),
            ],
        ),
        migrations.CreateModel(
            name="EmbeddingStatus",
            fields=[
                ("pk", models.CompositePrimaryKey("relation", "target", editable=False, primary_key=True, serialize=False)),
                ("relation", models.TextField()),
                ("target", models.TextField()),
                ("mode", models.TextField()),
                ("pending", models.BigIntegerField()),
                ("failed", models.BigIntegerField()),
            ],
            options={"db_table": "clip_auto_embed_status", "managed": False},
        ),
    ]
