"""Measures the model directory with the software of its users: onnxruntime, its own tokenizer, Pillow.

Usage: evaluate.py DIRECTORY

Images are drawn at 150 pixels, rotated by 5 degrees, on light blue: another size, angle and background than in most of the
training. A name's hit is its own image or that of a twin: the man, woman or person of the same activity (see render.py).
The share of exact hits is printed too. A query's hit is a fitting image (queries.tsv) among the first five. Exits with 1
below the targets.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

from render import VARIATION_SELECTOR, compose, emoji

SIDE, DEGREES, BACKGROUND = 150, 5.0, (205, 222, 240)
TARGETS = {"name top-1": 0.80, "name top-5": 0.95, "everyday top-5": 0.65}
# As a page or a chat shows them, and as a reader without transparency shows them: colors on black.
OTHER_KINDS = {
    "72 pixels, white": lambda drawn: compose(drawn, 72, (255, 255, 255)),
    "48 pixels, orange, turned by -12 degrees": lambda drawn: compose(drawn, 48, (240, 150, 60), degrees=-12),
    "transparency dropped": lambda drawn: drawn.convert("RGB"),
}


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Model:
    def __init__(self, folder: Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.text, self.image = (
            onnxruntime.InferenceSession(folder / f"onnx/{tower}_model.onnx", options) for tower in ("text", "vision"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.pixels = json.loads((folder / "preprocessor_config.json").read_text())
        self.tokenizer.enable_truncation(json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"])

    def embed_text(self, text: str) -> np.ndarray:
        ids = np.array([self.tokenizer.encode(text).ids])
        return unit(self.text.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0])[0]

    def embed_image(self, image: Image.Image) -> np.ndarray:
        """Resizes the short edge, bicubic, and crops to the center."""
        side = self.pixels["size"]["shortest_edge"]
        scale = side / min(image.size)
        image = image.resize([int(length * scale) for length in image.size], Image.Resampling.BICUBIC)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        levels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32) * self.pixels["rescale_factor"]
        levels = (levels - np.float32(self.pixels["image_mean"])) / np.float32(self.pixels["image_std"])
        return unit(self.image.run(None, {"pixel_values": levels.transpose(2, 0, 1)[None].astype(np.float32)})[0])[0]


def everyday(model: Model, images: np.ndarray, texts: list[str], file: str) -> tuple[float, int]:
    """Returns the share of the queries with a fitting image among the first five, and prints the results of each."""
    lines = Path(__file__).with_name(file).read_text().splitlines()
    queries = [line.split("\t") for line in lines if line and not line.startswith("#")]
    hits = 0
    for query, fitting in queries:
        best = [texts[i] for i in np.argsort(-(images @ model.embed_text(query)))[:5]]
        hit = any(text.replace(VARIATION_SELECTOR, "") in best for text in fitting.split())
        hits += hit
        print("+" if hit else "-", query, "→", " ".join(best))
    return hits / len(queries), len(queries)


def main(folder: Path) -> int:
    known, model = emoji(), Model(folder)
    texts = [e.text.replace(VARIATION_SELECTOR, "") for e in known]
    twins = np.array([e.twin for e in known])
    started = time.perf_counter()
    names = np.stack([model.embed_text(e.name) for e in known])
    text_ms = (time.perf_counter() - started) / len(known) * 1e3

    def ranked(images: np.ndarray) -> tuple[float, float, float]:
        order = np.argsort(-(names @ images.T), 1)[:, :5]
        hits = twins[order] == twins[:, None]
        return hits[:, 0].mean(), hits.any(1).mean(), (order[:, 0] == np.arange(len(known))).mean()

    drawn = [compose(e.picture, SIDE, BACKGROUND, degrees=DEGREES) for e in known]
    started = time.perf_counter()
    images = np.stack([model.embed_image(image) for image in drawn])
    image_ms = (time.perf_counter() - started) / len(known) * 1e3
    first, five, exact = ranked(images)
    share, count = everyday(model, images, texts, "queries.tsv")
    second_share, second_count = everyday(model, images, texts, "queries_second.tsv")
    figures = {"name top-1": first, "name top-5": five, "everyday top-5": share}

    print(f"{len(known)} emoji, {len(set(twins))} without twins")
    for name, value in figures.items():
        print(f"{name}: {value:.3f} (target {TARGETS[name]})")
    print(f"name top-1, twins do not count: {exact:.3f}")
    print(f"everyday top-5 of {count} queries; of the {second_count} of the second list: {second_share:.3f}")
    for kind, draw in OTHER_KINDS.items():
        first, five, _ = ranked(np.stack([model.embed_image(draw(e.picture)) for e in known]))
        print(f"{kind}: name top-1 {first:.3f}, top-5 {five:.3f}")
    print(f"one thread, one at a time: {text_ms:.2f} ms a text, {image_ms:.2f} ms an image with its resize")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    print(f"{size / 1e6:.2f} MB in all")
    return int(any(figures[name] < target for name, target in TARGETS.items()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
