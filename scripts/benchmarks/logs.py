"""How fast a long log is teed and read, beside `grep -c` of the same literals on the same file.

    python scripts/benchmarks/logs.py [--size-mb 1000] [--rounds 5] [--folder DIR]

Each round pipes the log (`cat`) through LogPump, LogScanner and FailureReader, then runs grep, so that both see
the same machine. Printed: the ratio's median and p90, throughput, and how much the memory grew. Two logs: `noisy`
is a long run on eight GPUs (warnings of every rank around each chunk's lines); `dense` repeats a short run on one
device, where every second line tells something.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from launchers.pump import LogPump
from omnirt_cli.models.base import LogRule, MarkKind, Variant
from omnirt_cli.models.registry import adapter
from omnirt_cli.run.failure import ALARMS, FailureReader
from omnirt_cli.run.log_scanner import LogScanner
from omnirt_cli.run.timings import percentile

TARGET_RATIO = 3.0
TARGET_GROWTH_MB = 40.0

_WARNING = (
    "/opt/soulx/lib/python3.11/site-packages/flash_talk/wan/model.py:{line}: FutureWarning: "
    "`torch.cuda.amp.autocast(args...)` is deprecated. Please use `torch.amp.autocast('cuda', args...)` instead.\n"
    "  with amp.autocast(dtype=torch.float32):\n"
)
_BAR = "\rLoading checkpoint shards: {percent:3d}%|{blocks:<10}| {percent}/100 [00:10<00:00,  4.00it/s]"
_CHUNK = (
    "[generate] model denoise per step: 0.4203908443450928s\n"
    * 4
    + "[generate] decode video frames: 0.31667630672454834s\n"
    "[generate] color correction: 0.0077s\n"
    "[generate] encode motion frames: 0.0920011568069458s\n"
    "2026-07-03 22:26:28.375 | INFO     | __main__:generate:160 - "
    "Generate video chunk-{index} done, cost time: 0.89s\n"
)
_TRACEBACK = (
    "[rank1]: Traceback (most recent call last):\n"
    '[rank1]:   File "/opt/soulx/generate_video.py", line 187, in generate\n'
    "[rank1]:     video = run_pipeline(pipeline, audio_embedding)\n"
    "[rank1]: RuntimeError: this one was survived\n"
)


def noisy(index: int) -> str:
    """One chunk of a run on eight devices; the bars of a reload and a survived error now and then."""
    text = "".join(_WARNING.format(line=line) for line in range(100, 110)) * 8
    if index % 50 == 0:
        text += _bars() * 8
    if index % 1000 == 999:
        text += _TRACEBACK
    return text + _CHUNK.format(index=index)


def dense(index: int) -> str:
    """One chunk of a run on one device that warns little."""
    text = _WARNING.format(line=100) * 2
    if index % 50 == 0:
        text += _bars()
    return text + _CHUNK.format(index=index)


def _bars() -> str:
    return "".join(_BAR.format(percent=percent, blocks="█" * (percent // 10)) for percent in range(101)) + "\n"


PROFILES: dict[str, Callable[[int], str]] = {"noisy": noisy, "dense": dense}


@dataclass(frozen=True)
class Reading:
    """One pass of the log through OmniRT's readers."""

    seconds: float
    bytes: int
    chunks: int


@dataclass(frozen=True)
class Result:
    """What the rounds of one profile gave."""

    profile: str
    size_mb: float
    ratios: tuple[float, ...]
    reading_s: float
    grep_s: float
    growth_mb: float

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        return (
            f"{self.profile}: {self.size_mb:.0f} MB, tee and read {self.size_mb / self.reading_s:.0f} MB/s, "
            f"grep -c {self.size_mb / self.grep_s:.0f} MB/s, ratio median {self.median:.2f} "
            f"p90 {percentile(self.ratios, 90):.2f} (target {TARGET_RATIO:.0f}), "
            f"memory +{self.growth_mb:.1f} MB (target under {TARGET_GROWTH_MB:.0f})"
        )


def write_log(path: Path, profile: str, size_bytes: int) -> int:
    """Write a log of at least `size_bytes`; returns its number of chunk lines."""
    written = chunks = 0
    with path.open("wb") as log:
        for text in _texts(PROFILES[profile]):
            written += log.write(text.encode())
            chunks += 1
            if written >= size_bytes:
                return chunks
    raise AssertionError("the text never ends")


def read_log(path: Path, sink: Path, rules: tuple[LogRule, ...]) -> Reading:
    """Pipe the log through the readers into `sink`, as a run does."""
    failures = FailureReader()
    scanner = LogScanner(rules, watch=failures.read)
    chunks = 0
    with (
        sink.open("wb", buffering=0) as log,
        subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as cat,
    ):
        assert cat.stdout is not None
        pump = LogPump(cat.stdout.fileno(), log)
        began = time.perf_counter()
        while (block := _next_block(pump, cat.stdout.fileno())) is not None:
            marks = scanner.feed(block, time.monotonic())
            chunks += sum(mark.kind is MarkKind.CHUNK for mark in marks)
        seconds = time.perf_counter() - began
    return Reading(seconds, pump.bytes_read, chunks)


def grep_count(path: Path, literals: list[bytes]) -> float:
    """Seconds that `grep -c` takes for the same literals."""
    patterns = [argument for literal in literals for argument in ("-e", os.fsdecode(literal))]
    began = time.perf_counter()
    subprocess.run(
        ["grep", "-a", "-c", "-F", *patterns, str(path)],
        check=True,
        stdout=subprocess.PIPE,  # into /dev/null grep would stop at the first match
        env={**os.environ, "LC_ALL": "C"},
    )
    return time.perf_counter() - began


def measure(profile: str, size_mb: float, rounds: int, folder: Path) -> Result:
    """Measure one profile, rounds interleaved."""
    rules = adapter("flashtalk").log_rules(Variant("public-new"))
    literals = list(dict.fromkeys([*(rule.needle for rule in rules), *ALARMS]))
    path, sink = folder / f"{profile}.log", folder / f"{profile}.copy"
    chunks = write_log(path, profile, int(size_mb * 1e6))
    before = _peak_mb()
    pairs = []
    for _ in range(rounds):
        reading = read_log(path, sink, rules)
        if (reading.bytes, reading.chunks) != (path.stat().st_size, chunks):
            raise AssertionError(f"of {chunks} chunk lines {reading.chunks} were read")
        pairs.append((reading.seconds, grep_count(path, literals)))
    return Result(
        profile=profile,
        size_mb=path.stat().st_size / 1e6,
        ratios=tuple(reading / grep for reading, grep in pairs),
        reading_s=statistics.median(reading for reading, _ in pairs),
        grep_s=statistics.median(grep for _, grep in pairs),
        growth_mb=_peak_mb() - before,
    )


def main() -> int:
    """Measure both profiles; status 1 where the noisy one misses the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=float, default=1000.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", choices=PROFILES, action="append")
    parser.add_argument("--folder", type=Path, help="where the logs are written; a temporary one by default")
    arguments = parser.parse_args()
    missed = False
    for profile in arguments.profile or PROFILES:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            result = measure(profile, arguments.size_mb, arguments.rounds, Path(folder))
        print(result, flush=True)
        missed |= result.growth_mb > TARGET_GROWTH_MB
        missed |= profile == "noisy" and result.median > TARGET_RATIO
    return int(missed)


def _texts(profile: Callable[[int], str]) -> Iterator[str]:
    return (profile(index) for index in itertools.count())


def _next_block(pump: LogPump, fd: int) -> bytes | None:
    select.select([fd], [], [])
    return pump.read()


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
