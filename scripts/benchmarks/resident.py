"""What a whole hot render costs above its chunks: the command line, from its start to the verified video in its place.

On the miniature, whose chunks take a core time set here, by sleeping or (`--busy`) by computing. Each round renders the
same request with a worker that has the model loaded, and with the cold driver, so that both see the same noise; the
sum of the core times is what the reports say the chunks took. `hot.py` measures the worker program alone.

    python scripts/benchmarks/resident.py --chunks 32 --core-s 0.9 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "omnirt_cli" / "miniature" / "assets"

CHUNK_S = 28 / 25
"""Of media a chunk, with the miniature's 33 frames of which 5 repeat, at 25 a second."""


@dataclass(frozen=True)
class Rendered:
    """One render, in milliseconds.

    Attributes:
        wall: The process, from its start to its end.
        core: The sum of its chunks' core times.
        timings: The report's.
    """

    wall: float
    core: float
    timings: dict[str, float]

    @property
    def ratio(self) -> float:
        """How much longer it took than its chunks."""
        return self.wall / self.core


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=32)
    parser.add_argument("--core-s", type=float, default=0.9, help="seconds added to each chunk's drawing")
    parser.add_argument("--busy", action="store_true", help="these burn processor time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="416*704", help="WIDTH*HEIGHT")
    parser.add_argument("--verify", default="full", choices=["full", "fast", "off"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), args)
        try:
            place.render("resident")  # loads the model
            rounds = [(place.render("resident"), place.render("driver")) for _ in range(args.rounds)]
        finally:
            place.omnirt("worker", "stop", "--all")
    show("hot, resident worker", [hot for hot, _ in rounds], args)
    show("cold, driver", [cold for _, cold in rounds], args)
    return 0


class Place:
    """A folder with a recording of the right length, and a daemon of its own."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.folder = folder
        self.args = args
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMNIRT_RUNTIME_DIR": str(folder / "run"),
            "OMNIRT_DATA_DIR": str(folder / "data"),
            "MINIATURE_CHUNK_S": str(args.core_s),
            "MINIATURE_BUSY": "1" if args.busy else "0",
        }
        speech = ["ffmpeg", "-v", "error", "-stream_loop", "-1", "-i", str(ASSETS / "speech.wav")]
        length = args.chunks * CHUNK_S - 0.1
        subprocess.run([*speech, "-t", f"{length:.3f}", str(folder / "speech.wav")], check=True)

    def render(self, executor: str) -> Rendered:
        began = time.monotonic()
        self.omnirt(
            "generate", "--model", "flashtalk", "--backend", "cpu", "--size", self.args.size, "--executor", executor,
            "--image", str(ASSETS / "portrait.png"), "--audio", str(self.folder / "speech.wav"), "--verify",
            self.args.verify, "--progress", "never", "--output", str(self.folder / "v.mp4"),
        )  # fmt: skip
        wall = (time.monotonic() - began) * 1000
        report = json.loads((self.folder / "v.report.json").read_text())
        chunks = report["chunks"]
        assert len(chunks) == self.args.chunks, f"{len(chunks)} chunks"
        return Rendered(wall, sum(chunk["core_ms"] for chunk in chunks), report["timings"])

    def omnirt(self, *args: str) -> None:
        command = [sys.executable, "-m", "omnirt", *args]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)


def show(title: str, renders: Sequence[Rendered], args: argparse.Namespace) -> None:
    ratios = sorted(render.ratio for render in renders)
    median = statistics.median
    how = "busy" if args.busy else "asleep"
    print(f"{title}: {args.chunks} chunks of {args.core_s:g} s ({how}), {args.size}, verification {args.verify}")
    print(f"  whole command / sum of core times: {median(ratios):.3f}  ({ratios[0]:.3f} to {ratios[-1]:.3f})")
    print(f"  whole command {median(r.wall for r in renders):.0f} ms, cores {median(r.core for r in renders):.0f} ms")
    keys = ("prepare_conditions_ms", "model_load_ms", "generation_ms", "save_ms", "export_ms", "total_ms")
    for key in keys:
        found = [render.timings[key] for render in renders if key in render.timings]
        if found:
            print(f"  {key:<24}{median(found):9.0f}")


if __name__ == "__main__":
    sys.exit(main())
