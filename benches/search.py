"""Measures recall and latency of HNSW at growing numbers of rows."""

import json
import math
import os
import time

import numpy as np

from common import CORES, DATA, connect, median, save, timed

SIZES = [int(size) for size in os.environ.get("PG_CLIP_BENCH_ROWS", "10000 100000 1000000").split()]
EF_SEARCH = (40, 100, 200, 400, 450, 800)
QUERIES = 200
# The options of the index that `clip_auto_embed` creates.
OPTIONS = "ef_construction = 200"


def normalised(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def real_vectors() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns embeddings of class names and of images, and the names. Without the reference data, the embeddings are random."""
    folder = DATA / "embeddings"
    if not folder.exists():
        draw = np.random.default_rng(3)
        return normalised(draw.standard_normal((2000, 512))), normalised(draw.standard_normal((7, 512)) + 1), SAMPLE_NAMES
    names, text = [], []
    for part, labels in [("lvis_v1_clip_a+cname", "lvis_names"), ("oid_clip_a+cname", "oid_names")]:
        rows = np.load(folder / "detic_clip_vitb32_text" / f"{part}.npy").astype(np.float32)
        text.append(rows if rows.shape[1] == 512 else rows.T)
        found = json.loads((folder / "detic_clip_vitb32_text" / f"{labels}.json").read_text())
        names.extend(str(name) for name in found)
    images = np.load(folder / "clip_retrieval_vitb32/image_embeddings_f16.npy").astype(np.float32)
    return normalised(np.concatenate(text)), normalised(images), names


SAMPLE_NAMES = [f"{colour} {thing}" for colour in ("red", "green", "blue", "white", "black")
                for thing in ("car", "dog", "chair", "boat", "house", "shoe", "cup", "tree", "bird", "lamp")]


def rows_around(text: np.ndarray, images: np.ndarray, count: int) -> np.ndarray:
    """Returns vectors like those of images: around the texts, moved to the region of images, each with its own noise."""
    draw = np.random.default_rng(11)
    shift = images.mean(axis=0) - text.mean(axis=0)
    rows = np.empty((count, 512), dtype=np.float32)
    for first in range(0, count, 50_000):
        size = min(50_000, count - first)
        noise = draw.standard_normal((size, 512), dtype=np.float32) * (0.6 / 512 ** 0.5)
        rows[first:first + size] = normalised(text[draw.integers(len(text), size=size)] + shift + noise)
    return rows


def load(rows: np.ndarray) -> None:
    """Loads rows by binary COPY, in pgvector's format."""
    row = np.dtype([("fields", ">i2"), ("id_size", ">i4"), ("id", ">i4"), ("size", ">i4"), ("dim", ">i2"), ("unused", ">i2"),
                    ("x", ">f4", 512)])
    with connect() as connection:
        connection.execute("DROP TABLE IF EXISTS item")
        connection.execute("CREATE TABLE item (id int, embedding vector(512))")
        with connection.cursor().copy("COPY item FROM STDIN (FORMAT binary)") as copy:
            copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
            for first in range(0, len(rows), 10_000):
                part = rows[first:first + 10_000]
                block = np.zeros(len(part), dtype=row)
                block["fields"], block["id_size"], block["size"], block["dim"] = 2, 4, 4 + 4 * 512, 512
                block["id"], block["x"] = np.arange(first, first + len(part)), part
                copy.write(block.tobytes())
            copy.write(b"\xff\xff")
        connection.execute("VACUUM ANALYZE item")


def exact(rows: np.ndarray, queries: np.ndarray, k: int = 10) -> np.ndarray:
    best = []
    for some in np.array_split(queries, math.ceil(len(queries) / 25)):
        for scores in some @ rows.T:
            found = np.argpartition(-scores, k)[:k]
            best.append(found[np.argsort(-scores[found])])
    return np.array(best)


def build_index() -> float:
    """Returns seconds."""
    with connect() as connection:
        connection.execute("SET maintenance_work_mem = '6GB'")
        connection.execute(f"SET max_parallel_maintenance_workers = {max(1, CORES - 1)}")
        return timed(lambda: connection.execute(f"CREATE INDEX ON item USING hnsw (embedding vector_cosine_ops) WITH ({OPTIONS})")) / 1e3


def measure(rows: np.ndarray, queries: np.ndarray) -> dict:
    load(rows)
    build = build_index()
    with connect() as connection:
        size = connection.execute("SELECT pg_relation_size('item_embedding_idx')").fetchone()[0]
        connection.execute("SELECT count(*) FROM item").fetchone()
        truth = exact(rows, queries)
        found = []
        for ef_search in EF_SEARCH:
            connection.execute(f"SET hnsw.ef_search = {ef_search}")
            times, hits = [], 0
            for query, best in zip(queries, truth):
                value = "[" + ",".join(f"{number:.7g}" for number in query) + "]"
                statement = "SELECT id FROM item ORDER BY embedding <=> %s::vector LIMIT 10"
                begun = time.perf_counter()
                ids = [row[0] for row in connection.execute(statement, (value,)).fetchall()]
                times.append((time.perf_counter() - begun) * 1e3)
                hits += len(set(ids) & set(best.tolist()))
            found.append({"ef_search": ef_search, "recall": hits / truth.size, "ms": median(times)})
    return {"rows": len(rows), "build_s": build, "index_mb": size / 2**20, "searches": found}


def main() -> None:
    text, images, _ = real_vectors()
    queries = text[np.random.default_rng(5).choice(len(text), QUERIES, replace=False)]
    sizes = []
    for size in SIZES:
        sizes.append(measure(rows_around(text, images, size), queries))
        print(f"bench: {size} rows: {sizes[-1]}", flush=True)
        save("search", {"sizes": sizes, "real": DATA.exists()})


if __name__ == "__main__":
    main()
