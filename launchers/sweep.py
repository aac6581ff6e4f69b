"""End what a lost guard left behind: every process of this user that carries a run's mark.

It finds only marked processes. One that dropped its environment and whose parents are gone cannot be told
from a stranger's; only a living guard, which is its ancestor, still finds it.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from launchers import proctable

SWEEP_BOUND_S = 3.0
_PAUSE_S = 0.02
_QUIET_LOOKS = 2


@dataclass(frozen=True)
class SweepResult:
    """What a sweep did.

    Attributes:
        killed: Numbers of the processes that were killed.
        survivors: Numbers of those that were still there at the bound (in uninterruptible sleep).
    """

    killed: tuple[int, ...] = ()
    survivors: tuple[int, ...] = ()


def find_marked(run_id: str) -> tuple[int, ...]:
    """Numbers of this user's live processes that carry the run's mark, without the caller and its parent."""
    return tuple(sorted(process.pid for process in _marked(run_id)))


def kill_marked(run_id: str, *, bound_s: float = SWEEP_BOUND_S) -> SweepResult:
    """SIGKILL every marked process, and those that these start meanwhile, until none is left.

    Args:
        run_id: The mark's value.
        bound_s: After so many seconds the rest is reported as survivors.
    """
    if not run_id:
        raise ValueError("an empty run id marks nothing")
    deadline = time.monotonic() + bound_s
    killed: set[int] = set()
    survivors: set[int] = set()
    quiet = 0
    # A process in the midst of an exec has no environment for a moment; so one look is not enough after a kill.
    while quiet < (_QUIET_LOOKS if killed else 1) and time.monotonic() < deadline:
        found = _marked(run_id)
        killed |= {process.pid for process in found if proctable.send(process, signal.SIGKILL)}
        survivors = {process.pid for process in found}
        quiet = 0 if found else quiet + 1
        if killed:
            time.sleep(_PAUSE_S)
    return SweepResult(killed=tuple(sorted(killed - survivors)), survivors=tuple(sorted(survivors)))


def _marked(run_id: str) -> list[proctable.Process]:
    spared = {os.getpid(), os.getppid()}
    others = (process for pid, process in proctable.all_processes().items() if pid not in spared)
    return proctable.marked(run_id, others)
