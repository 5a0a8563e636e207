"""Measures the recall of searches by text in tables whose rows form tight groups. Prints a table for docs/design/search.md."""

import random
import statistics

from common import connect

NOUNS = ["cat", "dog", "car", "tree", "house", "red shoe", "boat", "guitar", "pizza", "flower", "bird", "book", "clock", "phone",
         "chair", "moon"]
OTHERS = ["black", "small", "old", "fast", "wooden", "happy", "the", "my", "broken", "1234", "blue"]
FILTERS = [None, None, "mod(id, 7) = 0", "id < 2000", "mod(id, 100) = 3", "starts_with(title, 'c')"]
QUERIES = 150
CANDIDATES = [40, 100, 200, 400, 800, 1000]
INDEXES = [(20_000, 16, 200), (100_000, 16, 200), (100_000, 32, 200)]


def queries() -> list[tuple[str, int, str | None]]:
    draw = random.Random(7)
    found = []
    for _ in range(QUERIES):
        noun = draw.choice(NOUNS)
        words = f"{draw.choice(OTHERS)} {noun}" if draw.random() < 0.6 else f"{noun} {draw.choice(NOUNS)}"
        found.append((words, draw.choice([1, 3, 5, 10, 20, 50]), draw.choice(FILTERS)))
    return found


def load(connection, rows: int) -> None:
    connection.execute("DROP TABLE IF EXISTS tight")
    connection.execute("CREATE TABLE tight (id int PRIMARY KEY, title text)")
    connection.execute(f"INSERT INTO tight SELECT i, (%s::text[])[1 + i %% 16] || ' ' || i FROM generate_series(1, {rows}) AS i", (NOUNS,))
    connection.execute("SELECT clip_auto_embed('tight', 'title', model => 'emoji', mode => 'statement', create_index => false)")
    connection.execute("CALL clip_backfill('tight')")


def nearest(connection) -> list[tuple[str, int, str | None, list[float]]]:
    """Returns the queries as vectors, with the distances of their nearest rows. The table has no index yet."""
    found = []
    for words, k, condition in queries():
        vector = connection.execute("SELECT clip_query('tight', %s)::text", (words,)).fetchone()[0]
        rows = connection.execute("SELECT distance FROM clip_search_vector('tight', %s::vector, %s, filter => %s)", (vector, k, condition))
        found.append((vector, k, condition, [row[0] for row in rows.fetchall()]))
    return found


def recall(connection, wanted, candidates: int | None) -> list[float]:
    """Returns the share of the nearest rows for each query. The search functions use a larger ef_search of the session."""
    found = []
    for vector, k, condition, best in wanted:
        if candidates is None:
            statement = "SELECT distance FROM clip_search_vector('tight', %s::vector, %s, filter => %s)"
            rows = connection.execute(statement, (vector, k, condition))
        else:
            where = f"WHERE {condition}" if condition else ""
            rows = connection.execute(f"SELECT embedding <=> %s::vector AS distance FROM tight {where} ORDER BY 1 LIMIT %s", (vector, k))
        found.append(sum(row[0] <= best[-1] + 1e-9 for row in rows.fetchall()) / len(best))
    return found


def main() -> None:
    print("| rows | index: m, ef_construction | candidates | mean recall | no row |\n|---|---|---|---|---|")
    with connect() as connection:
        loaded = 0
        for rows, m, ef_construction in INDEXES:
            if rows != loaded:
                load(connection, rows)
                wanted = nearest(connection)
                loaded = rows
            connection.execute("DROP INDEX IF EXISTS tight_idx")
            options = f"WITH (m = {m}, ef_construction = {ef_construction})"
            connection.execute(f"CREATE INDEX tight_idx ON tight USING hnsw (embedding vector_cosine_ops) {options}")
            connection.execute("VACUUM ANALYZE tight")
            connection.execute("SET hnsw.iterative_scan = relaxed_order")
            for candidates in [*CANDIDATES, None]:
                connection.execute(f"SET hnsw.ef_search = {candidates or 40}")
                shares = recall(connection, wanted, candidates)
                label = candidates or "`clip_search`"
                print(f"| {rows:,} | {m}, {ef_construction} | {label} | {statistics.mean(shares):.3f} | {shares.count(0)} |", flush=True)


if __name__ == "__main__":
    main()
