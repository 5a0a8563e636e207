"""Measures the embedding of many photos into a table on all cores: in the database, and by clients."""

import os
import threading

import numpy as np

from common import CORES, connect, median, photos, save, timed
from peers import PEERS, make_folders, pillow_onnxruntime, pillow_onnxruntime_int8

PHOTOS = int(os.environ.get("PG_CLIP_BENCH_PHOTOS", 1000))
ROUNDS = 3
# A contestant that takes this many times the fastest time runs only once: its rank is certain.
HOPELESS = 1.5
MODEL = "vit-b-32"
# The best batch size for each client: sizes from 1 to 32 were tried.
BATCH = 16


def prepare(files: list[bytes]) -> None:
    with connect() as connection:
        connection.execute("DROP TABLE IF EXISTS photo, embedded")
        connection.execute("CREATE TABLE photo (id int PRIMARY KEY, data bytea NOT NULL, embedding vector(512))")
        connection.execute("ALTER TABLE photo ALTER data SET STORAGE EXTERNAL")
        with connection.cursor().copy("COPY photo (id, data) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "bytea"])
            for number, data in enumerate(files):
                copy.write_row((number, data))
        connection.execute("CREATE TABLE embedded (id int, embedding vector(512))")
        connection.execute("VACUUM ANALYZE photo")


def empty() -> None:
    with connect() as connection:
        connection.execute("TRUNCATE embedded")
        connection.execute("UPDATE photo SET embedding = NULL WHERE embedding IS NOT NULL")


def insert_select() -> None:
    with connect(threads=CORES) as connection:
        connection.execute(f"INSERT INTO embedded SELECT id, clip_embed_image(data, '{MODEL}') FROM photo")


def insert_batches(model: str = MODEL, threads: int = CORES, of: int = 1, part: int = 0) -> None:
    """Embeds chunk number `part` of each `of` chunks of 64 photos."""
    with connect(threads=threads) as connection:
        connection.execute(f"""
            INSERT INTO embedded SELECT ids[ordinality], embedding
            FROM (SELECT array_agg(id) AS ids, array_agg(data) AS data FROM photo WHERE id / 64 % {of} = {part} GROUP BY id / 64) AS chunk,
                 clip_embed_images(chunk.data, '{model}')""")


def insert_batches_int8() -> None:
    insert_batches(f"{MODEL}-int8")


def by_connections(work, connections: int = CORES) -> None:
    """Runs connections at the same time, by default one per core."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def insert_batches_by_connections(model: str = MODEL) -> None:
    by_connections(lambda number: insert_batches(model, 1, CORES, number))


def insert_batches_by_connections_int8() -> None:
    insert_batches_by_connections(f"{MODEL}-int8")


def update() -> None:
    with connect(threads=CORES) as connection:
        connection.execute(f"UPDATE photo SET embedding = clip_embed_image(data, '{MODEL}')")


def insert_by_connections() -> None:
    def part(number):
        with connect(threads=1) as connection:
            connection.execute(f"INSERT INTO embedded SELECT id, clip_embed_image(data, '{MODEL}') FROM photo WHERE id %% %s = %s",
                               (CORES, number))
    by_connections(part)


def parallel_query() -> None:
    with connect(threads=1) as connection:
        connection.execute(f"SET max_parallel_workers_per_gather = {CORES - 1}")
        connection.execute("SET min_parallel_table_scan_size = 0")
        connection.execute("DROP TABLE IF EXISTS made")
        connection.execute(f"CREATE TABLE made AS SELECT id, clip_embed_image(data, '{MODEL}') AS embedding FROM photo")


DATABASE = {"INSERT … SELECT clip_embed_image": insert_select, "INSERT … FROM clip_embed_images": insert_batches,
            "UPDATE … SET clip_embed_image": update, "clip_embed_image, a connection per core": insert_by_connections,
            "clip_embed_images, a connection per core": insert_batches_by_connections,
            "CREATE TABLE AS, parallel query": parallel_query}
# These use other weights than the rest: they are faster, with nearly the same embeddings.
EIGHT_BITS = {"FROM clip_embed_images, 8-bit weights": insert_batches_int8,
              "a connection per core, 8-bit weights": insert_batches_by_connections_int8}


def client(embed, files: list[bytes], of: int = 1, part: int = 0):
    """Computes one of each `of` batches, and inserts them by binary COPY, which is faster than executemany."""
    embed(files[:BATCH])

    def run():
        with connect() as connection, connection.cursor().copy("COPY embedded FROM STDIN (FORMAT binary)") as copy:
            copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
            for first in range(part * BATCH, len(files), of * BATCH):
                for number, row in enumerate(embed(files[first:first + BATCH]), first):
                    vector = np.array([len(row), 0], dtype=">i2").tobytes() + row.astype(">f4").tobytes()
                    copy.write(b"\0\2" + b"\0\0\0\4" + number.to_bytes(4) + len(vector).to_bytes(4) + vector)
            copy.write(b"\xff\xff")
    return run


def one_client(make):
    return lambda files: client(make(CORES), files)


def client_per_core(make):
    """Uses threads, because decoding and ONNX Runtime release Python's lock."""
    def start(files):
        runs = [client(make(1), files, CORES, number) for number in range(CORES)]
        return lambda: by_connections(lambda number: runs[number]())
    return start


CLIENTS = {name: one_client(make) for name, make in PEERS.items()} | {
    "Pillow + numpy + onnxruntime, a connection per core": client_per_core(pillow_onnxruntime)}
EIGHT_BIT_CLIENTS = {"Pillow + numpy + onnxruntime, 8-bit weights": one_client(pillow_onnxruntime_int8),
                     "Pillow + numpy + onnxruntime, a connection per core, 8-bit weights": client_per_core(pillow_onnxruntime_int8)}


def count() -> int:
    with connect() as connection:
        return connection.execute("SELECT count(*) FROM embedded").fetchone()[0]


def growth(files: list[bytes]) -> list[dict]:
    """Returns milliseconds per photo for growing numbers of photos."""
    found = []
    for rows in (10, 100, len(files)):
        empty()
        with connect(threads=CORES) as connection:
            spent = timed(lambda: connection.execute(
                f"INSERT INTO embedded SELECT id, clip_embed_image(data, '{MODEL}') FROM photo WHERE id < {rows}"))
        found.append({"rows": rows, "ms_per_photo": spent / rows})
    return found


def main() -> None:
    make_folders()
    files = photos(PHOTOS)
    prepare(files)
    contestants, failed = DATABASE | EIGHT_BITS, {}
    for name, start in (CLIENTS | EIGHT_BIT_CLIENTS).items():
        try:
            contestants[name] = start(files)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            print(f"bench: {name} cannot be run: {failed[name]}", flush=True)
    times = {name: [] for name in contestants}
    for number in range(ROUNDS):
        for name, run in contestants.items():
            if number > 0 and times[name][0] > HOPELESS * min(times[other][0] for other in DATABASE):
                continue
            empty()
            times[name].append(timed(run))
            print(f"bench: bulk, round {number + 1}, {name}: {PHOTOS / times[name][-1] * 1e3:.1f} photos/s", flush=True)
            if run not in (update, parallel_query):
                assert count() == PHOTOS, name
    rates = {name: PHOTOS / median(spent) * 1e3 for name, spent in times.items()}
    save("bulk", {"photos": PHOTOS, "rounds": ROUNDS, "run_once": [name for name, spent in times.items() if len(spent) < ROUNDS],
                  "photos_per_second": rates, "in_database": list(DATABASE | EIGHT_BITS),
                  "eight_bits": list(EIGHT_BITS | EIGHT_BIT_CLIENTS), "failed": failed, "growth": growth(files)})


if __name__ == "__main__":
    main()
