"""manage.py product add|load|find|similar|change|remove|pending|queue …"""

import csv
import sys
from pathlib import Path

from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection

from shop.models import EmbeddingStatus, Product


def read(path):
    return Path(path).read_bytes()


def add(title, price, image):
    print(Product.objects.create(title=title, price=price, image=read(image)).id)


def load(path):
    with open(path, newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        products = (Product(title=title, price=price, image=read(image)) for title, price, image in rows)
        Product.objects.bulk_create(products, batch_size=500)


def show(products, max_price):
    nearest = products.filter(price__lt=max_price).defer("image", "embedding")[:5]
    print(*(product.title for product in nearest), sep="\n")


def find(words, max_price):
    show(Product.objects.like_text(words), max_price)


def similar(image, max_price):
    show(Product.objects.like_image(read(image)), max_price)


def change(title, image):
    product = Product.objects.get(title=title)
    product.image = read(image)
    product.save()
    # The second save() writes all columns, with the embedding that the object was loaded with. The database ignores it.
    product.price += 1
    product.save()


def remove(title):
    Product.objects.get(title=title).delete()


def pending():
    status = EmbeddingStatus.objects.get(relation="product", target="embedding")
    print(status.pending, status.failed)


def queue():
    with connection.cursor() as cursor:
        cursor.execute("SELECT clip_auto_embed('product', 'image', mode => 'queue')")


class Command(BaseCommand):
    commands = {function.__name__: function for function in (add, load, find, similar, change, remove, pending, queue)}

    def add_arguments(self, parser):
        parser.add_argument("command", choices=self.commands)
        parser.add_argument("arguments", nargs="*")

    def handle(self, command, arguments, **options):
        try:
            self.commands[command](*arguments)
        except DatabaseError as error:
            # The driver's error has the parts. A failure to connect has none.
            cause = error.__cause__
            if cause.sqlstate is None:
                raise
            lines = [f"{cause.sqlstate}: {cause.diag.message_primary}", cause.diag.message_hint]
            sys.exit("\n".join(filter(None, lines)))
