"""Measure the model folder as its users meet it: onnxruntime, its own tokenizer, Pillow. Usage: evaluate.py FOLDER.

Pictures are drawn at 150 pixels, turned by 5 degrees, on light blue: another size, angle and background than most of
the training's. A name's hit is its own picture or that of a twin, that is, the man, woman or person of the same doing.
Exits with 1 below the targets.
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
        side = self.pixels["size"]["shortest_edge"]
        levels = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
        levels = (levels - np.float32(self.pixels["image_mean"])) / np.float32(self.pixels["image_std"])
        return unit(self.image.run(None, {"pixel_values": levels.transpose(2, 0, 1)[None].astype(np.float32)})[0])[0]


def main(folder: Path) -> int:
    known, model = emoji(), Model(folder)
    drawn = [compose(e.picture, SIDE, BACKGROUND, degrees=DEGREES) for e in known]
    started = time.perf_counter()
    images = np.stack([model.embed_image(image) for image in drawn])
    image_ms = (time.perf_counter() - started) / len(known) * 1e3
    started = time.perf_counter()
    names = np.stack([model.embed_text(e.name) for e in known])
    text_ms = (time.perf_counter() - started) / len(known) * 1e3
    twins = np.array([e.twin for e in known])
    order = np.argsort(-(names @ images.T), 1)
    hits = twins[order] == twins[:, None]
    figures = {"name top-1": hits[:, 0].mean(), "name top-5": hits[:, :5].any(1).mean()}
    exact = (order[:, 0] == np.arange(len(known))).mean()

    index = {e.text.replace(VARIATION_SELECTOR, ""): e for e in known}
    lines = Path(__file__).with_name("queries.tsv").read_text().splitlines()
    queries = [line.split("\t") for line in lines if line and not line.startswith("#")]
    found = []
    for query, fitting in queries:
        fitting = {text.replace(VARIATION_SELECTOR, "") for text in fitting.split()} & set(index)
        best = [known[i].text.replace(VARIATION_SELECTOR, "") for i in np.argsort(-(images @ model.embed_text(query)))[:5]]
        found.append(bool(fitting & set(best)))
        print("+" if found[-1] else "-", query, "→", " ".join(best))
    figures["everyday top-5"] = np.mean(found)
    for name, value in figures.items():
        print(f"{name}: {value:.3f} (target {TARGETS[name]})")
    print(f"name top-1 without twins: {exact:.3f}; {len(known)} emoji, {len(queries)} everyday queries")
    print(f"one thread, one at a time: {text_ms:.2f} ms a text, {image_ms:.2f} ms a picture with its resize")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and "train" not in f.parts)
    print(f"{size / 1e6:.2f} MB in all")
    return int(any(figures[name] < target for name, target in TARGETS.items()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
