"""Compares the classification of stored vectors with a matrix product, and measures recall with image and text queries."""

import os

import numpy as np

from common import connect, interleaved, median, save, timed
from search import build_index, load, real_vectors, rows_around

ROWS = int(os.environ.get("PG_CLIP_BENCH_CLASSIFIED", "10000"))
LABELS = (10, 100, 1000)
INDEXED = 100_000
QUERIES = 200


def classify(rows: np.ndarray, text: np.ndarray) -> list[dict]:
    """Classifies all rows with growing numbers of labels: as vectors, and as cached texts."""
    found = []
    with connect(default_model="vit-b-32") as connection:
        connection.execute("DROP TABLE IF EXISTS label")
        connection.execute("CREATE TABLE label (id int, embedding vector(512))")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO label VALUES (%s, %s::real[]::vector)",
                               [(number, vector.tolist()) for number, vector in enumerate(text[:max(LABELS)])])
        for count in LABELS:
            words = [f"label {number}" for number in range(count)]
            candidates = connection.execute("SELECT array_agg(embedding)::text FROM label WHERE id < %s", (count,)).fetchone()[0]

            def product(_):
                logits = 100 * rows @ text[:count].T
                logits -= logits.max(1, keepdims=True)
                weights = np.exp(logits)
                (weights / weights.sum(1, keepdims=True)).argmax(1)

            def by_vectors(_):
                connection.execute("SELECT count(clip_probabilities(embedding, %s::vector[])) FROM item", (candidates,)).fetchone()

            def by_words(_):
                connection.execute("SELECT count(label) FROM item CROSS JOIN LATERAL (SELECT label FROM clip_classify(embedding, %s) LIMIT 1) AS best",
                                   (words,)).fetchone()

            def by_pgvector(_):
                connection.execute("SELECT count(best) FROM (SELECT (SELECT l.id FROM label AS l WHERE l.id < %s ORDER BY l.embedding <#> i.embedding "
                                   "LIMIT 1) AS best FROM item AS i) AS all_rows", (count,)).fetchone()

            first = timed(lambda: by_words(0))
            times = interleaved(3, numpy=product, vectors=by_vectors, words=by_words, pgvector=by_pgvector)
            found.append({"rows": len(rows), "labels": count, "first_ms": first} | {name: median(of) for name, of in times.items()})
            print(f"bench: {found[-1]}", flush=True)
    return found


def recall(text: np.ndarray, images: np.ndarray) -> list[dict]:
    """Measures clip_index_recall on the table's own rows, and exact search for texts that have no row."""
    rows = rows_around(text, images, INDEXED)
    load(rows)
    build_index()
    found = []
    with connect() as connection:
        for ef_search, share, ms, queries in connection.execute(
                "SELECT * FROM clip_index_recall('item', sample => %s, time_limit => '10 minutes')", (QUERIES,)):
            found.append({"by": "rows", "ef_search": ef_search, "recall": share, "ms": ms, "queries": queries})
        asked = text[np.random.default_rng(5).choice(len(text), QUERIES, replace=False)]
        exact = np.sort(1 - asked @ rows.T, axis=1)[:, 9]
        for ef_search in (40, 100, 200, 400):
            connection.execute(f"SET hnsw.ef_search = {ef_search}")
            hits, times = 0, []
            for query, furthest in zip(asked, exact):
                value = "[" + ",".join(f"{number:.7g}" for number in query) + "]"
                answer = []
                times.append(timed(lambda: answer.extend(connection.execute(
                    "SELECT embedding <=> %s::vector FROM item ORDER BY 1 LIMIT 10", (value,)).fetchall())))
                hits += sum(distance <= furthest + 1e-6 for distance, in answer)
            found.append({"by": "texts", "ef_search": ef_search, "recall": hits / (10 * QUERIES), "ms": median(times), "queries": QUERIES})
    for row in found:
        print(f"bench: {row}", flush=True)
    return found


def main() -> None:
    text, images, _ = real_vectors()
    rows = rows_around(text, images, ROWS)
    load(rows)
    save("zero_shot", {"classify": classify(rows, text), "recall": recall(text, images)})


if __name__ == "__main__":
    main()
