"""Measures columns and indexes that need less memory: vector, halfvec, and bits with re-ranking. Writes the tables of
docs/operations/scale.md."""

import math
import os
import re
import time

import numpy as np

from common import CORES, DATA, ROOT, connect, median, save, table, timed
from search import OPTIONS, SIZES, exact, load, real_vectors, rows_around

QUERIES = 200
# The numbers of rows for which the second table is calculated, and the servers that it assumes.
PLANNED = (10_000_000, 100_000_000, 1_000_000_000)
MEMORY_GB = 256
SHARE_FOR_INDEX = 0.6
PLANNED_CORES = 32
PAGE = ROOT / "docs/operations/scale.md"
# Follows the second table.
ABOUT_PLANNED = """
The table is calculated from [the measurements](#measurements) of the largest table: 512 dimensions, servers of 256 GB memory with 32
cores. The index uses 60 % of a server's memory. The time to build the index and the time of a search grow with the logarithm of the
rows on a server, and the time to build also with their number. A search on several servers takes as long as the slowest of them. The
time to embed the query is added once. Nothing in this table was run, and the recall of larger tables is not known.
"""

# The bits of an expression: as it is, or rotated, without its part in the direction of the mean.
PLAIN = "binary_quantize({of})::bit(512)"
ROTATED = "binary_quantize(clip_rotate({of}::vector, '{mean}'::halfvec::vector, 1024))::bit(1024)"

# A kind that is measured up to 100,000 rows, because rotated bits find more rows.
BITS = "bits, re-ranked by halfvec"
MOST_ROWS_OF_BITS = 100_000

# The type of the column, the indexed expression, the operator class, m of the index, and the rows that a search considers.
KINDS = [
    ("vector", "vector", "{of}", "vector_cosine_ops", 16, (40, 100, 400, 800)),
    ("halfvec", "halfvec", "{of}", "halfvec_cosine_ops", 16, (40, 100, 400, 800)),
    (BITS, "halfvec", PLAIN, "bit_hamming_ops", 16, (400, 1600, 3200, 6400)),
    ("rotated bits, re-ranked by halfvec", "halfvec", ROTATED, "bit_hamming_ops", 8, (400, 800, 2000, 4000)),
]


def held_out() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Returns texts around which rows are made, images, and queries: other texts, and images of them."""
    text, images, _ = real_vectors()
    chosen = np.random.default_rng(5).choice(len(text), QUERIES, replace=False)
    return np.delete(text, chosen, axis=0), images, {"text": text[chosen], "image": rows_around(text[chosen], images, QUERIES)}


def build(connection, kind: str, indexed: str, operators: str, m: int) -> dict:
    """Creates the table of one kind from the loaded rows, and its index."""
    connection.execute("DROP TABLE IF EXISTS scaled")
    connection.execute(f"CREATE TABLE scaled AS SELECT id, embedding::{kind}(512) AS embedding FROM item")
    connection.execute("ALTER TABLE scaled ADD PRIMARY KEY (id)")
    index = f"CREATE INDEX scaled_idx ON scaled USING hnsw (({indexed.format(of='embedding')}) {operators}) WITH (m = {m}, {OPTIONS})"
    seconds = timed(lambda: connection.execute(index)) / 1e3
    connection.execute("VACUUM ANALYZE scaled")
    size = "SELECT pg_table_size('scaled'), pg_relation_size('scaled_idx')"
    table_bytes, index_bytes = connection.execute(size).fetchone()
    return {"build_s": seconds, "table_mb": table_bytes / 2**20, "index_mb": index_bytes / 2**20}


def statement(kind: str, indexed: str, candidates: int | None) -> str:
    if candidates is None:
        return "SELECT key FROM clip_search_vector('scaled', %(query)s::vector)"
    query = f"(SELECT %(query)s::{kind})"
    if "bit" not in indexed:
        return f"SELECT id FROM scaled ORDER BY embedding <=> {query} LIMIT 10"
    place = f"{indexed.format(of='embedding')} <~> {indexed.format(of=query)}"
    near = f"SELECT id, embedding FROM scaled ORDER BY {place} LIMIT {candidates}"
    return f"SELECT id FROM ({near}) AS near ORDER BY embedding <=> {query} LIMIT 10"


def measure(connection, kind: str, indexed: str, candidates: int | None, queries: np.ndarray, truth: np.ndarray) -> dict:
    connection.execute(f"SET hnsw.ef_search = {min(candidates or 40, 1000)}")
    connection.execute("SET hnsw.iterative_scan = relaxed_order")
    asked = statement(kind, indexed, candidates)
    times, hits = [], 0
    for query, best in zip(queries, truth):
        value = "[" + ",".join(f"{number:.7g}" for number in query) + "]"
        begun = time.perf_counter()
        rows = connection.execute(asked, {"query": value}).fetchall()
        times.append((time.perf_counter() - begun) * 1e3)
        hits += len({row[0] for row in rows} & set(best.tolist()))
    return {"candidates": candidates, "recall": hits / truth.size, "ms": median(times)}


def main() -> None:
    text, images, queries = held_out()
    sizes = []
    for count in SIZES:
        rows = rows_around(text, images, count)
        truth = {kind: exact(rows, asked) for kind, asked in queries.items()}
        load(rows)
        del rows
        for name, kind, indexed, operators, m, breadths in KINDS:
            if name == BITS and count > MOST_ROWS_OF_BITS:
                continue
            with connect() as connection:
                connection.execute(f"SET maintenance_work_mem = '{os.environ.get('PG_CLIP_BENCH_MEMORY', '2GB')}'")
                connection.execute(f"SET max_parallel_maintenance_workers = {max(1, CORES - 1)}")
                # Measures the index also where the server would read a small table instead.
                connection.execute("SET enable_seqscan = off")
                connection.execute("SET jit = off")
                mean = "SELECT avg(embedding)::halfvec FROM (SELECT embedding FROM item LIMIT 10000) AS s"
                mean = connection.execute(mean).fetchone()[0]
                indexed = indexed.replace("{mean}", str(mean))
                found = build(connection, kind, indexed, operators, m)
                # Reads the index and the table into memory, as far as they fit.
                measure(connection, kind, indexed, breadths[-1], queries["text"], truth["text"])
                # A vector counts as a text: None measures `clip_search_vector`.
                wanted = [("text", breadth) for breadth in (*breadths, None)] + [("image", breadth) for breadth in breadths]
                found["searches"] = [
                    {"query": asked} | measure(connection, kind, indexed, breadth, queries[asked], truth[asked]) for asked, breadth in wanted
                ]
            sizes.append({"rows": count, "kind": name} | found)
            print(f"bench: {sizes[-1]}", flush=True)
            save("scale", {"sizes": sizes, "real": DATA.exists()})
    write(sizes)


def planned(sizes: list[dict]) -> list[list[str]]:
    """Calculates larger tables from the largest measured one. The steps of an HNSW index, to build it and to search it, grow with the
    logarithm of the rows; everything else grows with the rows."""
    most = max(of["rows"] for of in sizes)
    lines = []
    for rows in PLANNED:
        for of in (of for of in sizes if of["rows"] == most):
            index_gb, table_gb = (of[size] / 1024 * rows / most for size in ("index_mb", "table_mb"))
            servers = math.ceil(index_gb / (MEMORY_GB * SHARE_FOR_INDEX))
            steps = math.log(rows / servers) / math.log(most)
            hours = of["build_s"] / 3600 * CORES / PLANNED_CORES * rows / servers / most * steps
            [search] = [search for search in of["searches"] if search["candidates"] is None]
            lines.append([f"{rows:,}", of["kind"], f"{index_gb:,.0f}", f"{table_gb:,.0f}", servers, f"{hours:,.2g}", f"{search['ms'] * steps:,.0f}"])
    return lines


def replace_block(page: str, name: str, titles: list[str], lines: list[list], after: str = "") -> str:
    block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return block.sub(lambda match: match[1] + table(titles, lines) + "\n" + after + match[2], page)


def write(sizes: list[dict]) -> None:
    measured = [[f"{of['rows']:,}", of["kind"], f"{of['table_mb']:,.0f}", f"{of['index_mb']:,.1f}", f"{of['build_s']:,.0f}",
                 search["query"], search["candidates"] or "`clip_search_vector`", f"{search['recall']:.3f}", f"{search['ms']:.1f}"]
                for of in sizes for search in of["searches"]]
    titles = ["rows", "index", "table, MB", "index, MB", "build, s", "queries", "rows considered", "recall@10", "ms"]
    page = replace_block(PAGE.read_text(), "scale", titles, measured)
    titles = ["rows", "index", "all indexes, GB", "all tables, GB", "servers", "hours to build, on all servers at once", "ms for a search on each server"]
    PAGE.write_text(replace_block(page, "planned", titles, planned(sizes), ABOUT_PLANNED))
    print(f"bench: wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
