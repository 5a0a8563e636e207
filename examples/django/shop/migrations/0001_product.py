from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel(
            name="Product",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("title", models.TextField(unique=True)),
                ("price", models.IntegerField(db_default=0)),
                ("image", models.BinaryField()),
            ],
            options={"db_table": "product"},
        ),
    ]
