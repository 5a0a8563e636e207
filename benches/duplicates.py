"""Measures the distances of copies from their original, and of different images from each other: the limit of near-duplicates."""

import io
import json

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from common import DATA, ROOT, connect, save
from search import normalised


def jpeg(picture: Image.Image, quality: int = 95) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    return picture.resize([max(1, round(side * factor)) for side in picture.size], Image.LANCZOS)


def cropped(picture: Image.Image, share: float) -> Image.Image:
    """Removes this share of each edge."""
    width, height = picture.size
    return picture.crop((round(width * share), round(height * share), round(width * (1 - share)), round(height * (1 - share))))


COPIES = {
    "JPEG of quality 90": lambda picture: jpeg(picture, 90),
    "JPEG of quality 50": lambda picture: jpeg(picture, 50),
    "half the size": lambda picture: jpeg(scaled(picture, 0.5)),
    "twice the size": lambda picture: jpeg(scaled(picture, 2)),
    "2 % cropped from each edge": lambda picture: jpeg(cropped(picture, 0.02)),
    "5 % cropped from each edge": lambda picture: jpeg(cropped(picture, 0.05)),
    "10 % cropped from each edge": lambda picture: jpeg(cropped(picture, 0.1)),
    "20 % brighter": lambda picture: jpeg(ImageEnhance.Brightness(picture).enhance(1.2)),
    "half the saturation": lambda picture: jpeg(ImageEnhance.Color(picture).enhance(0.5)),
    "gray": lambda picture: jpeg(ImageOps.grayscale(picture)),
    "mirrored": lambda picture: jpeg(ImageOps.mirror(picture)),
}


def photographs() -> list[Image.Image]:
    files = sorted((DATA / "embeddings/lit_demo/images").glob("*.jpg"))
    return [ImageOps.exif_transpose(Image.open(file)).convert("RGB") for file in files]


def drawings() -> list[Image.Image]:
    """Returns the demo's emoji on white, as in the training of the embedded model."""
    found = []
    for line in (ROOT / "examples/emoji.tsv").read_text().splitlines():
        picture = Image.open(io.BytesIO(bytes.fromhex(line.split("\t")[1].lstrip("\\x")))).convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        found.append(Image.alpha_composite(white, picture).convert("RGB"))
    return found


def embedded(files: list[bytes]) -> np.ndarray:
    with connect(default_model="emoji") as connection:
        rows = connection.execute("SELECT embedding::text FROM clip_embed_images(%s) ORDER BY ordinality", (files,)).fetchall()
    return np.array([json.loads(row[0]) for row in rows])


def nearest(vectors: np.ndarray) -> np.ndarray:
    """Returns the distance of each image to its nearest other image."""
    distances = 1 - vectors @ vectors.T
    np.fill_diagonal(distances, np.inf)
    return distances.min(1)


def described(of: str, what: str, distances: np.ndarray) -> dict:
    parts = {name: float(np.quantile(distances, part)) for name, part in (("least", 0), ("median", 0.5), ("p90", 0.9), ("most", 1))}
    return {"of": of, "what": what} | parts | {"within": float((distances <= 0.01).mean())}


def published(file, rows: int) -> np.ndarray:
    return normalised(file.astype(float).reshape(rows, -1))


def main() -> None:
    found = []
    for kind, pictures in (("photographs", photographs()), ("emoji", drawings())):
        if not pictures:
            continue
        originals = embedded([jpeg(picture) for picture in pictures])
        for name, copy in COPIES.items():
            distances = 1 - (originals * embedded([copy(picture) for picture in pictures])).sum(1)
            found.append(described(f"{len(pictures)} {kind}", name, distances))
        found.append(described(f"{len(pictures)} {kind}", "the nearest other", nearest(originals)))
    if DATA.exists():
        folder = DATA / "embeddings"
        for name, vectors in (
                ("CLIP ViT-B/32, 7 photographs", published(np.load(folder / "clip_retrieval_vitb32/image_embeddings_f16.npy"), 7)),
                ("LiT, 55 images", published(np.frombuffer((folder / "lit_demo/models/small/zimgs.bin").read_bytes(), dtype="<f4"), 55))):
            found.append(described(name, "the nearest other", nearest(vectors)))
    for row in found:
        print(f"bench: {row['of']}, {row['what']}: {row['least']:.4f} {row['median']:.4f} {row['p90']:.4f} {row['most']:.4f}, "
              f"{row['within']:.0%} within 0.01")
    save("duplicates", {"copies": found})


if __name__ == "__main__":
    main()
