"""How fast a long log is teed and read, beside `grep -c` of the same literals on the same file.

    python scripts/benchmarks/logs.py [--size-mb 1000] [--rounds 5] [--profile day] [--folder DIR]

Each round pipes the log (`cat`) through LogPump, LogScanner and FailureReader, then runs grep, so that both see
the same machine; the log has just been written, so both read it from the page cache. Wall time is compared, and
processor time, which a busy machine disturbs less: ours is this process's, without the `cat` that stands for the
child. The logs are made of the recorded runs in `tests/data/logs`:

day: a day of generation that filled 1 GB. Each chunk's own lines, and the warnings and bars that fit in between.
flood: three hours of generation in which a library filled 1 GB with one warning.
recorded: the recorded runs over and over. They last ten seconds each and half of what they say tells something;
    a run would need eleven days to say 1 GB in this way. For information: no target.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launchers.pump import LogPump
from omnirt_cli.models.base import LogRule, MarkKind, Variant
from omnirt_cli.models.registry import adapter
from omnirt_cli.run.failure_reader import ALARMS, FailureReader
from omnirt_cli.run.log_scanner import LogScanner
from omnirt_cli.run.timings import percentile

TARGET_RATIO = 3.0
TARGET_GROWTH_MB = 40.0
UNTARGETED = ("recorded",)

CHUNK_S = 0.9
DAY_S = 24 * 3600
FLOOD_S = 3 * 3600

RECORDINGS = Path(__file__).resolve().parents[2] / "tests" / "data" / "logs"
COMPLETE_RUNS = (
    "flashtalk_old.ok.2p",
    "flashtalk_new.once.1p",
    "flashtalk_ascend.env.2p",
    "flashhead.ok_pro.2p",
    "flashhead.ok_lite.1p",
)
RULES = adapter("flashtalk").log_rules(Variant("public-new"))

_CHUNK = re.compile(rb"(?:\[generate\] .*\n){7}.* Generate video chunk-.*\n")
_NOISE = re.compile(rb"\rLoading.*\n|.*Warning: .*\n(?:[ \t].*\n)+")


@dataclass(frozen=True)
class Cost:
    """Seconds that one pass took, by the clock and of the processor."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Reading:
    """One pass of the log through OmniRT's readers."""

    cost: Cost
    bytes: int
    chunks: int


@dataclass(frozen=True)
class Result:
    """What the rounds of one profile gave."""

    profile: str
    size_mb: float
    telling: float
    ours: tuple[Cost, ...]
    greps: tuple[Cost, ...]
    growth_mb: float

    @property
    def missed(self) -> bool:
        """Whether a target was missed."""
        ratios = _ratios([cost.wall_s for cost in self.ours], [cost.wall_s for cost in self.greps])
        slow = self.profile not in UNTARGETED and statistics.median(ratios) > TARGET_RATIO
        return slow or self.growth_mb > TARGET_GROWTH_MB

    def __str__(self) -> str:
        target = "no target" if self.profile in UNTARGETED else f"target {TARGET_RATIO:.0f}"
        return (
            f"{self.profile} ({target}): {self.size_mb:.0f} MB, {self.telling:.1%} of it telling, "
            f"memory +{self.growth_mb:.1f} MB\n"
            f"  wall: {_compared([cost.wall_s for cost in self.ours], [cost.wall_s for cost in self.greps])}\n"
            f"  cpu:  {_compared([cost.cpu_s for cost in self.ours], [cost.cpu_s for cost in self.greps])}"
        )


def day() -> bytes:
    """Chunks with as many warnings and bars between them as make a day's log 1 GB."""
    return _between_chunks(itertools.cycle(_NOISE.findall(_recorded())), round(1e9 * CHUNK_S / DAY_S))


def flood() -> bytes:
    """Chunks with one warning again and again between them."""
    warning = next(noise for noise in _NOISE.findall(_recorded()) if b"Warning" in noise)
    return _between_chunks(itertools.repeat(warning), round(1e9 * CHUNK_S / FLOOD_S))


def recorded() -> bytes:
    """The recorded runs as they are."""
    return _recorded()


PROFILES: dict[str, Callable[[], bytes]] = {"day": day, "flood": flood, "recorded": recorded}


def write_log(path: Path, text: bytes, size_bytes: int) -> int:
    """Write the text as often as `size_bytes` need; returns the log's number of chunk lines."""
    times = -(-size_bytes // len(text))
    with path.open("wb") as log:
        for _ in range(times):
            log.write(text)
    return times * text.count(b" Generate video chunk-")


def read_log(path: Path, sink: Path, rules: Sequence[LogRule]) -> Reading:
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
        began, cpu_began = time.perf_counter(), time.process_time()
        while (block := _next_block(pump, cat.stdout.fileno())) is not None:
            marks = scanner.feed(block, time.monotonic())
            chunks += sum(mark.kind is MarkKind.CHUNK for mark in marks)
        cost = Cost(time.perf_counter() - began, time.process_time() - cpu_began)
    return Reading(cost, pump.bytes_read, chunks)


def grep_count(path: Path, literals: Sequence[bytes]) -> Cost:
    """What `grep -c` takes for the same literals."""
    patterns = [argument for literal in literals for argument in ("-e", os.fsdecode(literal))]
    began, cpu_began = time.perf_counter(), _children_cpu_s()
    subprocess.run(
        ["grep", "-a", "-c", "-F", *patterns, str(path)],
        check=True,
        stdout=subprocess.PIPE,  # into /dev/null grep would stop at the first match
        env={**os.environ, "LC_ALL": "C"},
    )
    return Cost(time.perf_counter() - began, _children_cpu_s() - cpu_began)


def measure(profile: str, size_mb: float, rounds: int, folder: Path) -> Result:
    """Measure one profile, rounds interleaved."""
    literals = list(dict.fromkeys([*(rule.needle for rule in RULES), *ALARMS]))
    path, sink = folder / f"{profile}.log", folder / f"{profile}.copy"
    text = PROFILES[profile]()
    chunks = write_log(path, text, int(size_mb * 1e6))
    before = _peak_mb()
    ours, greps = [], []
    for _ in range(rounds):
        reading = read_log(path, sink, RULES)
        if (reading.bytes, reading.chunks) != (path.stat().st_size, chunks):
            raise AssertionError(f"of {chunks} chunk lines {reading.chunks} were read")
        ours.append(reading.cost)
        greps.append(grep_count(path, literals))
    return Result(
        profile=profile,
        size_mb=path.stat().st_size / 1e6,
        telling=telling_share(text),
        ours=tuple(ours),
        greps=tuple(greps),
        growth_mb=_peak_mb() - before,
    )


def main() -> int:
    """Measure the profiles; status 1 where one with a target misses it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=float, default=1000.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", choices=PROFILES, action="append")
    parser.add_argument("--folder", type=Path, help="where the logs are written; a temporary one by default")
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}", flush=True)
    missed = False
    for profile in arguments.profile or PROFILES:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            result = measure(profile, arguments.size_mb, arguments.rounds, Path(folder))
        print(result, flush=True)
        missed |= result.missed
    return int(missed)


def _recorded() -> bytes:
    """What the recorded runs wrote. Their files begin with two lines about the run, each line with its time."""
    rows = (row for name in COMPLETE_RUNS for row in (RECORDINGS / f"{name}.log").read_bytes().split(b"\n")[2:-1])
    return b"".join(row.partition(b"|")[2].removeprefix(b" ") + b"\n" for row in rows)


def _between_chunks(noise: itertools.cycle[bytes] | itertools.repeat[bytes], chunk_bytes: int) -> bytes:
    """About a megabyte of chunks, each with noise before it up to `chunk_bytes` in all."""
    text = bytearray()
    for number, chunk in enumerate(itertools.cycle(_CHUNK.findall(_recorded())), start=1):
        while len(text) + len(chunk) < number * chunk_bytes:
            text += next(noise)
        text += chunk
        if len(text) > 1e6:
            break
    return bytes(text)


def telling_share(text: bytes) -> float:
    """How much of a log is in lines that a rule knows."""
    lines = re.findall(rb"[^\r\n]*[\r\n]", text)
    telling = (line for line in lines if any(rule.pattern.search(line.rstrip()) for rule in RULES))
    return sum(map(len, telling)) / len(text)


def _ratios(ours: Sequence[float], greps: Sequence[float]) -> list[float]:
    return [our / grep for our, grep in zip(ours, greps, strict=True)]


def _compared(ours: Sequence[float], greps: Sequence[float]) -> str:
    ratios = _ratios(ours, greps)
    return (
        f"ratio median {statistics.median(ratios):.2f}, p90 {percentile(ratios, 90):.2f}; "
        f"tee and read {statistics.median(ours):.2f} s, grep -c {statistics.median(greps):.2f} s"
    )


def _next_block(pump: LogPump, fd: int) -> bytes | None:
    select.select([fd], [], [])
    return pump.read()


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
