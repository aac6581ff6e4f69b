"""How long a loaded server takes to answer: health, a job's document and the first event, asked from a second process.

The server renders with the miniature in all its slots for as long as the measurement takes, `--waiting` further clients
hold event streams open, and another process asks in turn, `--rate` times a second. The same questions to the idle
server are measured before and beside it a bare uvicorn app that answers `{"ok":true}`, under the same load.

    python scripts/benchmarks/serve.py --seconds 30 --concurrency 2
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "omnirt_cli" / "miniature" / "assets"

BARE = """
import sys, uvicorn

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"ok":true}'})

uvicorn.run(app, port=int(sys.argv[1]), http="h11", lifespan="off", log_level="critical", access_log=False)
"""


@dataclass(frozen=True)
class Latency:
    """Of one question, in milliseconds."""

    name: str
    asked: int
    failed: int
    p50: float
    p95: float
    p99: float
    most: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of load")
    parser.add_argument("--concurrency", type=int, default=os.cpu_count() or 2, help="renders at a time")
    parser.add_argument("--waiting", type=int, default=20, help="event streams held open")
    parser.add_argument("--rate", type=float, default=50, help="questions a second")
    parser.add_argument("--size", default="256*256", help="WIDTH*HEIGHT of the renders")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, bare_server() as bare, server(Path(folder), args.concurrency) as port:
        wait_until_ready(port)
        idle = [ask(port, "/healthz", "healthz, idle", 3, args.rate)]
        with load(port, args) as job_id:
            loaded = [
                ask(bare, "/", "bare uvicorn, loaded", args.seconds / 4, args.rate),
                ask(port, "/healthz", "healthz, loaded", args.seconds / 2, args.rate),
                ask(port, f"/v1/jobs/{job_id}", "job, loaded", args.seconds / 4, args.rate),
            ]
        show([*idle, *loaded], args)
    return 0


# --- servers --------------------------------------------------------------------------------------


@contextlib.contextmanager
def server(folder: Path, concurrency: int) -> Iterator[int]:
    for name in ("portrait.png", "speech.wav"):
        (folder / name).write_bytes((ASSETS / name).read_bytes())
    places = {name: str(folder / name.lower()) for name in ("OMNIRT_LOCK_DIR", "OMNIRT_DATA_DIR", "OMNIRT_RUNTIME_DIR")}
    flags = [
        "--backend",
        "cpu",
        "--no-resident",
        "--max-concurrency",
        str(concurrency),
        "--max-queue",
        "500",
        "--drain",
        "0",
    ]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "omnirt",
            "serve",
            "--port",
            "0",
            "--json",
            "--state-dir",
            str(folder / "state"),
            *flags,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MINIATURE_TORCH": "0", **places},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    text = b""
    while not text.endswith(b"}\n"):
        text += process.stdout.readline()
    try:
        yield int(json.loads(text)["url"].rpartition(":")[2])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


@contextlib.contextmanager
def bare_server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


def request(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")


def wait_until_ready(port: int) -> None:
    while request(port, "GET", "/readyz")[0] != 200:
        time.sleep(0.2)


# --- load -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def load(port: int, args: argparse.Namespace) -> Iterator[str]:
    """All slots render and many wait; gives a job that waits."""
    body = {
        "model": "soulx-flashtalk-14b",
        "inputs": {"image": "portrait.png", "audio": "speech.wav"},
        "config": {"size": args.size},
    }
    ids = [request(port, "POST", "/v1/jobs", body)[1]["id"] for _ in range(args.concurrency * 30)]
    over = threading.Event()
    readers = [threading.Thread(target=read_events, args=(port, ids[n % len(ids)], over)) for n in range(args.waiting)]
    for reader in readers:
        reader.start()
    while request(port, "GET", "/readyz")[1]["running"] < args.concurrency:
        time.sleep(0.1)
    try:
        yield ids[-1]
        assert request(port, "GET", "/readyz")[1]["running"] == args.concurrency, "the load ended before the questions"
    finally:
        over.set()
        for job_id in reversed(ids):
            request(port, "DELETE", f"/v1/jobs/{job_id}")
        for reader in readers:
            reader.join()


def read_events(port: int, job_id: str, over: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    with contextlib.closing(connection):
        connection.request("GET", f"/v1/jobs/{job_id}/events")
        answer = connection.getresponse()
        while not over.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                if not answer.readline():
                    return


# --- questions ------------------------------------------------------------------------------------


def ask(port: int, path: str, name: str, seconds: float, rate: float) -> Latency:
    """Ask from a process of its own, so that nothing of this one is measured."""
    results: Any = multiprocessing.get_context("spawn").Queue()
    asking = multiprocessing.get_context("spawn").Process(target=_ask, args=(port, path, seconds, rate, results))
    asking.start()
    times, failed = results.get()
    asking.join()
    cuts = statistics.quantiles(times, n=100)
    return Latency(name, len(times), failed, *(round(value, 2) for value in (cuts[49], cuts[94], cuts[98], max(times))))


def _ask(port: int, path: str, seconds: float, rate: float, results: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    times, failed, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        failed += answer.status != 200
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(max(0.0, 1 / rate - (time.perf_counter() - began)))
    connection.close()
    results.put((times, failed))


def show(found: list[Latency], args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps({"settings": vars(args), "cpus": os.cpu_count(), "latencies": [asdict(one) for one in found]}))
        return
    print(f"{args.concurrency} renders at a time, {args.waiting} event streams, {os.cpu_count()} CPUs; milliseconds")
    print(f"{'':<22} {'asked':>6} {'failed':>6} {'p50':>8} {'p95':>8} {'p99':>8} {'most':>8}")
    for one in found:
        figures = " ".join(f"{value:>8.2f}" for value in (one.p50, one.p95, one.p99, one.most))
        print(f"{one.name:<22} {one.asked:>6} {one.failed:>6} {figures}")


if __name__ == "__main__":
    sys.exit(main())
