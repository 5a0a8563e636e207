"""Compares JPEG pixels with Pillow's: random files of every kind that cjpeg, Pillow and imagecodecs write, whole and damaged.

    compare_jpeg.py LEVELS [WHOLE [DAMAGED [SEED]]]

LEVELS is the program of `cargo build --release -p clip --example levels`. Needs cjpeg of libjpeg-turbo on the PATH, and the
Python packages of tests/fixtures/requirements.txt. Prints the number of files with the same pixels, the number of files that
both programs reject, and each file on which the two differ. Keeps these files in target/compare_jpeg. Fails if pg_clip reads
other pixels than Pillow or rejects a file that Pillow reads.
"""

import collections
import hashlib
import io
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parents[2] / "target/compare_jpeg"
SAMPLINGS = ["1x1", "2x1", "2x2", "1x2", "4x1", "1x4", "4x2", "2x4", "3x1", "1x3", "3x2", "2x3", "2x2,1x2", "2x2,2x1", "2x1,1x1,2x1",
             "2x2,1x1,2x1", "2x2,1x1,1x2", "2x2,2x2,1x1", "4x1,2x1", "2x1,2x1", "3x1,1x1,3x1", "1x1,2x1,2x1", "1x1,2x2,2x2"]
SEQUENTIAL = ["0;1;2;", "0,1;2;", "0;1,2;", "0,2;1;", "1;0;2;", "2;1;0;", "1,2;0;"]
# Some of these scans do not transmit all coefficients.
PROGRESSIVE = ["0,1,2: 0 0 0 0;0: 1 63 0 0;1: 1 63 0 0;2: 1 63 0 0;", "0,1,2: 0 0 0 0;0: 1 5 0 2;", "0,1,2: 0 0 0 1;",
               "0: 0 0 0 0;1: 0 0 0 0;2: 0 0 0 0;0: 1 9 0 0;0: 10 63 0 0;1: 1 63 0 0;2: 1 63 0 0;",
               "0,1,2: 0 0 0 0;0: 1 63 0 3;1: 1 63 0 2;2: 1 63 0 2;"]


def picture(draw: random.Random) -> np.ndarray:
    """Draws noise, fields or slopes, of any size up to 70 x 70."""
    width, height, size = draw.randint(1, 70), draw.randint(1, 70), draw.choice([1, 1, 2, 5, 8])
    levels = np.random.default_rng(draw.getrandbits(32))
    if draw.random() < 0.3:
        y, x = np.mgrid[0:height, 0:width]
        slopes = [(x * draw.randint(1, 9) + y * draw.randint(0, 7) + draw.randint(0, 255)) % 256 for _ in range(3)]
        return np.ascontiguousarray(np.stack(slopes, -1).astype(np.uint8))
    fields = levels.integers(0, 256, (-(-height // size), -(-width // size), 3), dtype=np.uint8)
    return np.ascontiguousarray(fields.repeat(size, 0).repeat(size, 1)[:height, :width])


def by_cjpeg(draw: random.Random, levels: np.ndarray) -> bytes | None:
    """Returns nothing if cjpeg does not support the drawn options."""
    options = ["-quality", str(draw.randint(1, 100)), "-sample", draw.choice(SAMPLINGS)]
    for chance, more in [(0.1, ["-grayscale"]), (0.1, ["-rgb"]), (0.3, ["-progressive"]), (0.25, ["-arithmetic"]), (0.3, ["-optimize"]),
                         (0.4, ["-restart", draw.choice(["1", "2", "1B", "2B", "7B"])]), (0.1, ["-smooth", "20"])]:
        options += more if draw.random() < chance else []
    with tempfile.NamedTemporaryFile("w") as script:
        if draw.random() < 0.3:
            script.write(draw.choice(SEQUENTIAL + PROGRESSIVE))
            script.flush()
            options += ["-scans", script.name]
        pixels = b"P6\n%d %d\n255\n" % levels.shape[1::-1] + levels.tobytes()
        made = subprocess.run(["cjpeg", *options], input=pixels, capture_output=True)
    return made.stdout if made.returncode == 0 else None


def by_others(draw: random.Random, levels: np.ndarray) -> bytes:
    kind = draw.randrange(3)
    if kind == 0:
        return imagecodecs.jpeg8_encode(levels, lossless=True, predictor=draw.randint(1, 7))
    if kind == 1:
        inks = np.dstack([levels, levels[..., :1] // 2])
        jpeg = imagecodecs.jpeg8_encode(inks, level=draw.randint(1, 100), colorspace="CMYK", outcolorspace=draw.choice(["CMYK", "YCCK"]),
                                        subsampling=draw.choice(["444", "422", "420", "440"]))
        return jpeg if draw.random() < 0.7 else jpeg.replace(b"Adobe", b"Other", 1)
    file = io.BytesIO()
    Image.fromarray(levels).convert(draw.choice(["RGB", "L", "CMYK"])).save(file, "JPEG", quality=draw.randint(1, 100), progressive=draw.random() < 0.5)
    return file.getvalue()


def damaged(draw: random.Random, jpeg: bytes) -> bytes:
    jpeg, at = bytearray(jpeg), draw.randrange(2, len(jpeg))
    kind = draw.randrange(8)
    if kind == 0:
        return bytes(jpeg[:at])
    if kind == 1:
        return bytes(jpeg[:-draw.randint(1, 40)])
    if kind == 2:
        del jpeg[at:at + draw.randint(1, 30)]
    elif kind == 3:
        jpeg[at:at] = draw.randbytes(draw.randint(1, 20))
    elif kind == 4:
        jpeg[at:at] = bytes([255, draw.choice([0, 0xC0, 0xC4, 0xD0, 0xD3, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xFF, draw.randrange(256)])])
    elif kind == 5:
        jpeg[-2:] = draw.randbytes(draw.randint(0, 200))
    else:
        for _ in range(draw.randint(1, 4)):
            jpeg[draw.randrange(2, len(jpeg))] ^= 1 << draw.randrange(8)
    return bytes(jpeg)


def pillow(path: Path) -> str | None:
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            rgb = image.convert("RGB")
        return f"{rgb.width}x{rgb.height} {hashlib.sha256(rgb.tobytes()).hexdigest()}"
    except (OSError, SyntaxError):
        return None


def main() -> None:
    levels, whole, damage, seed = (sys.argv[1:] + ["3000", "3000", "1"][len(sys.argv) - 2:])[:4]
    warnings.simplefilter("ignore")
    draw = random.Random(int(seed))
    OUT.mkdir(parents=True, exist_ok=True)
    files = []
    while len(files) < int(whole):
        picked = picture(draw)
        if jpeg := by_cjpeg(draw, picked) if draw.random() < 0.8 else by_others(draw, picked):
            files.append(OUT / f"whole_{len(files):06}.jpg")
            files[-1].write_bytes(jpeg)
    for number in range(int(damage)):
        jpeg = damaged(draw, draw.choice(files[:int(whole)]).read_bytes())
        files.append(OUT / f"damaged_{number:06}.jpg")
        files[-1].write_bytes(jpeg)
    ours = subprocess.run([levels], input="".join(f"{file}\n" for file in files), capture_output=True, text=True, check=True)
    counts = collections.Counter()
    for file, answer in zip(files, ours.stdout.splitlines(), strict=True):
        theirs = pillow(file)
        kind, is_refused = file.name.split("_")[0], answer.startswith("refused")
        if theirs is None:
            verdict = "rejected by both" if is_refused else "read, and rejected by Pillow"
        else:
            verdict = "rejected, and read by Pillow" if is_refused else "equal" if answer == theirs else "DIFFERENT"
        counts[kind, verdict] += 1
        if verdict in ("equal", "rejected by both"):
            file.unlink()
        else:
            print(f"{file.relative_to(OUT)}: {verdict}: {answer}")
    for (kind, verdict), count in sorted(counts.items()):
        print(f"compare_jpeg: {kind}: {count} {verdict}")
    sys.exit(any(verdict in ("DIFFERENT", "rejected, and read by Pillow") for _, verdict in counts))


if __name__ == "__main__":
    main()
