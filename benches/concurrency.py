"""Measures many connections that embed a text, which is not cached, and search by it: latencies and memory."""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from common import CORES, connect, save, server_pss
from search import build_index, load, real_vectors, rows_around

ROWS = 100_000
CONNECTIONS = (1, 4, 16, 64)
SECONDS = 20
MODEL = "vit-b-32"


# A text of one name, in SQL.
TEXT = "'a photo of a ' || query.name"


def make_queries(names: list[str]) -> None:
    with connect() as connection:
        connection.execute("DROP TABLE IF EXISTS query")
        connection.execute("CREATE TABLE query (id int PRIMARY KEY, name text)")
        connection.cursor().executemany("INSERT INTO query VALUES (%s, %s)", list(enumerate(names, 1)))
        connection.execute("ANALYZE query")


def end_to_end(connections: int, names: list[str], model: str, text: str) -> dict:
    """Runs pgbench: each query embeds a text without the cache of its session, and searches. Latencies count after every connection has
    begun."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "search.sql")
        script.write_text(f"\\set number random(1, {len(names)})\n\\set another random(1, {len(names)})\n\\set nonce random(1, 9999)\n"
                          f"SELECT id FROM item ORDER BY embedding <=> (SELECT clip_embed_text({text}, '{model}') FROM query, query AS other "
                          "WHERE query.id = :number AND other.id = :another) LIMIT 10;\n")
        command = ["pgbench", "--no-vacuum", f"--client={connections}", f"--jobs={min(CORES, connections)}", f"--time={SECONDS}",
                   f"--file={script}", "--log", f"--log-prefix={folder}/log", "--protocol=prepared", "postgres"]
        environment = os.environ | {"PGOPTIONS": "-c clip.query_cache_size=0"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        output = run.stdout + run.stderr
        # The second run measures the memory. Adding it up takes seconds on a busy machine, so the clients are stopped for that
        # time.
        again = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(SECONDS * 0.75)
        again.send_signal(signal.SIGSTOP)
        total = server_pss()
        again.kill()
        again.wait()
        for file in Path(folder).glob(f"log.{again.pid}*"):
            file.unlink()
        lines = [line.split() for file in Path(folder).glob("log*") for line in file.read_text().splitlines()]
    ends = [(int(line[0]), int(line[4]) + int(line[5]) / 1e6, int(line[2]) / 1e3) for line in lines]
    first = {}
    for client, end, spent in sorted(ends, key=lambda entry: entry[1]):
        first.setdefault(client, (end, spent))
    ready = max(end for end, _ in first.values())
    warm = [spent for _, end, spent in ends if end - spent / 1e3 >= ready]
    p50, p95, p99 = np.percentile(warm, [50, 95, 99]).tolist()
    last = max(end for _, end, _ in ends)
    return {"connections": connections, "per_second": len(warm) / (last - ready), "p50": p50, "p95": p95, "p99": p99,
            "first_ms": max(spent for _, spent in first.values()), "total_pss": total,
            "errors": output.count("ERROR") + output.count("aborted"), "succeeded": run.returncode == 0}


def main() -> None:
    text, images, names = real_vectors()
    load(rows_around(text, images, ROWS))
    build_index()
    make_queries(names)
    found = []
    for connections in CONNECTIONS:
        found.append(end_to_end(connections, names, MODEL, TEXT))
        print(f"bench: {found[-1]}", flush=True)
    save("concurrency", {"rows": ROWS, "concurrency": found})


if __name__ == "__main__":
    main()
