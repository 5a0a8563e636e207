"""Writes tables and plots of the results into docs/: replaces the text between marks in its pages."""

import json
import re

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from common import OUT, ROOT, median, table

DOCS = ROOT / "docs"
PAGES = [DOCS / "project/performance.md", DOCS / "design/search.md"]
OURS, INT8, THEIRS, THEIRS_INT8 = "#336791", "#7fb3d5", "#909090", "#c8c8c8"


def load(name: str) -> dict | None:
    file = OUT / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def where(parts: dict[str, dict | None]) -> str:
    """Returns one line, or one line for each group of parts with another time or machine."""
    groups = {}
    for name, found in parts.items():
        if found:
            groups.setdefault(described(found["machine"]), []).append(name)
    return "\n".join(f"- {', '.join(names)}: {line}" if len(groups) > 1 else line for line, names in groups.items())


def described(machine: dict) -> str:
    features = [word for word in machine["features"].split() if word in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "asimd")]
    return (f"{machine['date']}, commit {machine['commit']}: {machine['cores']} cores of {machine['cpu']} ({', '.join(features)}), "
            f"{machine['memory']}, Linux {machine['kernel']}, PostgreSQL {machine['postgres']}, pgvector {machine['pgvector']}, "
            f"ONNX Runtime {machine['onnxruntime']}.")


def latency(found: dict) -> dict[str, str]:
    shapes = [("ViT-B/32", found["text"], found["image"]), ("ViT-L/14", found["large_text"], found["large_image"])]
    rows = []
    for shape, text, image in shapes:
        if text is None:
            continue
        rows.append([f"{shape}, text of {text['tokens']} tokens", f"{text['floor']:.1f}", f"{text['pg_clip']:.1f}",
                     f"{text['pg_clip'] / text['floor']:.2f}", f"{text['padded']:.1f} (padded to 77)"])
        rows.append([f"{shape}, JPEG of 640 × 480", f"{image['floor']:.1f}", f"{image['pg_clip']:.1f}",
                     f"{image['pg_clip'] / image['floor']:.2f}", f"{image['pillow_and_onnxruntime']:.1f} (Pillow + onnxruntime)"])
    long = found["long_text"]
    rows.insert(1, [f"ViT-B/32, text of {long['tokens']} tokens", f"{long['floor']:.1f}", f"{long['pg_clip']:.1f}",
                    f"{long['pg_clip'] / long['floor']:.2f}", f"{long['padded']:.1f} (padded to 77)"])
    first, memory = found["first_call"], found["memory"]
    backends = [[label, f"{of['plain']:.0f}", f"{of['text']['private']:.0f}", f"{of['both']['private']:.0f}",
                 f"{of['text']['total_pss']:.0f}", f"{of['both']['total_pss']:.0f}"] for label, of in memory.items()]
    connections = next(iter(memory.values()))["connections"]
    clients = "; ".join(f"{name} {value:.0f} MB" for name, value in found["clients"].items() if isinstance(value, float))
    return {
        "latency": table(["milliseconds, one core", "ONNX Runtime alone", "pg_clip, by SQL", "ratio", "alternative"], rows)
        + f"\n\nA cached text takes {found['repeated_us']:.1f} µs.",
        "pixels": table(["decode, resize, normalize; milliseconds", "pg_clip", "Pillow + numpy", "ratio"],
                        [[of["picture"], f"{of['pg_clip']:.1f}", f"{of['pillow']:.1f}", f"{of['pillow'] / of['pg_clip']:.2f}"]
                         for of in found["pixels"]]),
        "first": table(["first call of a session, milliseconds", "text", "image"],
                       [[label, f"{of['text']:.0f}", f"{of['image']:.0f}"] for label, of in first.items()]),
        "memory": table(["megabytes", "before any call", "private, text encoder", "private, both encoders",
                         f"PSS of {connections}, text", f"PSS of {connections}, both"], backends)
        + f"\n\nA client process that embeds photos itself has this private memory: {clients}.",
    }


def bits(found: dict, name: str) -> int:
    return 8 if name in found["eight_bits"] else 32


def fastest_client(found: dict, weights: int) -> float:
    """Returns photos per second."""
    return max((rate for name, rate in found["photos_per_second"].items()
                if name not in found["in_database"] and bits(found, name) == weights), default=float("nan"))


def bulk(found: dict, quantised: dict | None) -> dict[str, str]:
    rates = found["photos_per_second"]
    fastest = {weights: fastest_client(found, weights) for weights in (8, 32)}
    ordered = sorted(rates, key=rates.get, reverse=True)

    def kind(name):
        return "pg_clip" if name in found["in_database"] else "client"

    figure, axes = plt.subplots(figsize=(8, 4.2))
    colours = {("pg_clip", 32): OURS, ("pg_clip", 8): INT8, ("client", 32): THEIRS, ("client", 8): THEIRS_INT8}
    axes.barh(ordered[::-1], [rates[name] for name in ordered[::-1]],
              color=[colours[kind(name), bits(found, name)] for name in ordered[::-1]])
    axes.set_xlabel(f"photos of 640 × 480 per second, {found['machine']['cores']} cores")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plot(figure, "bulk")
    failed = "".join(f"\n\n{name} could not be run: {reason}" for name, reason in found["failed"].items())
    result = {
        "bulk": table([f"{found['photos']} photos into a table", "where", "photos per second",
                       "relative to the fastest client with the same weights"],
                      [[name, kind(name), f"{rates[name]:.1f}", f"{rates[name] / fastest[bits(found, name)]:.2f}"] for name in ordered])
        + f"\n\nMedians of {found['rounds']} rounds; run once, because they were much slower: {', '.join(found['run_once']) or 'none'}." + failed,
        "growth": table(["photos in one INSERT … SELECT", "milliseconds per photo"],
                        [[of["rows"], f"{of['ms_per_photo']:.1f}"] for of in found["growth"]]),
    }
    if quantised:
        rows = [[of["tower"], of["samples"], f"{of['least_cosine']:.5f}", f"{of['mean_cosine']:.5f}",
                 f"{of['same_nearest']} of {of['samples']}", f"{of['original_ms']:.1f}", f"{of['quantized_ms']:.1f}",
                 f"{of['original_ms'] / of['quantized_ms']:.2f}"] for of in quantised["comparison"]]
        result["quantize"] = table(["encoder", "samples", "minimum cosine", "mean cosine", "same nearest neighbor", "32 bits, ms", "8 bits, ms",
                                    "speed-up"], rows)
    return result


def search(found: dict) -> dict[str, str]:
    rows = [[f"{size['rows']:,}", f"{size['build_s']:.0f}", f"{size['index_mb']:.0f}", of["ef_search"], f"{of['recall']:.3f}",
             f"{of['ms']:.1f}"] for size in found["sizes"] for of in size["searches"]]
    figure, axes = plt.subplots(figsize=(8, 3.6))
    for size in found["sizes"]:
        axes.plot([of["ms"] for of in size["searches"]], [of["recall"] for of in size["searches"]], marker="o",
                  label=f"{size['rows']:,} rows")
    axes.set_xlabel("milliseconds per search (ef_search 40, 100, 200, 400, 450, 800)")
    axes.set_ylabel("recall@10")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plot(figure, "recall")
    return {
        "search": table(["rows", "index build, s", "index, MB", "ef_search", "recall@10", "ms"], rows),
    }


def concurrency(found: dict) -> dict[str, str]:
    rows = [[of["connections"], f"{of['per_second']:.0f}", f"{of['p50']:.0f}", f"{of['p95']:.0f}", f"{of['p99']:.0f}",
             f"{of['p99'] / of['p50']:.1f}", f"{of['first_ms']:.0f}", f"{of['total_pss']:.0f}", of["errors"]]
            for of in found["concurrency"]]
    titles = ["sessions", "searches per second", "p50, ms", "p95", "p99", "p99 / p50", "slowest first call", "PSS of the server, MB",
              "errors"]
    return {"concurrency": table(titles, rows)}


def auto_embed(found: dict) -> dict[str, str]:
    names = {"by hand": "none: `clip_embed_…` in the statement", "row": "`row`", "statement": "`statement`", "queue": "`queue`, one worker"}
    rows = [[("texts" if kind == "text" else "photos"), title, *(f"{found[kind][mode][key]:.1f}" for key in ("statement", "single", "searchable"))]
            for kind in ("text", "bytea") for mode, title in names.items()]
    titles = ["rows", "mode", "writer waits, ms per row of a large statement", "writer waits, ms, one row per transaction", "until searchable, ms per row"]
    spent = found["untouched"]
    untouched = (f"An update of another column costs {spent['with']:.2f} µs per row with the trigger and {spent['without']:.2f} µs without.")
    return {"auto_embed": table(titles, rows), "untouched": untouched}


def targets(latency: dict | None, bulk: dict | None, concurrency: dict | None) -> dict[str, str]:
    rows = []

    def row(what, target, value, met):
        rows.append([what, target, value, "yes" if met else "**no**"])

    if latency:
        text, image = latency["text"], latency["image"]
        ratio = text["pg_clip"] / text["floor"]
        row("one text, model loaded, not cached, 8 to 16 tokens", "≤ 1.10 × the floor", f"{ratio:.2f} ×", ratio <= 1.10)
        ratio = text["padded"] / text["pg_clip"]
        row("the same text, compared with a pipeline that pads to 77", "≥ 5 × faster", f"{ratio:.1f} ×", ratio >= 5)
        least = image["floor"] + 4
        row("one JPEG of 640 × 480, model loaded", "≤ 1.10 × (floor + 4 ms)", f"{image['pg_clip'] / least:.2f} ×", image["pg_clip"] <= 1.1 * least)
        ratio = latency["pixels"][0]["pillow"] / latency["pixels"][0]["pg_clip"]
        row("decode, resize, normalize", "faster than Pillow + numpy", f"{ratio:.2f} × faster", ratio > 1)
        row("repeated text", "≤ 50 µs", f"{latency['repeated_us']:.1f} µs", latency["repeated_us"] <= 50)
        first = latency["first_call"]["prepared"]["text"]
        row("first text of a session", "≤ 200 ms", f"{first:.0f} ms", first <= 200)
        memory = latency["memory"]["prepared"]
        row("private memory, text encoder", "≤ 65 MB", f"{memory['text']['private']:.0f} MB", memory["text"]["private"] <= 65)
        row("private memory, both encoders", "≤ 90 MB", f"{memory['both']['private']:.0f} MB", memory["both"]["private"] <= 90)
    if bulk:
        rates = bulk["photos_per_second"]
        for weights, what in [(32, f"{bulk['photos']} photos into a table, all cores"), (8, "the same photos, both with 8-bit weights")]:
            ours = max(rates[name] for name in bulk["in_database"] if bits(bulk, name) == weights)
            theirs = fastest_client(bulk, weights)
            row(what, "≥ 1.3 × the fastest client", f"{ours / theirs:.2f} ×", ours >= 1.3 * theirs)
    many = next((of for of in concurrency["concurrency"] if of["connections"] == 64), None) if concurrency else None
    if many:
        row("64 sessions that search by text: memory", "total PSS ≤ 3 GB", f"{many['total_pss'] / 1024:.1f} GB", many["total_pss"] <= 3072)
        fine = many["errors"] == 0 and many["succeeded"]
        row("64 sessions: errors", "none", f"{many['errors']}", fine)
        row("64 sessions: latency", "p99 ≤ 4 × p50", f"{many['p99'] / many['p50']:.1f} ×", many["p99"] <= 4 * many["p50"])
    return {"targets": table(["what", "target", "measured", "met"], rows)}


def service(found: dict) -> dict[str, str]:
    modes, rows = found["modes"], []
    session, served, bf16 = (modes[name] for name in ("in the session", "service, fp32", "service, bf16"))

    def middle(of: dict, what: str, key: str | None = None) -> float:
        return median(value[key] if key else value for value in of[what])

    def row(what, target, value, met):
        rows.append([what, target, value, "yes" if met else "**no**"])

    def at_least(what, least, value):
        row(what, f"≥ {least:.1f} ×", f"{value:.2f} ×", value >= least)

    many = f"{found['connections']} sessions, different texts with an index search"
    for label, of, least in (("fp32", served, 1.2), ("bf16", bf16, 2.0)):
        at_least(f"{many}, {label}: searches per second relative to sessions alone", least,
                 middle(of, "searches", "per_second") / middle(session, "searches", "per_second"))
    for label, of in (("fp32", served), ("bf16", bf16)):
        ratio = middle(of, "searches", "p99") / middle(of, "searches", "p50")
        row(f"p99 / p50 of these, {label}", "≤ 2", f"{ratio:.2f}", ratio <= 2)
    ratio = middle(served, "one_text") / middle(session, "one_text")
    row("one session, one text, fp32", "≤ 1.10 × the session alone", f"{ratio:.2f} ×", ratio <= 1.1)
    row("a text that another session asked before", "≤ 100 µs", f"{served['known_us']:.0f} µs", served["known_us"] <= 100)
    more = [of["first"]["first"] - of["first"]["later"] for of in (served, session)]
    row("first text of a session", "a later one + 5 ms", f"+ {more[0]:.1f} ms (sessions alone: + {more[1]:.0f} ms)", more[0] <= 5)
    row("private memory that a text and a photo add to a session", "≤ 4 MB", f"{served['private']:.1f} MB (sessions alone: {session['private']:.0f} MB)",
        served["private"] <= 4)
    total, alone = (middle(of, "searches", "total_pss") / 1024 for of in (served, session))
    row(f"PSS of the server with {found['connections']} sessions, fp32", "≤ 1.2 GB", f"{total:.2f} GB (sessions alone: {alone:.2f} GB)", total <= 1.2)
    fastest = {kind: median(rates) for kind, rates in found["clients"].items()}
    photos = f"{found['photos']} photos into a table, all cores"
    at_least(f"{photos}, bf16, relative to the fastest fp32 client", 1.8, middle(bf16, "bulk") / fastest["fp32"])
    at_least("the same, fp32", 1.0, middle(served, "bulk") / fastest["fp32"])
    at_least("the same, 8-bit against the fastest 8-bit client", 1.0, middle(served, "bulk_int8") / fastest["int8"])
    ratio = served["search_p99"]["busy"] / served["search_p99"]["idle"]
    row("p99 of searches during a bulk load, fp32", "≤ 3 × without the load", f"{ratio:.2f} ×", ratio <= 3)
    raw = [[name, f"{middle(of, 'searches', 'per_second'):.0f}", f"{middle(of, 'searches', 'p50'):.0f}", f"{middle(of, 'searches', 'p99'):.0f}",
            f"{middle(of, 'searches', 'total_pss'):.0f}", f"{middle(of, 'one_text'):.1f}", f"{middle(of, 'bulk'):.1f}",
            f"{middle(of, 'bulk_int8'):.1f}" if of["bulk_int8"] else ""] for name, of in modes.items()]
    raw += [[f"fastest client, {kind}", "", "", "", "", "", f"{rate:.1f}" if kind == "fp32" else "", f"{rate:.1f}" if kind == "int8" else ""]
            for kind, rate in fastest.items()]
    titles = ["", "searches per second", "p50, ms", "p99, ms", "PSS of the server, MB", "one text, ms", "photos per second", "photos per second, 8-bit weights"]
    return {"service": described(found["machine"]) + "\n\n" + table(["what", "target", "measured", "met"], rows) + "\n\n" + table(titles, raw)}


def breakdown(found: dict) -> dict[str, str]:
    rows = [[of["threads"], of["batch"], f"{of['ms']:.1f}", f"{of['gflops']:.0f}"] for of in found["runs"]]
    most = max(found["runs"], key=lambda of: of["threads"])["threads"]
    rows.append([most, "8, by `clip_embed_images`, decoding included", f"{found['warm_ms']:.1f}", ""])
    first, texts = found["first_text"], found["protocol"]
    steps = [["read the tokenizer", f"{first['tokenizer']:.0f}"], ["load ONNX Runtime's library", f"{first['library']:.0f}"],
             ["check and map the weights", f"{first['weights']:.0f}"], ["embed", f"{first['run']:.0f}"]]
    return {
        "protocol": f"A text of 8 to 16 tokens takes {texts['each']:.2f} ms in a statement of its own, and "
        f"{texts['together']:.2f} ms as one of many in a statement. The difference is the protocol, the parser and the planner.",
        "runs": table(["threads", "images per run, ONNX Runtime alone", "ms per image", "GFLOP/s"], rows),
        "first_text": table(["step of a session's first text", "milliseconds"], steps)
        + f"\n\nThe tokenizer takes {first['tokenizer_mb']:.0f} MB of the private memory of a session.",
    }


def zero_shot(found: dict) -> dict[str, str]:
    rows = [[f"{of['rows']:,}", f"{of['labels']:,}", f"{of['numpy']:.0f}", f"{of['vectors']:.0f}", f"{of['words']:.0f}", f"{of['pgvector']:.0f}",
             f"{of['first_ms'] / 1e3:.1f}"] for of in found["classify"]]
    recalls = {(of["by"], of["ef_search"]): of for of in found["recall"]}
    compared = [[ef_search, *(f"{recalls[by, ef_search][key]:{form}}" for by in ("rows", "texts") for key, form in (("recall", ".3f"), ("ms", ".1f")))]
                for ef_search in sorted({of["ef_search"] for of in found["recall"]})]
    return {
        "classify": table(["rows", "labels", "numpy: product and softmax, ms", "`clip_probabilities`, ms", "`clip_classify`, best label only, ms",
                           "pgvector, nearest label without probability, ms", "first call, with embedding of the labels, s"], rows),
        "recall": table(["ef_search", "rows as queries: recall@10", "ms", "texts as queries: recall@10", "ms"], compared),
    }


def relevance(found: dict) -> dict[str, str]:
    rows = [[of["source"], of["queries"], of["measure"], f"{of['cutoff']:.2f}", f"{of['f1']:.3f}",
             f"{of['f1_at_3']:.3f}" if "deviations" in of["measure"] else "", f"{of['present']:.3f}"] for of in found["measures"]]
    return {"relevance": table(["vectors", "queries", "measure", "best cutoff", "F1 at best cutoff", "F1 at 3", "present above absent"], rows)}


def duplicates(found: dict) -> dict[str, str]:
    rows = [[of["of"], of["what"], *(f"{max(0, of[key]):.4f}" for key in ("median", "p90", "most")), f"{of['within']:.0%}"]
            if of["what"] != "the nearest other" else
            [of["of"], f"**{of['what']}**", f"{of['median']:.4f}", "", f"minimum **{of['least']:.4f}**", f"{of['within']:.0%}"]
            for of in found["copies"]]
    return {"duplicates": table(["images", "copy", "distance, median", "90th percentile", "maximum", "within 0.01"], rows)}


def plot(figure, name: str) -> None:
    # No date and no random ids: the same results give the same file.
    figure.savefig(DOCS / f"project/performance-{name}.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    plt.rcParams["svg.hashsalt"] = "pg_clip"
    names = ("latency", "bulk", "concurrency", "search", "breakdown", "auto_embed")
    found = {name: load(name) for name in names}
    answers = {name: load(name) for name in ("zero_shot", "relevance", "duplicates")}
    blocks = {"where": where(found), "answers": where(answers)} | targets(found["latency"], found["bulk"], found["concurrency"])
    blocks |= latency(found["latency"]) if found["latency"] else {}
    blocks |= bulk(found["bulk"], load("quantize")) if found["bulk"] else {}
    blocks |= search(found["search"]) if found["search"] else {}
    blocks |= concurrency(found["concurrency"]) if found["concurrency"] else {}
    blocks |= breakdown(found["breakdown"]) if found["breakdown"] else {}
    of_service = load("service")
    blocks |= service(of_service) if of_service else {}
    blocks |= auto_embed(found["auto_embed"]) if found["auto_embed"] else {}
    blocks |= zero_shot(answers["zero_shot"]) if answers["zero_shot"] else {}
    blocks |= relevance(answers["relevance"]) if answers["relevance"] else {}
    blocks |= duplicates(answers["duplicates"]) if answers["duplicates"] else {}
    texts = {page: page.read_text() for page in PAGES}
    for name, text in blocks.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page = next((page for page in PAGES if pattern.search(texts[page])), None)
        if page is None:
            raise SystemExit(f"no page of docs has a block {name}")
        texts[page] = pattern.sub(lambda match: match[1] + text + "\n" + match[2], texts[page])
    for page, text in texts.items():
        page.write_text(text)
    print("bench: wrote docs/project/performance.md, docs/design/search.md and their plots")


if __name__ == "__main__":
    main()
