"""A process that speaks the protocol of the embedding service, with vectors that mean nothing. Texts choose what it does.

Usage: fake.py --socket PATH --model-path DIRECTORY [--protocol NUMBER] [--again]
With --again, a process that ended is started again.
"""

import argparse
import ctypes
import json
import os
import random
import signal
import socket
import struct
import threading
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--socket", required=True)
parser.add_argument("--model-path", action="append", required=True)
parser.add_argument("--protocol", type=int, default=1)
parser.add_argument("--again", action="store_true")
arguments, _ = parser.parse_known_args()
busy = {"left": 3}


def exact(connection, count):
    """Return that many bytes of a connection."""
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def frame(message, body=b""):
    """Return the bytes of a frame."""
    header = json.dumps(message).encode()
    return struct.pack("<II", len(header), len(body)) + header + body


def vector(text, dimensions):
    """Return a vector of length one that depends on the text."""
    chance = random.Random(text)
    numbers = [chance.gauss(0, 1) for _ in range(dimensions)]
    length = sum(number * number for number in numbers) ** 0.5
    return [number / length for number in numbers]


def embed(request, body):
    """Return the answer to a request."""
    number, model = request["number"], request["model"]
    inputs = []
    for size in request["sizes"]:
        inputs.append(body[:size])
        body = body[size:]
    for text in inputs:
        if text == b"end":
            os.kill(os.getpid(), signal.SIGKILL)
        if text == b"sleep":
            time.sleep(3600)
        if text == b"decline":
            return frame({"declined": {"number": number, "reason": "The test wants it"}})
        if text == b"strange":
            return frame({"declined": {"number": number, "reason": "a\u0000b\n\u20ac \U0001f642" + "c" * 500_000}})
        if text == b"index":
            error = {"Item": {"index": len(inputs), "source": "EmptyImage"}}
            return frame({"failed": {"number": number, "error": error}})
        if text.startswith(b"busy") and busy["left"] > 0:
            busy["left"] -= 1
            return frame({"busy": {"number": number, "reason": "The test wants it"}})
        if text == b"nonsense":
            return b"\x00\x00\x00\x80nonsense"
    folders = [Path(path) / model for path in arguments.model_path]
    manifest = next(folder / "pg_clip.json" for folder in folders if folder.exists())
    dimensions = json.loads(manifest.read_text())["dimensions"]
    numbers = [number for text in inputs for number in vector(text, dimensions)]
    message = {"embedded": {"number": number, "dimensions": dimensions, "count": len(inputs)}}
    return frame(message, struct.pack(f"<{len(numbers)}f", *numbers))


def serve(connection):
    """Answer the messages of a connection."""
    try:
        while True:
            header, body = struct.unpack("<II", exact(connection, 8))
            message, body = json.loads(exact(connection, header)), exact(connection, body)
            if message == "ping":
                connection.sendall(frame("pong"))
            elif message == "statistics":
                found = dict.fromkeys(["threads", "connections", "queued", "requests", "items", "batches", "cache_hits"], 0)
                found |= {"process": os.getpid(), "since": time.time(), "version": "fake", "provider": "", "isolation": ""}
                found |= {"models": [], "p50_ms": None, "p99_ms": None}
                connection.sendall(frame({"statistics": found}))
            elif "hello" in message:
                connection.sendall(frame({"hello": {"protocol": arguments.protocol, "version": "9.9.9"}}))
            elif "embed" in message:
                connection.sendall(embed(message["embed"], body))
    except (EOFError, OSError):
        connection.close()


if arguments.again:
    ended_with = ctypes.CDLL(None).prctl
    while (child := os.fork()) != 0:
        os.waitpid(child, 0)
    # PR_SET_PDEATHSIG
    ended_with(1, signal.SIGKILL)
Path(arguments.socket).unlink(missing_ok=True)
Path(arguments.socket).parent.mkdir(mode=0o700, exist_ok=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind(arguments.socket)
listener.listen(128)
while True:
    accepted, _ = listener.accept()
    threading.Thread(target=serve, args=(accepted,), daemon=True).start()
