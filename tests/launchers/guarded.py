"""Shared by the tests of the guard: scripts that misbehave in a known way, and ways to see what is left of them."""

from __future__ import annotations

import os
import select
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from launchers import proctable, sweep
from launchers.process import GuardedProcess, GuardEvent, ProcessSpec

STOP_BOUND_S = 9.0
"""How long a whole stop may take with the default grace."""

RANK = """
import os, signal, sys, time
directory, behaviour = sys.argv[1:]
if "stubborn" in behaviour:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
rank = os.environ.get("RANK", "0")
if "tidy" in behaviour:
    def tidy_up(number, frame):
        open(f"{directory}/{rank}.tidied", "w").close()
        sys.exit(1)
    signal.signal(signal.SIGTERM, tidy_up)
with open(f"{directory}/{rank}.tmp", "w") as file:
    file.write(str(os.getpid()))
os.rename(f"{directory}/{rank}.tmp", f"{directory}/{rank}.pid")
print("rank", rank, "is here", flush=True)
time.sleep(120)
"""
"""A rank that writes its number, and then works for longer than any test waits."""


@dataclass
class Followed:
    """What a run said until it was over."""

    output: bytearray = field(default_factory=bytearray)
    events: list[GuardEvent] = field(default_factory=list)
    at_end: bool = False


def new_run_id() -> str:
    return str(uuid.uuid4())


def spec_for(*argv: str, run_id: str | None = None, cwd: Path | None = None, **env: str) -> ProcessSpec:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **env}
    return ProcessSpec(argv=argv, cwd=cwd or Path("/"), env=environment, run_id=run_id or new_run_id())


def python(code: str, *args: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *args)


def follow(process: GuardedProcess, timeout_s: float = 30.0) -> Followed:
    """Read output and status as the engine does, until the run is over and its output is read."""
    followed = Followed()
    deadline = time.monotonic() + timeout_s
    while not process.finished:
        assert time.monotonic() < deadline, f"the run did not end: {followed.events}"
        select.select([process.status_fd] + [process.output_fd] * (not followed.at_end), [], [], 0.5)
        followed.events += process.read_status()
        drain(process, followed)
    drain(process, followed)
    return followed


def drain(process: GuardedProcess, followed: Followed) -> None:
    while not followed.at_end:
        try:
            data = os.read(process.output_fd, 1 << 20)
        except BlockingIOError:
            return
        followed.output += data
        followed.at_end = not data


def wait_for_pids(directory: Path, count: int, timeout_s: float = 30.0) -> list[int]:
    """The numbers of `count` ranks, once all of them are there."""
    deadline = time.monotonic() + timeout_s
    while len(found := list(directory.glob("*.pid"))) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} ranks came"
        time.sleep(0.02)
    return [int(path.read_text()) for path in found]


def is_alive(pid: int) -> bool:
    process = proctable.read_process(pid)
    return process is not None and process.alive


def seconds_until_gone(run_id: str, pids: list[int], bound_s: float = STOP_BOUND_S) -> float:
    """How long it takes until no process of a run is alive; at most a little over the bound."""
    began = time.monotonic()
    while (sweep.find_marked(run_id) or any(map(is_alive, pids))) and time.monotonic() < began + bound_s + 0.5:
        time.sleep(0.02)
    return time.monotonic() - began


def open_descriptors() -> list[str]:
    """The numbers of this process's open descriptors."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())
