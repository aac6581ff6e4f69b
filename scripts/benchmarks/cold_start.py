"""What reading checkpoint files ahead and keeping compiled kernels save of a cold start.

Interleaved pairs on one machine, so that both sides see the same noise. The first measurement stands a file of random
bytes in for a checkpoint: it is dropped from the page cache, then a Python imports torch and reads it, with and without
the read-ahead. The second compiles a small network with torch.compile for the CPU, first with an empty cache, then
with the one just filled. What needs a card (Triton's and CANN's kernels) is not measured.

    python scripts/benchmarks/cold_start.py --python /path/to/model/python --gib 4 --pairs 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from omnirt_cli.models.base import Backend  # noqa: E402 - the script runs from a checkout, installed or not
from omnirt_cli.run.compile_cache import arrange_compile_cache  # noqa: E402
from omnirt_cli.run.read_ahead import ReadAhead, ReadAheadFacts, Stretch, cached_bytes  # noqa: E402

GIB = 1 << 30

LOAD = """
import sys, time
began = time.monotonic()
import torch
imported = time.monotonic()
block = bytearray(16 << 20)
with open(sys.argv[1], "rb", buffering=0) as file:
    while file.readinto(block):
        pass
print(imported - began, time.monotonic() - imported)
"""

COMPILE = """
import time
import torch
model = torch.nn.Sequential(*[layer for _ in range(8) for layer in (torch.nn.Linear(64, 64), torch.nn.GELU())])
began = time.monotonic()
with torch.no_grad():
    torch.compile(model)(torch.ones(4, 64))
print(time.monotonic() - began)
"""


@dataclass(frozen=True)
class Start:
    """One cold start, in seconds."""

    whole: float
    importing: float
    reading: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has torch")
    parser.add_argument("--gib", type=float, default=1.0, help="size of the stand-in for a checkpoint")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the file is put; its disk is what is measured")
    parser.add_argument("--drop-torch", action="store_true", help="torch's own libraries are not cached either")
    parser.add_argument("--only", choices=["read", "compile"])
    args = parser.parse_args()
    if args.only != "compile":
        measure_read_ahead(args)
    if args.only != "read":
        measure_compile_cache(args)
    return 0


def measure_read_ahead(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "weights.bin"
        write_random(path, int(args.gib * GIB))
        libraries = torch_libraries(args.python) if args.drop_torch else []
        plain, ahead, facts = [], [], None
        for _ in range(args.pairs):
            plain.append(cold_start(args.python, path, libraries)[0])
            start, facts = cold_start(args.python, path, libraries, read_ahead=True)
            ahead.append(start)
        assert facts is not None
        print(f"file of {args.gib:g} GiB, {args.pairs} pairs, medians in seconds")
        print(f"{'':<18}{'whole':>8}{'import':>8}{'read':>8}")
        for name, starts in (("plain", plain), ("read ahead", ahead)):
            print(f"{name:<18}" + "".join(f"{value:8.2f}" for value in medians(starts)))
        ratios = sorted(b.whole / a.whole for a, b in zip(plain, ahead, strict=True))
        print(f"whole, read ahead / plain: {statistics.median(ratios):.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        print(f"the last read-ahead: {facts}")


def medians(starts: list[Start]) -> tuple[float, float, float]:
    return (
        statistics.median(start.whole for start in starts),
        statistics.median(start.importing for start in starts),
        statistics.median(start.reading for start in starts),
    )


def cold_start(
    python: str, path: Path, libraries: list[Path], *, read_ahead: bool = False
) -> tuple[Start, ReadAheadFacts | None]:
    for one in (path, *libraries):
        drop(one)
    began = time.monotonic()
    ahead = ReadAhead.start([Stretch(path, path.stat().st_size)]) if read_ahead else None
    ran = subprocess.run([python, "-c", LOAD, str(path)], capture_output=True, text=True, check=True)
    whole = time.monotonic() - began
    importing, reading = map(float, ran.stdout.split())
    return Start(whole, importing, reading), ahead.stop() if ahead else None


def write_random(path: Path, size: int) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: min(len(block), size - start)])
        file.flush()
        os.fsync(file.fileno())


def drop(path: Path) -> None:
    """Out of the page cache, as far as nobody has it mapped."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        left = cached_bytes(file.fileno(), path.stat().st_size)
    if left and path.name == "weights.bin":
        sys.exit(f"{left >> 20} MiB of {path} stay in memory: give a --folder on a disk")


def torch_libraries(python: str) -> list[Path]:
    found = subprocess.run(
        [python, "-c", "import torch; print(torch.__file__)"], capture_output=True, text=True, check=True
    )
    return [path for path in Path(found.stdout.strip()).parent.rglob("*") if path.is_file()]


def measure_compile_cache(args: argparse.Namespace) -> None:
    cold, warm = [], []
    for _ in range(args.pairs):
        with tempfile.TemporaryDirectory() as folder:
            for times in (cold, warm):
                cache = arrange_compile_cache(
                    Backend.CUDA,
                    checkout=ROOT,
                    revision=None,
                    python=Path(args.python),
                    environ={},
                    root=Path(folder) / "compile",
                )
                assert cache.warm == (times is warm), cache
                times.append(compile_once(args.python, {**os.environ, **cache.env}))
    ratios = sorted(after / before for before, after in zip(cold, warm, strict=True))
    print(f"first call of a compiled network, {args.pairs} pairs, medians in seconds")
    print(f"empty cache {statistics.median(cold):.2f}, filled cache {statistics.median(warm):.2f}")
    print(f"filled / empty: {statistics.median(ratios):.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def compile_once(python: str, env: dict[str, str]) -> float:
    ran = subprocess.run([python, "-c", COMPILE], env=env, capture_output=True, text=True, check=True)
    return float(ran.stdout)


if __name__ == "__main__":
    sys.exit(main())
