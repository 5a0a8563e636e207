"""Compares files with Pillow's reading of them, for reported.sh."""

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import psycopg
from PIL import Image, ImageOps

LEAST = 0.999
# Formats with a decoder in pg_clip, as Pillow names them.
SUPPORTED = {"JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF"}
# Reasons in docs/design/exactness.md to reject files that Pillow reads: parts of the DETAIL.
REASONS = ["floating-point numbers", "CIELab", "JPEG compression of the old kind", "larger than its place"]


@contextlib.contextmanager
def silent_libraries():
    """Hides the standard error, because libtiff reports damage there."""
    before = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def by_pillow(file: Path) -> tuple[str, bytes | None]:
    """Returns Pillow's description of a file, and its image as PNG, or nothing if Pillow cannot read the file."""
    bits_per_sample = 258
    try:
        with silent_libraries():
            image = Image.open(file)
            described = f"{image.format} {image.mode}"
            bits = getattr(image, "tag_v2", {}).get(bits_per_sample, (16,))[0]
            image = ImageOps.exif_transpose(image)
            # The one rule that differs from Pillow's: the highest 8 bits of gray.
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> bits - 8).astype(np.uint8))
            image = image.convert("RGB")
    except Exception as error:  # Pillow has no common error class.
        return f"{type(error).__name__}: {error}".splitlines()[0], None
    png = io.BytesIO()
    # Metadata would rotate the image a second time.
    Image.fromarray(np.asarray(image)).save(png, "PNG")
    return f"{described} {image.width}x{image.height}", png.getvalue()


def embed(connection: psycopg.Connection, data: bytes) -> tuple[np.ndarray | None, str]:
    """Returns the embedding, or the SQLSTATE and DETAIL."""
    try:
        (text,) = connection.execute("SELECT clip_embed_image(%s, 'wide')::text", [data]).fetchone()
    except psycopg.Error as error:
        return None, f"{error.sqlstate} {error.diag.message_detail or error.diag.message_primary}"
    return np.array(text.strip("[]").split(","), float), ""


def main(*folders: str) -> int:
    warnings.simplefilter("ignore")
    counts = {"compared": 0, "only pg_clip": 0, "only Pillow": 0, "neither": 0}
    failed = 0
    with psycopg.connect(autocommit=True) as connection:
        for file in sorted(path for folder in folders for path in Path(folder).iterdir() if path.is_file()):
            pillow, png = by_pillow(file)
            ours, error = embed(connection, file.read_bytes())
            verdict, result = "", error
            if png is None:
                counts["neither" if ours is None else "only pg_clip"] += 1
                result = error or "embedded"
            elif ours is None:
                counts["only Pillow"] += 1
                if pillow.split()[0] in SUPPORTED and not any(reason in error for reason in REASONS):
                    verdict = "FAIL"
            else:
                counts["compared"] += 1
                theirs, _ = embed(connection, png)
                cosine = float(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs))
                result = f"{cosine:.6f}"
                verdict = "FAIL" if cosine < LEAST else ""
            failed += bool(verdict)
            print(f"{verdict:4} {file.name}\t{pillow}\t{result}", flush=True)
    print(", ".join(f"{name}: {count}" for name, count in counts.items()) + f"; {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
