"""Compares measures of relevance: on real vectors of LiT, and on the embedded model's emoji."""

import json
import re

import numpy as np

from common import DATA, ROOT, connect, save
from search import normalised


def lit(size: str) -> np.ndarray:
    """Returns the cosines of 55 descriptions with 55 images: each describes the image of its own row."""
    folder = DATA / "embeddings/lit_demo"
    described = {one["id"]: one["prompts"] for one in json.loads((folder / "images/info.json").read_text())}
    pictures = (folder / "models" / size / "zimgs.txt").read_text().split()
    texts = (folder / "models" / size / "ztxts.txt").read_text().rstrip("\n").split("\n")
    vectors = {name: normalised(np.frombuffer((folder / "models" / size / f"{name}.bin").read_bytes(), dtype="<f4")
                                .reshape(len(lines), -1).astype(float))
               for name, lines in (("zimgs", pictures), ("ztxts", texts))}
    # The first description is correct. The following ones were written to mislead.
    first = [texts.index(re.split(r",\s*", described[picture])[0].strip()) for picture in pictures]
    return vectors["ztxts"][first] @ vectors["zimgs"].T


def emoji() -> np.ndarray:
    """Returns the cosines of the names of the demo's 320 emoji with their images."""
    with connect(default_model="emoji") as connection:
        connection.execute("CREATE TEMP TABLE emoji (name text, picture bytea)")
        with connection.cursor().copy("COPY emoji FROM STDIN") as copy:
            copy.write((ROOT / "examples/emoji.tsv").read_bytes())
        rows = connection.execute("SELECT clip_embed_text(name)::text, clip_embed_image(picture)::text FROM emoji").fetchall()
    texts, pictures = (np.array([json.loads(row[side]) for row in rows]) for side in (0, 1))
    return texts @ pictures.T


def measures(cosines: np.ndarray) -> dict[str, np.ndarray]:
    """Returns a row for each query. A larger value is more relevant."""
    mean, deviation = cosines.mean(1, keepdims=True), cosines.std(1, keepdims=True)
    return {"cosine": cosines, "cosine minus its mean": cosines - mean, "standard deviations from the mean": (cosines - mean) / deviation}


def area(positive: np.ndarray, negative: np.ndarray) -> float:
    """Returns the share of pairs in the right order."""
    return float((positive[:, None] > negative[None, :]).mean())


def judge(values: np.ndarray) -> dict[str, float]:
    """Rates one cutoff for all queries, and how well the best row separates queries with an image from queries without."""
    own = np.eye(len(values), dtype=bool)
    right, wrong = values[own], values[~own]

    def f1(cutoff: float) -> float:
        kept = (right >= cutoff).sum()
        return float(2 * kept / (kept + (wrong >= cutoff).sum() + len(right)))

    cutoff = max(right, key=f1)
    without = np.where(own, -np.inf, values).max(1)
    return {"cutoff": float(cutoff), "f1": f1(cutoff), "f1_at_3": f1(3), "present": area(right, without)}


def main() -> None:
    sources = {"emoji": emoji()} | ({f"LiT {size}": lit(size) for size in ("small", "tiny")} if DATA.exists() else {})
    found = [{"source": source, "queries": len(cosines), "measure": name} | judge(values)
             for source, cosines in sources.items() for name, values in measures(cosines).items()]
    for row in found:
        print(f"bench: {row['source']}, {row['measure']}: best cutoff {row['cutoff']:.3f}, F1 {row['f1']:.3f}, "
              f"at 3 {row['f1_at_3']:.3f}; present or absent {row['present']:.3f}")
    save("relevance", {"measures": found})


if __name__ == "__main__":
    main()
