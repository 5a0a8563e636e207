"""app.py find|similar …: a vector store of LlamaIndex over the table product"""

import json
import os
import sys
from pathlib import Path

import psycopg
from llama_index.core import QueryBundle, VectorStoreIndex
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.vector_stores.postgres import PGVectorStore


class ClipEmbedding(BaseEmbedding):
    """Asks the database for the embedding of a query, by the model of the column."""

    _connection: psycopg.Connection = PrivateAttr()

    def __init__(self, url):
        super().__init__(model_name="emoji")
        self._connection = psycopg.connect(url, autocommit=True)

    def _get_query_embedding(self, query):
        return self.ask("SELECT clip_query('product', %s)::text", query)

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)

    def get_image_embedding(self, image):
        return self.ask("SELECT clip_query_image('product', %s)::text", image)

    def _get_text_embedding(self, text):
        raise NotImplementedError("The database computes the embeddings of the rows.")

    def ask(self, statement, value):
        return json.loads(self._connection.execute(statement, [value]).fetchone()[0])


url = os.environ["DATABASE_URL"]
embedding = ClipEmbedding(url)
address = url.replace("postgresql://", "postgresql+psycopg://", 1)
# Reads the view data_product.
store = PGVectorStore(address, address, table_name="product", embed_dim=128, perform_setup=False)
index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)


def nearest(query, max_price):
    below = MetadataFilter(key="price", operator=FilterOperator.LT, value=int(max_price))
    retriever = index.as_retriever(similarity_top_k=5, filters=MetadataFilters(filters=[below]))
    print(*(found.text for found in retriever.retrieve(query)), sep="\n")


def find(words, max_price):
    nearest(words, max_price)


def similar(image, max_price):
    vector = embedding.get_image_embedding(Path(image).read_bytes())
    nearest(QueryBundle(query_str="", embedding=vector), max_price)


commands = {function.__name__: function for function in (find, similar)}

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    try:
        commands[command](*arguments)
    except psycopg.Error as error:
        lines = [f"{error.sqlstate}: {error.diag.message_primary}", error.diag.message_hint]
        sys.exit("\n".join(filter(None, lines)))
