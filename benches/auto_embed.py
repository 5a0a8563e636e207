"""Measures the cost of managed columns for writers in each mode, and for updates of other columns."""

import time

from common import connect, median, photos, save, timed

TEXTS = 1000
PHOTOS = 200
# Single-row transactions.
SINGLE = 40
UNTOUCHED = 100_000
MODEL = "vit-b-32"
MODES = ("row", "statement", "queue")


def table(kind: str, mode: str | None) -> None:
    """Creates an empty table with a managed column in that mode, or without one."""
    with connect() as connection:
        connection.execute("DROP TABLE IF EXISTS self")
        connection.execute(f"CREATE TABLE self (id int PRIMARY KEY, source {kind}, other int, embedding vector(512))")
        connection.execute("ALTER TABLE self ALTER source SET STORAGE EXTERNAL")
        if mode:
            # The index is left out, because its cost is the same in all modes.
            connection.execute("SELECT clip_auto_embed('self', 'source', model => %s, mode => %s, create_index => false)", (MODEL, mode))


def wait_for_worker(connection) -> None:
    while connection.execute("SELECT EXISTS (SELECT FROM self WHERE embedding IS NULL)").fetchone()[0]:
        time.sleep(0.02)


def writing(kind: str, rows: int, mode: str | None) -> dict[str, float]:
    """Returns milliseconds: per row of one statement, per transaction of one row, and until the last row was searchable."""
    table(kind, mode)
    tower = "text" if kind == "text" else "image"
    with connect() as connection:
        connection.execute("SELECT clip_prewarm(%s, %s)", (MODEL, tower))
        if mode == "queue":
            # The worker is running already, as for a table in use.
            connection.execute("INSERT INTO self (id, source) SELECT -1, source FROM given WHERE id = 0")
            wait_for_worker(connection)
        by_hand = f", clip_embed_{tower}(source, '{MODEL}')" if mode is None else ""
        columns = "id, source, embedding" if by_hand else "id, source"
        insert = f"INSERT INTO self ({columns}) SELECT id, source{by_hand} FROM given WHERE id"
        begun = time.perf_counter()
        statement = timed(lambda: connection.execute(f"{insert} < {rows}")) / rows
        if mode == "queue":
            wait_for_worker(connection)
        searchable = (time.perf_counter() - begun) * 1e3 / rows
        single = median(timed(lambda: connection.execute(f"{insert} = {rows + number}")) for number in range(SINGLE))
    return {"statement": statement, "searchable": searchable, "single": single}


def untouched() -> dict[str, float]:
    """Returns microseconds per row of an update of another column, without and with the trigger."""
    spent = {}
    for name, mode in (("without", None), ("with", "row")):
        table("text", mode)
        with connect() as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(f"INSERT INTO self SELECT i, 'text ' || i, 0 FROM generate_series(1, {UNTOUCHED}) AS i")
            connection.execute("UPDATE self SET embedding = array_fill(0.1::real, ARRAY[512])::vector WHERE id <= 100")
            connection.execute("SET session_replication_role = origin")
            connection.execute("VACUUM ANALYZE self")
            times = [timed(lambda: connection.execute("UPDATE self SET other = other + 1")) for _ in range(3)]
        spent[name] = median(times) * 1e3 / UNTOUCHED
    return spent


def main() -> None:
    result = {"texts": TEXTS, "photos": PHOTOS, "untouched": untouched()}
    files = photos(PHOTOS)
    for kind, rows in (("text", TEXTS), ("bytea", PHOTOS)):
        with connect() as connection:
            connection.execute("DROP TABLE IF EXISTS given")
            connection.execute(f"CREATE TABLE given (id int PRIMARY KEY, source {kind})")
            with connection.cursor().copy("COPY given FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["int4", kind])
                for number in range(rows + SINGLE):
                    copy.write_row((number, f"a photo of item number {number}" if kind == "text" else files[number % len(files)]))
            connection.execute("VACUUM ANALYZE given")
        result[kind] = {mode or "by hand": writing(kind, rows, mode) for mode in (None, *MODES)}
        print(kind, result[kind], flush=True)
    save("auto_embed", result)


if __name__ == "__main__":
    main()
