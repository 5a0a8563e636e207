"""The common parts of the benchmark: the server, models, texts, photos, times, memory, and the files of results."""

import datetime
import io
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime
import psycopg
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "target" / "bench"
DATA = ROOT.parent / "shared" / "data"
CORES = len(os.sched_getaffinity(0))

# Mean and deviation of CLIP's images.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


def connect(**settings) -> psycopg.Connection:
    """Opens a connection. `settings` are pg_clip's settings without their prefix."""
    connection = psycopg.connect("dbname=postgres", autocommit=True, prepare_threshold=0)
    for name, value in settings.items():
        connection.execute(f"SET clip.{name} = '{value}'")
    return connection


def save(name: str, result: dict) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps({"machine": machine()} | result, indent=1) + "\n")
    print(f"bench: wrote target/bench/{name}.json", flush=True)


def table(titles: list[str], rows: list[list]) -> str:
    cells = [[str(cell) for cell in row] for row in rows]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in cells])


def machine() -> dict:
    """Describes the machine and the software of the measurement."""
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    with connect() as connection:
        server = connection.execute("SHOW server_version").fetchone()[0]
        vector = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()[0]
        diagnosis = dict(connection.execute("SELECT * FROM clip_diagnose()").fetchall())
    memory = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal"))) // 1024**2
    return {"date": datetime.date.today().isoformat(), "commit": os.environ["PG_CLIP_BENCH_COMMIT"], "cpu": cpu, "cores": CORES,
            "memory": f"{memory} GiB", "kernel": platform.release().split("-")[0], "postgres": server.split()[0],
            "pgvector": vector, "pg_clip": diagnosis["pg_clip"], "features": diagnosis["CPU features"],
            "onnxruntime": onnxruntime.__version__}


def median(values) -> float:
    return statistics.median(values)


def timed(work) -> float:
    """Returns milliseconds."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e3


def interleaved(rounds: int, **contestants) -> dict[str, list[float]]:
    """Returns milliseconds of each contestant in each round. A disturbance affects all contestants."""
    times = {name: [] for name in contestants}
    for number in range(rounds):
        for name, work in contestants.items():
            times[name].append(timed(lambda: work(number)))
    return times


def session(graph: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Returns the floor: ONNX Runtime's own interface with its defaults, except threads and spinning, which are as in pg_clip."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def photos(count: int) -> list[bytes]:
    """Returns JPEG files of 640 x 480 pixels: crops of the reference photos, or drawn images if those are missing."""
    folder = OUT / "photos"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:05}.jpg" for number in range(count)]
    if not all(file.exists() for file in files):
        draw = np.random.default_rng(7)
        sources = [Image.open(file).convert("RGB") for file in sorted((DATA / "images/photos").glob("*.jpg"))]
        for file in files:
            if sources:
                source = sources[draw.integers(len(sources))]
                share = draw.uniform(0.6, 1)
                width, height = (int(side * share) for side in source.size)
                left, top = draw.integers(source.width - width + 1), draw.integers(source.height - height + 1)
                picture = source.crop((left, top, left + width, top + height)).resize((640, 480), Image.BICUBIC)
            else:
                coarse = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
                picture = Image.fromarray(coarse).resize((640, 480), Image.BICUBIC)
            picture.save(file, quality=90)
    return [file.read_bytes() for file in files]


def pillow_tensor(jpeg: bytes, side: int = 224) -> np.ndarray:
    """Does the work of CLIPImageProcessorPil without its overhead, with Pillow and numpy."""
    picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
    width, height = picture.size
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    picture = picture.resize(size, Image.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    pixels = np.asarray(picture.crop((left, top, left + side, top + side)), dtype=np.float32)
    pixels = (pixels * np.float32(1 / 255) - MEAN) / STD
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def memory(pid: int) -> dict[str, float]:
    """Returns megabytes of a process: its proportional share (PSS), and its private memory without files (anonymous)."""
    found = {}
    for line in open(f"/proc/{pid}/smaps_rollup"):
        words = line.split()
        if words[-1] == "kB":
            found[words[0][:-1]] = int(words[1]) / 1024
    private = found["Private_Clean"] + found["Private_Dirty"]
    return {"pss": found["Pss"], "private": private, "anonymous": found["Anonymous"]}


def server_pss() -> float:
    """Returns megabytes of the postmaster and all processes that it has started, with shared memory counted once. The embedding service is
    a child of one of them."""
    with connect() as connection:
        data = connection.execute("SHOW data_directory").fetchone()[0]
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            pass  # The process has exited.
    of_server, more = set(), {int(Path(data, "postmaster.pid").read_text().split()[0])}
    while more:
        of_server |= more
        more = {process for process, parent in parents.items() if parent in more}
    total = 0.0
    for process in of_server:
        try:
            total += memory(process)["pss"]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total
