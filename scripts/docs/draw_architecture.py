#!/usr/bin/env python3
"""Draws docs/images/architecture.svg.

The image shows the parts of pg_clip, the border to Postgres, and the paths of an image, a query and a queued row.
"""

from html import escape
from pathlib import Path

OUT = Path(__file__).resolve().parents[2] / "docs/images/architecture.svg"
WIDTH, HEIGHT = 1000, 860
POSTGRES, CORE, OTHER, DATA = "#dce9f5", "#e3f1dc", "#f6ead3", "#eeeeee"
INK, LINE, ACCENT = "#1c2833", "#5d6d7e", "#336791"
BORDER = "The border: arguments are borrowed, results are owned Rust data, each failure is a Result."


def text(x: float, y: float, words: str, size: int = 14, weight: str = "normal", anchor: str = "middle", color: str = INK) -> str:
    return (f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
            f'fill="{color}">{escape(words)}</text>')


def area(x: int, y: int, width: int, height: int, fill: str, title: str) -> str:
    return (f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{LINE}"/>'
            + text(x + 12, y + 22, title, weight="bold", anchor="start"))


def box(x: int, y: int, width: int, title: str, *lines: str, height: int = 58) -> str:
    first = y + height / 2 - 8 * len(lines) + 5
    drawn = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="#ffffff" stroke="{LINE}"/>',
             text(x + width / 2, first, title, 13, "bold")]
    drawn += [text(x + width / 2, first + 16 * (n + 1), line, 11) for n, line in enumerate(lines)]
    return "".join(drawn)


def arrow(x1: int, y1: int, x2: int, y2: int) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{ACCENT}" stroke-width="1.6" marker-end="url(#head)"/>'


def parts() -> list[str]:
    drawn = [
        area(20, 20, 640, 222, POSTGRES, "Extension pg_clip, in a server process: src/ and sql/parts/"),
        box(36, 56, 112, "functions", "embed, classify,", "inspect"),
        box(160, 56, 112, "search", "target, statement,", "caller's rights"),
        box(284, 56, 112, "auto_embed", "triggers, fills,", "checks"),
        box(408, 56, 112, "worker, queue", "launcher, locks,", "batches"),
        box(532, 56, 112, "SQL", "functions, views,", "DDL, privileges"),
        box(36, 138, 236, "model_cache, model_choice", "open models, cached texts and labels"),
        box(284, 138, 360, "pg", "the door to Postgres: values, strings, roles, SPI,",
            "settings, errors with SQLSTATE, interrupts"),
        text(340, 226, "Here every Postgres call can raise an error.", 12),
        f'<line x1="20" y1="262" x2="980" y2="262" stroke="{ACCENT}" stroke-width="2" stroke-dasharray="8 5"/>',
        text(340, 282, BORDER, 12, color=ACCENT, weight="bold"),
        area(20, 298, 640, 176, CORE, "Core: crates/clip. Knows nothing of Postgres, no unsafe code"),
        box(36, 334, 112, "pixels", "decode, orient,", "resize, normalize"),
        box(160, 334, 112, "tokenizer", "text to", "token ids"),
        box(284, 334, 112, "model", "text encoder,", "image encoder"),
        box(408, 334, 112, "zero_shot", "labels,", "probabilities"),
        box(532, 334, 112, "runtime", "ONNX Runtime,", "cancelable runs"),
        box(36, 404, 236, "store, onnx", "manifest, prepared files, trusted files"),
        box(284, 404, 360, "admin, import", "install, examine, prepare, quantize: only pgclip calls these"),
        area(690, 298, 290, 176, OTHER, "Command: crates/pgclip"),
        box(706, 334, 258, "commands", "pull, add, catalog, list, show,", "verify, rm, prepare, quantize"),
        box(706, 404, 258, "hub", "the only part that uses a network"),
        area(690, 20, 290, 222, DATA, "Files and data"),
        box(706, 56, 258, "tables", "source and embedding columns,", "HNSW indexes (pgvector)"),
        box(706, 120, 258, "model directory", "pg_clip.json, ONNX files,", "prepared weights, mapped by all sessions"),
        box(706, 184, 258, "libonnxruntime.so", "loaded at the first embedding", height=46),
        arrow(704, 434, 648, 434),
    ]
    return drawn


PATHS = [
    ("An image", [("INSERT", "row with bytes"), ("auto_embed", "row trigger"), ("model_cache", "model of the column"),
                  ("pixels", "to a tensor"), ("runtime", "image encoder"), ("embedding", "stored in the row")]),
    ("A query", [("clip_search", "text, filter, k"), ("SQL", "target and statement"), ("tokenizer", "or the cached text"),
                 ("runtime", "text encoder"), ("HNSW index", "caller's rights"), ("keys", "with distances")]),
    ("A queued row", [("INSERT", "embedding is NULL"), ("COMMIT", "starts a worker"), ("worker", "as the table's owner"),
                      ("pending index", "locks a batch"), ("core", "embeds the batch"), ("UPDATE", "then COMMIT")]),
]


def paths() -> list[str]:
    drawn = []
    for n, (name, steps) in enumerate(PATHS):
        top = 500 + n * 116
        drawn.append(text(20, top + 18, f"{n + 1}. {name}", 14, "bold", "start"))
        for i, (title, line) in enumerate(steps):
            x = 20 + i * 163
            drawn.append(box(x, top + 30, 145, title, line, height=52))
            if i:
                drawn.append(arrow(x - 18, top + 56, x - 3, top + 56))
    return drawn


def main() -> None:
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'font-family="Helvetica, Arial, sans-serif" '
            'aria-label="The parts of pg_clip and the paths of an image, a query and a queued row">'
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0 L8 4 L0 8 z" fill="{ACCENT}"/></marker></defs>'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>')
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join([head, *parts(), *paths(), "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
