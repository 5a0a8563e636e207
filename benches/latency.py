"""Compares one text, one image, a repeated text, and the first call of a session with ONNX Runtime alone."""

import io
import subprocess
import sys

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from common import ROOT, connect, interleaved, median, memory, photos, pillow_tensor, save, session, timed
from full_size import MODELS, SHAPES

TEXT, IMAGE = "onnx/text_model.onnx", "onnx/vision_model.onnx"
SUBJECTS = ["red car", "small dog", "wooden chair", "glass of water", "sailing boat", "grey elephant", "city at night",
            "bowl of soup", "mountain lake", "pair of shoes"]
SETTINGS = ["on a table", "in the snow", "seen from above", "beside an old stone wall", "under a blue umbrella in the rain",
            "in front of a white house", "at the beach in summer", "held by a child"]


def texts(folder, count: int, shortest: int, longest: int) -> list[tuple[str, list[int]]]:
    """Returns texts of that many tokens, with their ids."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = []
    for number in range(100_000):
        places = " ".join(SETTINGS[(number + place) % 8] for place in range(number // 10 % 6))
        text = f"a photo of a {SUBJECTS[number % 10]} {places} {number}"
        ids = tokenizer.encode(text).ids
        if shortest <= len(ids) <= longest:
            found.append((text, ids))
        if len(found) == count:
            break
    return found


def one_text(model: str, folder, rounds: int, shortest: int, longest: int, context: int) -> dict:
    """Measures the floor at the same length, pg_clip from a client, and a pipeline that pads to the context length."""
    sample = texts(folder, rounds, shortest, longest)
    graph = session(folder / TEXT)
    names = [spec.name for spec in graph.get_inputs()]

    def run(ids):
        row = np.array([ids], dtype=np.int64)
        graph.run(None, {name: np.ones_like(row) if name == "attention_mask" else row for name in names})

    with connect(query_cache_size=0, threads=1) as connection:
        statement = "SELECT vector_dims(clip_embed_text(%s, %s))"
        times = interleaved(
            rounds + 3,
            floor=lambda n: run(sample[n % rounds][1]),
            pg_clip=lambda n: connection.execute(statement, (sample[n % rounds][0], model)).fetchone(),
            padded=lambda n: run((sample[n % rounds][1] + [sample[n % rounds][1][-1]] * context)[:context]),
        )
        shortest, longest = (pick(len(ids) for _, ids in sample) for pick in (min, max))
        return {"tokens": f"{shortest} to {longest}"} | {name: median(values[3:]) for name, values in times.items()}


def one_image(model: str, folder, rounds: int, side: int) -> dict:
    files = photos(rounds)
    tensors = [pillow_tensor(file, side)[None] for file in files]
    graph = session(folder / IMAGE)
    (name,) = [spec.name for spec in graph.get_inputs()]
    with connect(threads=1) as connection:
        statement = "SELECT vector_dims(clip_embed_image(%b, %s))"
        times = interleaved(
            rounds + 2,
            floor=lambda n: graph.run(None, {name: tensors[n % rounds]}),
            pg_clip=lambda n: connection.execute(statement, (files[n % rounds], model)).fetchone(),
            pillow_and_onnxruntime=lambda n: graph.run(None, {name: pillow_tensor(files[n % rounds], side)[None]}),
        )
    return {name: median(values[2:]) for name, values in times.items()}


def pixels(models, model: str, files: list[str]) -> list[dict]:
    """Measures only decode, resize and normalize: pg_clip's in the example program, then Pillow's in this process."""
    result = []
    for label, file in files:
        ours, theirs = [], []
        for _ in range(3):
            command = [ROOT / "target/release/examples/pixels", models / model, file]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            ours.append(float(line.split("\t")[2]))
            data = open(file, "rb").read()
            theirs.append(median(timed(lambda: pillow_tensor(data)) for _ in range(20)))
        result.append({"picture": label, "pg_clip": median(ours), "pillow": median(theirs)})
    return result


def repeated_text(model: str, calls: int = 20_000) -> float:
    """Returns microseconds per call with a cached text, within one statement."""
    with connect() as connection:
        def run(expression):
            statement = f"SELECT count({expression}) FROM (SELECT %s::text AS t FROM generate_series(1, %s) OFFSET 0) s"
            return median(timed(lambda: connection.execute(statement, ("a red car", calls)).fetchone()) for _ in range(5))
        run(f"clip_embed_text(t, '{model}')")
        return (run(f"clip_embed_text(t, '{model}')") - run("t")) / calls * 1e3


def first_call(models: dict[str, str], rounds: int = 7) -> dict:
    """Returns milliseconds of a session's first text, and of its first image."""
    (photo,) = photos(1)
    result = {}
    for label, model in models.items():
        text, image = [], []
        for _ in range(rounds):
            with connect() as connection:
                text.append(timed(lambda: connection.execute("SELECT clip_embed_text('a red car', %s)", (model,)).fetchone()))
            with connect() as connection:
                image.append(timed(lambda: connection.execute("SELECT clip_embed_image(%b, %s)", (photo, model)).fetchone()))
        result[label] = {"text": median(text), "image": median(image)}
    return result


def backends(models: dict[str, str], connections: int = 6) -> dict:
    """Returns megabytes of connections that all use a model. With several connections, shared memory is private to none."""
    (photo,) = photos(1)
    result = {}
    for label, model in models.items():
        opened = [connect() for _ in range(connections)]
        pids = [connection.execute("SELECT pg_backend_pid()").fetchone()[0] for connection in opened]
        result[label] = {"connections": connections, "plain": median(memory(pid)["private"] for pid in pids)}
        for tower, statement, value in [("text", "SELECT clip_embed_text(%b, %s)", "a red car"),
                                        ("both", "SELECT clip_embed_image(%b, %s)", photo)]:
            for connection in opened:
                connection.execute(statement if tower == "both" else statement.replace("%b", "%s"), (value, model)).fetchone()
            found = [memory(pid) for pid in pids]
            result[label][tower] = {"private": median(each["private"] for each in found),
                                    "total_pss": sum(each["pss"] for each in found)}
        for connection in opened:
            connection.close()
    return result


def clients(folder) -> dict:
    """Returns megabytes of a client process that computes one embedding of each kind."""
    result = {}
    for kind in ("onnxruntime", "transformers"):
        run = subprocess.run([sys.executable, ROOT / "benches/peers.py", "--memory", kind], capture_output=True, text=True)
        result[kind] = float(run.stdout) if run.returncode == 0 else run.stderr.strip().splitlines()[-1]
    return result


def main() -> None:
    base, large = (SHAPES[name] for name in ("vit-b-32", "vit-l-14"))
    big = ROOT / "target/bench/12-megapixels.jpg"
    if not big.exists():
        Image.open(io.BytesIO(photos(1)[0])).resize((4000, 3000), Image.BICUBIC).save(big, quality=90)
    vga = ROOT / "target/bench/photos/00000.jpg"
    png = vga.with_suffix(".png")
    if not png.exists():
        Image.open(vga).save(png)
    forms = {"prepared": "vit-b-32", "not prepared": "vit-b-32-private"}
    save("latency", {
        "text": one_text("vit-b-32", base, 200, 8, 16, 77),
        "long_text": one_text("vit-b-32", base, 40, 24, 40, 77),
        "image": one_image("vit-b-32", base, 40, 224),
        "large_text": one_text("vit-l-14", large, 60, 8, 16, 77) if large.exists() else None,
        "large_image": one_image("vit-l-14", large, 8, 224) if large.exists() else None,
        "pixels": pixels(MODELS, "vit-b-32", [("JPEG, 640 × 480", vga), ("PNG, 640 × 480", png), ("JPEG, 4000 × 3000", big)]),
        "repeated_us": repeated_text("vit-b-32"),
        "first_call": first_call(forms),
        "memory": backends(forms),
        "clients": clients(base),
    })


if __name__ == "__main__":
    main()
