"""app.py find|similar …: a vector store of LangChain over the table product"""

import json
import os
import sys
from pathlib import Path

import psycopg
from langchain_core.embeddings import Embeddings
from langchain_postgres import PGEngine, PGVectorStore


class ClipEmbeddings(Embeddings):
    """Asks the database for the embedding of a query, by the model of the column."""

    def __init__(self, url):
        self.connection = psycopg.connect(url, autocommit=True)

    def embed_query(self, text):
        return self.ask("SELECT clip_query('product', %s)::text", text)

    def embed_image(self, image):
        return self.ask("SELECT clip_query_image('product', %s)::text", image)

    def embed_documents(self, texts):
        raise NotImplementedError("The database computes the embeddings of the rows.")

    def ask(self, statement, value):
        return json.loads(self.connection.execute(statement, [value]).fetchone()[0])


url = os.environ["DATABASE_URL"]
embeddings = ClipEmbeddings(url)
store = PGVectorStore.create_sync(
    PGEngine.from_connection_string(url.replace("postgresql://", "postgresql+psycopg://", 1)),
    embeddings,
    "product",
    id_column="id",
    content_column="title",
    embedding_column="embedding",
    metadata_columns=["price"],
)


def show(documents):
    print(*(document.page_content for document in documents), sep="\n")


def find(words, max_price):
    show(store.similarity_search(words, k=5, filter={"price": {"$lt": int(max_price)}}))


def similar(image, max_price):
    query = embeddings.embed_image(Path(image).read_bytes())
    show(store.similarity_search_by_vector(query, k=5, filter={"price": {"$lt": int(max_price)}}))


commands = {function.__name__: function for function in (find, similar)}

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    try:
        commands[command](*arguments)
    except psycopg.Error as error:
        lines = [f"{error.sqlstate}: {error.diag.message_primary}", error.diag.message_hint]
        sys.exit("\n".join(filter(None, lines)))
