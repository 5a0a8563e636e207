#!/usr/bin/env python3
"""Draws docs/images/search.svg: query texts, each with the sample images that a search returns first.

    PG_CONFIG=… python3 scripts/docs/search_picture.py

It searches on a temporary server of its own. pg_clip must be installed in the server of PG_CONFIG. The file contains all its
images.
"""

import base64
import html
import json
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "scripts/cluster.sh"
QUERIES = ["musical instrument", "dessert", "boat on the water", "rainy weather"]
COUNT = 5
SEARCH = """
SELECT json_agg(json_build_array(name, encode(image, 'base64')) ORDER BY distance)
  FROM clip_search('emoji', '{query}', {count}) JOIN emoji ON name = key_text;
"""
LOAD = r"""
SELECT setting || '/pg_clip/examples/emoji.sql' AS script FROM pg_config WHERE name = 'SHAREDIR' \gset
\i :script
"""

LEFT, SIDE, GAP, MARGIN, TEXT = 250, 72, 16, 20, 20
WIDTH = LEFT + COUNT * (SIDE + GAP) + MARGIN
HEIGHT = MARGIN + len(QUERIES) * (SIDE + GAP) - GAP + MARGIN


def search():
    """Returns the results of each query: names, and images in base64."""
    with tempfile.TemporaryDirectory(prefix="pg_clip-picture-") as directory:
        cluster = f"{directory}/cluster"
        subprocess.run(["chmod", "755", directory], check=True)
        subprocess.run([CLUSTER, "start", cluster], check=True)
        try:
            script = LOAD + "".join(SEARCH.format(query=query, count=COUNT) for query in QUERIES)
            psql = [CLUSTER, "psql", cluster, "-X", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]
            answer = subprocess.run(psql, input=script, capture_output=True, check=True, text=True)
        finally:
            subprocess.run([CLUSTER, "stop", cluster], check=True)
    # The first results belong to the script that loads the images, so they are not printed.
    lines = [line for line in answer.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == len(QUERIES), answer.stdout
    return [json.loads(line) for line in lines]


def row(number, query, found):
    """Draws one query text with its images."""
    top = MARGIN + number * (SIDE + GAP)
    yield f'<text x="{LEFT - MARGIN}" y="{top + SIDE / 2 + TEXT / 3:.0f}" text-anchor="end">“{html.escape(query)}”</text>'
    for place, (name, image) in enumerate(found):
        data = base64.b64encode(base64.b64decode(image)).decode()
        yield (
            f'<image x="{LEFT + place * (SIDE + GAP)}" y="{top}" width="{SIDE}" height="{SIDE}" '
            f'href="data:image/png;base64,{data}"><title>{html.escape(name)}</title></image>'
        )


def draw(results):
    rows = [line for number, pair in enumerate(zip(QUERIES, results)) for line in row(number, *pair)]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f"<style>text {{ font: {TEXT}px sans-serif; fill: #1f2328 }}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff" stroke="#d0d7de"/>',
        *rows,
        "</svg>\n",
    ])


if __name__ == "__main__":
    results = search()
    target = ROOT / "docs/images/search.svg"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(draw(results))
    for query, found in zip(QUERIES, results):
        print(f"{query}: {', '.join(name for name, _ in found)}")
