"""Client pipelines: each reads photos, computes embeddings with the same weights, and inserts them with psycopg."""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from common import CORES, ROOT, memory, pillow_tensor, session
from full_size import MODELS, SHAPES

BASE = SHAPES["vit-b-32"]
# The same weights as the graphs, in the files that torch reads.
TORCH = ROOT / "target" / "full-size" / "vit-b-32-torch"
# The layout that fastembed needs: one graph, next to its preprocessor's configuration.
FASTEMBED = ROOT / "target" / "full-size" / "vit-b-32-fastembed"


def normalised(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pictures(batch: list[bytes]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in batch]


def transformers(threads: int = CORES):
    """Runs the processor with Pillow, and the model in torch."""
    import torch
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    torch.set_num_threads(threads)
    processor = CLIPImageProcessorPil.from_pretrained(TORCH)
    model = CLIPVisionModelWithProjection.from_pretrained(TORCH).eval()

    def embed(batch):
        with torch.inference_mode():
            inputs = processor(images=pictures(batch), return_tensors="pt")
            return normalised(model(**inputs).image_embeds.numpy())
    return embed


def transformers_onnxruntime(threads: int = CORES):
    """Runs the processor with Pillow, and the graph in ONNX Runtime."""
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil.from_pretrained(TORCH)
    graph = session(BASE / "onnx/vision_model.onnx", threads)

    def embed(batch):
        inputs = processor(images=pictures(batch), return_tensors="np")
        return normalised(graph.run(["image_embeds"], {"pixel_values": inputs["pixel_values"]})[0])
    return embed


def pillow_onnxruntime(threads: int = CORES, folder: Path = BASE):
    """Runs Pillow and numpy directly, and the graph in ONNX Runtime: the fastest way in Python."""
    graph = session(folder / "onnx/vision_model.onnx", threads)

    def embed(batch):
        pixels = np.stack([pillow_tensor(jpeg) for jpeg in batch])
        return normalised(graph.run(["image_embeds"], {"pixel_values": pixels})[0])
    return embed


def pillow_onnxruntime_int8(threads: int = CORES):
    """Like pillow_onnxruntime, with the graph of `pgclip quantize`."""
    return pillow_onnxruntime(threads, MODELS / "vit-b-32-int8")


def sentence_transformers(threads: int = CORES):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    try:
        from sentence_transformers.models import CLIPModel
        model = SentenceTransformer(modules=[CLIPModel(str(TORCH))], device="cpu")
    except ImportError:
        model = SentenceTransformer(str(TORCH), device="cpu")
    return lambda batch: model.encode(pictures(batch), batch_size=len(batch), normalize_embeddings=True, show_progress_bar=False)


def fastembed(threads: int = CORES):
    from fastembed import ImageEmbedding

    model = ImageEmbedding("Qdrant/clip-ViT-B-32-vision", specific_model_path=str(FASTEMBED), threads=threads)
    return lambda batch: np.stack(list(model.embed(pictures(batch), batch_size=len(batch))))


PEERS = {"transformers (Pillow, torch)": transformers, "transformers (Pillow) + onnxruntime": transformers_onnxruntime,
         "Pillow + numpy + onnxruntime": pillow_onnxruntime, "sentence-transformers": sentence_transformers,
         "fastembed": fastembed}


def make_folders() -> None:
    """Writes the files of the pipelines, from the same random weights."""
    if not (TORCH / "model.safetensors").exists():
        sys.path.insert(0, str(ROOT / "tests/fixtures"))
        from make_full_size import random_model
        model, tokenizer = random_model("vit-b-32", BASE)
        model.save_pretrained(TORCH)
        tokenizer.save_pretrained(TORCH)
        for file in ("preprocessor_config.json", "config.json"):
            (TORCH / file).write_bytes((BASE / file).read_bytes())
    if not FASTEMBED.exists():
        FASTEMBED.mkdir(parents=True)
        import onnx
        # fastembed uses the first output of a graph as the embedding.
        graph = onnx.load(BASE / "onnx/vision_model.onnx")
        outputs = sorted(graph.graph.output, key=lambda output: output.name != "image_embeds")
        del graph.graph.output[:]
        graph.graph.output.extend(outputs)
        onnx.save(graph, FASTEMBED / "model.onnx")
        (FASTEMBED / "preprocessor_config.json").write_bytes((BASE / "preprocessor_config.json").read_bytes())


if __name__ == "__main__" and sys.argv[1:2] == ["--memory"]:
    import os
    picture = io.BytesIO()
    Image.new("RGB", (640, 480)).save(picture, "JPEG")
    {"transformers": transformers, "onnxruntime": pillow_onnxruntime}[sys.argv[2]](1)([picture.getvalue()])
    print(memory(os.getpid())["private"])
