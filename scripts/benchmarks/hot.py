"""What a resident worker adds to the time its model computes: directly against `worker.py`, without a daemon.

The miniature stands for a model with a core time of its own, once as a sleep (an accelerator computes) and once as a
load on the processor (the computing thread keeps the interpreter). Goals: a hot request takes 1.03 times its cores,
30 chunks or more; framing and transport take 2 ms a chunk; the first streamed chunk is there 20 ms after its core; 200
requests leave no descriptor, no thread and no memory behind.

    python scripts/benchmarks/hot.py
    python scripts/benchmarks/hot.py --synthetic     frames of FlashTalk's size from torch, on CUDA if there is one
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from launchers.model_env.omnirt_worker import wire  # noqa: E402 - found by the line before

WORKER = ROOT / "launchers" / "model_env" / "worker.py"
CHECKOUT = ROOT / "omnirt_cli" / "miniature" / "checkouts" / "flashtalk_new"
PORTRAIT = ROOT / "omnirt_cli" / "miniature" / "assets" / "portrait.png"
RATE, FPS, NEW_FRAMES = 16000, 25, 28

END_TO_END_TARGET = 1.03
TRANSPORT_TARGET_MS = 2.0
FIRST_CHUNK_TARGET_MS = 20.0
MEMORY_TARGET_KIB = 4096

SYNTHETIC = """
import time
import torch
infer_params = {"sample_rate": 16000, "tgt_fps": 25, "frame_num": 29, "motion_frames_num": 1,
                "cached_audio_duration": 8, "height": 416, "width": 704}
DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"

class Pipeline:
    device = DEVICE
    def __init__(self):
        torch.set_grad_enabled(False)
        self.weights = torch.randn(SIDE, SIDE, device=DEVICE)
        self.rounds = ROUNDS

def get_pipeline(world_size, ckpt_dir, wav2vec_dir):
    return Pipeline()

def get_base_data(pipeline, cond_image, base_seed, input_prompt):
    pipeline.generator = torch.Generator(DEVICE).manual_seed(base_seed)

def get_audio_embedding(pipeline, sound, start=-1, end=-1):
    return torch.zeros(1, end - start, 5, 12, 768, device=DEVICE)

def run_pipeline(pipeline, embedding):
    state = pipeline.weights
    for _ in range(pipeline.rounds):
        state = (pipeline.weights @ state).clamp(-1, 1)
    noise = torch.rand(29, 416, 704, 3, device=DEVICE, generator=pipeline.generator)
    return (noise + state[0, 0] * 0).clip(0, 1) * 255
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=34)
    parser.add_argument("--chunk-s", type=float, default=0.3, help="core time of a chunk of the miniature")
    parser.add_argument("--size", type=int, default=128, help="of the miniature's square frames")
    parser.add_argument("--requests", type=int, default=200, help="for growth")
    parser.add_argument("--synthetic", action="store_true", help="only the torch model of FlashTalk's frame sizes")
    parser.add_argument("--rounds", type=int, default=0, help="matrix products in a synthetic core; 0 for a default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if args.synthetic:
            return 0 if measure_synthetic(place, args.chunks, args.rounds) else 1
        good = [
            measure_end_to_end(place, args, busy=False),
            measure_end_to_end(place, args, busy=True),
            measure_wire(args.size),
            measure_growth(place, args.requests),
        ]
    return 0 if all(good) else 1


# --- what is measured -----------------------------------------------------------------------------


def measure_end_to_end(place: Path, args: argparse.Namespace, *, busy: bool) -> bool:
    """A whole hot request with its picture, and the first chunk's way to a client."""
    env = {"MINIATURE_CHUNK_S": str(args.chunk_s), "MINIATURE_BUSY": str(int(busy)), "MINIATURE_TORCH": "0"}
    with worker(miniature(place, args.size), env) as hot:
        hot.render(chunks=3)
        whole = [hot.render(chunks=args.chunks, picture=True) for _ in range(2)]
        single = [hot.render(chunks=2, frames="raw") for _ in range(5)]
    kind = "on the processor" if busy else "asleep"
    print(f"core time of {args.chunk_s} s {kind}, {args.chunks} chunks of {args.size}x{args.size}:")
    ratio = min(taken.ratio for taken in whole)
    cores_s, took_s = whole[-1].cores_ms / 1000, whole[-1].took_ms / 1000
    good = told("hot end-to-end / cores", ratio, END_TO_END_TARGET, f"{took_s:.2f} s for {cores_s:.2f} s of core")
    first = statistics.median(taken.first_after_core_ms for taken in single)
    return told("first chunk after its core, ms", first, FIRST_CHUNK_TARGET_MS) and good


def measure_wire(side: int) -> bool:
    """Framing and transport alone: a chunk's bytes from one end of a Unix socket to the other."""
    pixels = memoryview(bytes(NEW_FRAMES * side * side * 3))
    header = {"type": "chunk", "id": "r", "index": 0, "frames": NEW_FRAMES, "width": side, "height": side}
    here, there = socket.socketpair()
    rounds = 100
    sender = threading.Thread(target=lambda: [wire.send(there, header, pixels) for _ in range(rounds)])
    came = [time.monotonic()]
    sender.start()
    for _ in range(rounds):
        wire.receive(here)
        came.append(time.monotonic())
    per_chunk = statistics.median(after - before for before, after in itertools.pairwise(came)) * 1000
    sender.join()
    here.close()
    there.close()
    return told("framing and transport, ms a chunk", per_chunk, TRANSPORT_TARGET_MS, f"{len(pixels) / 1e6:.1f} MB each")


def measure_growth(place: Path, requests: int) -> bool:
    """What many requests leave behind; the first ones fill what is kept for good."""
    with worker(miniature(place, 64), {"MINIATURE_TORCH": "0"}) as hot:
        for number in range(20):
            hot.render(chunks=2, seed=number % 6, picture=bool(number % 2))
        before = hot.size()
        for number in range(requests):
            hot.render(chunks=2, seed=number % 6, picture=bool(number % 2))
        after = hot.size()
    print(f"{requests} requests (descriptors, threads, KiB): {before} -> {after}")
    good = after[:2] == before[:2]
    return told("memory grown, KiB", after[2] - before[2], MEMORY_TARGET_KIB) and good


def measure_synthetic(place: Path, chunks: int, rounds: int) -> bool:
    """How much of the copies is hidden behind the cores."""
    import torch

    cuda = torch.cuda.is_available()
    side, usual = (8192, 30) if cuda else (1024, 40)
    with worker(synthetic(place, side, rounds or usual), {}) as hot:
        hot.render(chunks=4)
        taken = hot.render(chunks=chunks)
        device = hot.ready["device"]
    copies_ms = sum(chunk["copy_ms"] for chunk in taken.chunks)
    exposed_ms = max(0.0, taken.generation_ms - taken.cores_ms)
    hidden = max(0.0, 1 - exposed_ms / copies_ms)
    name = torch.cuda.get_device_name(0) if cuda else "CPU"
    print(f"synthetic model of 704x416x29 float32 frames on {device} ({name}), {chunks} chunks:")
    print(f"  core {taken.cores_ms / chunks:.1f} ms, copy {copies_ms / chunks:.1f} ms a chunk")
    print(f"  generation {taken.generation_ms:.0f} ms for {taken.cores_ms:.0f} ms of core")
    print(f"  hidden of the copies: {hidden:.0%}")
    return taken.generation_ms <= END_TO_END_TARGET * taken.cores_ms or not cuda


def told(what: str, value: float, target: float, more: str = "") -> bool:
    verdict = "ok" if value <= target else "MISSED"
    print(f"  {what}: {value:.3f} (target {target:g}) {verdict}{'; ' + more if more else ''}")
    return value <= target


# --- a worker and its client ----------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """One request: its chunks, and when its messages came, in milliseconds since it was sent."""

    chunks: Sequence[dict[str, Any]]
    prepared_ms: float
    first_ms: float
    last_ms: float
    took_ms: float

    @property
    def cores_ms(self) -> float:
        return float(sum(chunk["core_ms"] for chunk in self.chunks))

    @property
    def ratio(self) -> float:
        return self.took_ms / self.cores_ms

    @property
    def generation_ms(self) -> float:
        return self.last_ms - self.prepared_ms

    @property
    def first_after_core_ms(self) -> float:
        first = self.chunks[0]
        return self.first_ms - self.prepared_ms - float(first["embedding_ms"]) - float(first["core_ms"])


class Hot:
    """A worker that has loaded."""

    def __init__(self, cwd: Path, process: subprocess.Popen[bytes]) -> None:
        self._cwd = cwd
        self._process = process
        self._numbers = itertools.count()
        self._sock = wire.connect(cwd, "worker.sock", timeout_s=120)
        hello = wire.receive(self._sock)
        assert hello is not None
        self.ready = hello.header

    def render(self, *, chunks: int, seed: int = 3, frames: str = "none", picture: bool = False) -> Taken:
        header = {
            "type": "render",
            "id": str(next(self._numbers)),
            "render": {
                "base": {"image": str(PORTRAIT), "seed": seed, "prompt": "A person is talking."},
                "audio": str(sound(self._cwd, chunks)),
                "mode": "stream",
                "pads": True,
                "chunks": chunks,
                "reuse": True,
            },
            "picture": self._picture() if picture else None,
            "frames": frames,
        }
        began = time.monotonic()
        wire.send(self._sock, header)
        return self._taken(began)

    def _taken(self, began: float) -> Taken:
        at: dict[str, list[float]] = {}
        chunks = []
        while True:
            message = wire.receive(self._sock)
            if message is None or message.type == "failed":
                sys.exit(f"the worker failed: {message}\n{(self._cwd / 'worker.log').read_text()}")
            at.setdefault(message.type, []).append((time.monotonic() - began) * 1000)
            if message.type == "chunk":
                chunks.append(dict(message.header))
            if message.type == "done":
                return Taken(chunks, at["prepared"][0], at["chunk"][0], at["chunk"][-1], at["done"][0])

    def _picture(self) -> dict[str, Any]:
        side = self.ready["params"]["width"], self.ready["params"]["height"]
        ffmpeg = shutil.which("ffmpeg")
        return {"ffmpeg": ffmpeg, "path": "frames.mp4", "width": side[0], "height": side[1], "fps": FPS}

    def size(self) -> tuple[int, int, int]:
        """Descriptors, threads and resident KiB."""
        own = Path(f"/proc/{self._process.pid}")
        status = dict(line.split(":", 1) for line in (own / "status").read_text().splitlines())
        return len(list((own / "fd").iterdir())), int(status["Threads"]), int(status["VmRSS"].split()[0])

    def close(self) -> None:
        wire.send(self._sock, {"type": "shutdown"})
        self._process.wait(60)
        self._sock.close()


@contextlib.contextmanager
def worker(cwd: Path, env: dict[str, str]) -> Iterator[Hot]:
    with (cwd / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(WORKER), "--serve=serve.json"],
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        hot = Hot(cwd, process)
        yield hot
        hot.close()
    finally:
        process.kill()
        process.wait()


def miniature(place: Path, side: int) -> Path:
    """A working directory for the miniature at this size."""
    cwd = Path(tempfile.mkdtemp(dir=place))
    config = Path("flash_talk") / "configs" / "infer_params.yaml"
    (cwd / config).parent.mkdir(parents=True)
    lines = (CHECKOUT / config).read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("height:", "width:"))]
    (cwd / config).write_text("\n".join([*kept, f"height: {side}", f"width: {side}"]) + "\n")
    return serve(cwd, CHECKOUT)


def synthetic(place: Path, side: int, rounds: int) -> Path:
    """A working directory for a torch model whose core is so many products of such matrices."""
    cwd = Path(tempfile.mkdtemp(dir=place))
    package = cwd / "synthetic" / "flash_talk"
    package.mkdir(parents=True)
    (package / "inference.py").write_text(SYNTHETIC.replace("SIDE", str(side)).replace("ROUNDS", str(rounds)))
    return serve(cwd, package.parent)


def serve(cwd: Path, checkout: Path) -> Path:
    model = {
        "checkout": str(checkout),
        "package": "flash_talk",
        "load": {"ckpt_dir": "weights", "wav2vec_dir": "wav2vec"},
        "params": {},
        "constants": {},
    }
    document = {"model": model, "socket": "worker.sock", "ranks_socket": "ranks.sock"}
    (cwd / "serve.json").write_text(json.dumps(document))
    return cwd


def sound(cwd: Path, chunks: int) -> Path:
    """A saw of so many chunks' length; made once."""
    target = cwd / f"{chunks}.wav"
    if not target.exists():
        count = chunks * NEW_FRAMES * RATE // FPS
        with wave.open(str(target), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(b"".join((number % 89 * 200).to_bytes(2, "little") for number in range(count)))
    return target


if __name__ == "__main__":
    sys.exit(main())
