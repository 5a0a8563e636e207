"""Compares the embedding service with sessions that compute themselves: searches, first calls, memory, and photos into a table. The
server is the same in all cases: a reload turns the service on and off, and chooses its provider."""

import os
import threading
import time

import numpy as np

from bulk import by_connections, client_per_core, count, empty, insert_batches, one_client, prepare
from common import CORES, connect, median, memory, photos, save, timed
from concurrency import end_to_end, make_queries
from peers import pillow_onnxruntime, pillow_onnxruntime_int8
from search import build_index, load, real_vectors, rows_around

ROWS = 100_000
CONNECTIONS = 64
ROUNDS = int(os.environ.get("PG_CLIP_BENCH_ROUNDS", 3))
PHOTOS = 1000
MODEL = "vit-b-32"
SESSION, SERVICE, BF16 = "in the session", "service, fp32", "service, bf16"
# Seconds after a search in which the service keeps a thread free for the next one.
SEARCHING = 2.5
# The provider of the service, and the model.
MODES = {SESSION: (None, MODEL), SERVICE: ("cpu", MODEL), BF16: ("openvino", f"{MODEL}-bf16")}
# Texts of two names and a number are different in each call.
TEXT = "'a ' || query.name || ' and a ' || other.name || ' ' || :nonce"


def switch(mode: str) -> str:
    """Turns the service on or off, loads the encoder of texts in all threads, and returns the model."""
    provider, model = MODES[mode]
    with connect() as connection:
        connection.execute(f"ALTER SYSTEM SET clip.service = {'on' if provider else 'off'}")
        connection.execute(f"ALTER SYSTEM SET clip.service_provider = {provider or 'cpu'}")
        connection.execute("SELECT pg_reload_conf()")
        wanted = "state = 'off'" if provider is None else f"state = 'running' AND provider = '{provider}'"
        while not connection.execute(f"SELECT {wanted} FROM clip_service").fetchone()[0]:
            time.sleep(0.1)
    repeat("SELECT clip_embed_text('warm ' || %(number)s::int, %(model)s)", model)
    return model


def load_images(mode: str, model: str) -> None:
    """Loads the encoders of images in all threads of the service. Searches do not need them, so they are not part of their memory."""
    if mode != SESSION:
        for name in (model, f"{MODEL}-int8") if mode == SERVICE else (model,):
            repeat("SELECT clip_embed_image(%(photo)b, %(model)s)", name)
        # Bulk work is measured without searches.
        time.sleep(SEARCHING)


def repeat(statement: str, model: str) -> None:
    """Executes a statement several times on more connections than the service has threads."""
    def execute(number: int) -> None:
        with connect(query_cache_size=0) as connection:
            for turn in range(3):
                connection.execute(statement, {"number": 10 * number + turn, "photo": photos(1)[0], "model": model})

    by_connections(execute, 2 * CORES)


def texts(names: list[str], count: int, seed: int) -> list[str]:
    """Returns different texts of 6 to 19 tokens."""
    draw = np.random.default_rng(seed)
    pairs = draw.integers(0, len(names), (count, 2))
    return [f"a {names[one]} and a {names[other]} {seed}{number}" for number, (one, other) in enumerate(pairs)]


def one_text(model: str, names: list[str], seed: int) -> float:
    """Returns milliseconds of a text in a statement of its own."""
    with connect(query_cache_size=0) as connection:
        return median(timed(lambda: connection.execute("SELECT clip_embed_text(%s, %s)", (text, model)).fetchone())
                      for text in texts(names, 200, seed))


def known_text(model: str, names: list[str]) -> float:
    """Returns microseconds of a text that another connection has asked before, as one of many in a statement."""
    asked = texts(names, 500, 77)
    statement = "SELECT count(clip_embed_text(t, %s)) FROM unnest(%s::text[]) AS t"
    with connect(query_cache_size=0) as first, connect(query_cache_size=0) as other:
        first.execute(statement, (model, asked)).fetchone()
        other.execute("SELECT clip_embed_text('begin', %s)", (model,)).fetchone()
        return median(timed(lambda: other.execute(statement, (model, asked)).fetchone()) for _ in range(5)) / len(asked) * 1e3


def first_text(model: str, names: list[str]) -> dict:
    """Returns milliseconds of a session's first text, and of the texts after it."""
    first, later = [], []
    for number in range(9):
        with connect(query_cache_size=0) as connection:
            spent = [timed(lambda: connection.execute("SELECT clip_embed_text(%s, %s)", (text, model)).fetchone())
                     for text in texts(names, 8, 1000 + number)]
        first.append(spent[0])
        later.append(median(spent[1:]))
    return {"first": median(first), "later": median(later)}


def private(model: str) -> float:
    """Returns megabytes of private memory that a text and an image add to a session."""
    opened = [connect(query_cache_size=0) for _ in range(6)]
    pids = [connection.execute("SELECT pg_backend_pid()").fetchone()[0] for connection in opened]
    before = [memory(pid)["private"] for pid in pids]
    for number, connection in enumerate(opened):
        connection.execute("SELECT clip_embed_text(%s, %s)", (f"memory {number}", model))
        connection.execute("SELECT clip_embed_image(%b, %s)", (photos(1)[0], model))
    after = [memory(pid)["private"] for pid in pids]
    for connection in opened:
        connection.close()
    return median(end - begin for begin, end in zip(before, after))


def during_bulk(model: str, names: list[str]) -> dict:
    """Returns p99 in milliseconds of searches by one session, without other work and while photos are embedded on all cores."""
    def p99(seed: int) -> float:
        statement = f"SELECT id FROM item ORDER BY embedding <=> (SELECT clip_embed_text(%s, '{model}')) LIMIT 10"
        with connect(query_cache_size=0) as connection:
            spent = [timed(lambda: connection.execute(statement, (text,)).fetchall()) for text in texts(names, 400, seed)]
        return float(np.percentile(spent[10:], 99))

    idle = p99(5)
    is_over = threading.Event()

    def embed(number: int) -> None:
        with connect(threads=1) as connection:
            while not is_over.is_set():
                connection.execute(f"SELECT count(embedding) FROM clip_embed_images((SELECT array_agg(data) FROM photo WHERE id / 32 = {number}), '{model}')")

    loading = threading.Thread(target=by_connections, args=(embed, 2 * CORES))
    loading.start()
    time.sleep(1)
    busy = p99(6)
    is_over.set()
    loading.join()
    return {"idle": idle, "busy": busy}


def into_table(model: str) -> float:
    """Returns photos per second into a table, by two connections for each core."""
    empty()
    spent = timed(lambda: by_connections(lambda number: insert_batches(model, 1, 2 * CORES, number), 2 * CORES))
    assert count() == PHOTOS
    return PHOTOS / spent * 1e3


def by_clients(files: list[bytes], make) -> float:
    """Returns photos per second of the faster client: one with a thread for each core, or a connection for each core."""
    rates = []
    for start in (one_client(make), client_per_core(make)):
        run = start(files)
        empty()
        rates.append(PHOTOS / timed(run) * 1e3)
    return max(rates)


def main() -> None:
    text, images, names = real_vectors()
    load(rows_around(text, images, ROWS))
    build_index()
    make_queries(names)
    files = photos(PHOTOS)
    prepare(files)
    found = {mode: {"searches": [], "one_text": [], "bulk": [], "bulk_int8": []} for mode in MODES}
    clients = {"fp32": [], "int8": []}
    for number in range(ROUNDS):
        for mode in MODES:
            model, of = switch(mode), found[mode]
            of["searches"].append(end_to_end(CONNECTIONS, names, model, TEXT))
            of["one_text"].append(one_text(model, names, 10 + number))
            load_images(mode, model)
            of["bulk"].append(into_table(model))
            if mode != BF16:
                of["bulk_int8"].append(into_table(f"{MODEL}-int8"))
            if number == 0:
                of |= {"first": first_text(model, names), "private": private(model), "search_p99": during_bulk(model, names)}
            if number == 0 and mode != SESSION:
                of["known_us"] = known_text(model, names)
            print(f"bench: round {number + 1}, {mode}: {of}", flush=True)
        clients["fp32"].append(by_clients(files, pillow_onnxruntime))
        clients["int8"].append(by_clients(files, pillow_onnxruntime_int8))
        print(f"bench: round {number + 1}, clients: {clients}", flush=True)
        save("service", {"rows": ROWS, "connections": CONNECTIONS, "photos": PHOTOS, "modes": found, "clients": clients})


if __name__ == "__main__":
    main()
