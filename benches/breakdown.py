"""Measures the parts of the time: ONNX Runtime alone by images and threads in a run, the way of a text to the server and back,
and the steps of a session's first text."""

import numpy as np

from common import CORES, connect, interleaved, median, memory, photos, save, session, timed
from full_size import SHAPES
from latency import texts

MODEL = "vit-b-32"
ROUNDS = 7
# Multiplications and additions of ViT-B/32's image encoder, by open_clip's count.
GFLOP = 8.82


def runs() -> list[dict]:
    found = []
    for threads in sorted({1, CORES}):
        graph = session(SHAPES[MODEL] / "onnx/vision_model.onnx", threads)
        for batch in (1, 2, 4, 8, 16):
            pixels = np.random.default_rng(1).standard_normal((batch, 3, 224, 224), dtype=np.float32)
            graph.run(["image_embeds"], {"pixel_values": pixels})
            times = [timed(lambda: graph.run(["image_embeds"], {"pixel_values": pixels})) / batch for _ in range(max(4, 48 // batch))]
            found.append({"threads": threads, "batch": batch, "ms": median(times), "gflops": GFLOP / median(times) * 1e3})
    return found


def warm(count: int = 160) -> float:
    """Returns milliseconds per image of clip_embed_images on all cores, including decoding, with a loaded model."""
    with connect(threads=CORES) as connection:
        files = photos(count)
        connection.execute("SELECT clip_prewarm(%s, 'image')", (MODEL,))
        statement = "SELECT count(*) FROM clip_embed_images(%s::bytea[], %s)"
        return median(timed(lambda: connection.execute(statement, (files, MODEL)).fetchone()) for _ in range(3)) / count


def protocol(count: int = 100) -> dict[str, float]:
    """Returns milliseconds per text: with one statement for each text, and with one statement for all."""
    sample = [text for text, _ in texts(SHAPES[MODEL], count, 8, 16)]
    with connect(query_cache_size=0, threads=1) as connection:
        connection.execute("SELECT clip_prewarm(%s, 'text')", (MODEL,))
        one = "SELECT vector_dims(clip_embed_text(%s, %s))"
        all_of_them = "SELECT count(clip_embed_text(input, %s)) FROM unnest(%s::text[]) AS input"
        times = interleaved(
            ROUNDS,
            each=lambda _: [connection.execute(one, (text, MODEL)).fetchone() for text in sample],
            together=lambda _: connection.execute(all_of_them, (MODEL, sample)).fetchone(),
        )
    return {name: median(values) / count for name, values in times.items()}


def first_text() -> dict:
    steps = {"tokenizer": [], "tokenizer_mb": [], "library": [], "weights": [], "run": []}
    for _ in range(ROUNDS):
        with connect() as connection:
            pid = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
            connection.execute("SELECT clip_unload()")
            before = memory(pid)["anonymous"]
            steps["tokenizer"].append(timed(lambda: connection.execute("SELECT clip_token_count('a red car', %s)", (MODEL,))))
            steps["tokenizer_mb"].append(memory(pid)["anonymous"] - before)
            steps["library"].append(timed(lambda: connection.execute("SELECT * FROM clip_diagnose()").fetchall()))
            steps["weights"].append(timed(lambda: connection.execute("SELECT clip_prewarm(%s, 'text')", (MODEL,))))
            steps["run"].append(timed(lambda: connection.execute("SELECT clip_embed_text('a red car', %s)", (MODEL,)).fetchone()))
    return {name: median(values) for name, values in steps.items()}


if __name__ == "__main__":
    save("breakdown", {"runs": runs(), "warm_ms": warm(), "protocol": protocol(), "first_text": first_text()})
