"""A run from its launcher's start to its last process's end: which signal goes to whom, and when.

Runs inside the guard, so it imports little, and it works only where this process is the subreaper of the run.
It reads no pipe and starts nothing.
"""

from __future__ import annotations

import os
import signal
import time
from enum import Enum

from launchers import proctable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Tell(Protocol):
        """Reports one thing that happened."""

        def __call__(self, event: str, **fields: object) -> None:
            """Report `event` with what is known of it."""


LINGER_S = 1.0
"""How long a process may outlive a launcher that ended by itself."""
KILL_BOUND_S = 3.0
"""How long SIGKILL may take to work before the rest is reported as surviving."""
TICK_S = 0.1
KILL_TICK_S = 0.01
NAMED_AT_MOST = 64
"""Processes named in a report; those of a fork bomb would not fit into the pipe."""


class Request(Enum):
    """What the guard may be asked for."""

    STOP = "stop"
    KILL = "kill"
    PARENT_GONE = "gone"


class Phase(Enum):
    """Where a run stands; it only ever moves down this list."""

    RUNNING = "running"
    LINGERING = "lingering"
    TERMINATING = "terminating"
    KILLING = "killing"
    DONE = "done"


class Run:
    """The processes of one run: all below the guard, and all that carry the mark."""

    def __init__(self, run_id: str, launcher: int, spared: Iterable[int]) -> None:
        self._run_id = run_id
        self._launcher = launcher
        self._spared = {os.getpid(), *spared}
        self._signalled: set[tuple[int, int]] = set()
        self._leftovers: dict[tuple[int, int], proctable.Process] = {}
        self._killed: dict[tuple[int, int], proctable.Process] = {}
        self._groups: set[int] = set()
        self.exit_code: int | None = None
        self.childless = False

    def reap(self) -> bool:
        """Collect every child that ended.

        Sets `childless` when none is left: as every orphan becomes the guard's child, the kernel says thereby
        that no descendant lives, which no walk through a moving process table could.

        Returns:
            Whether the launcher was among them; then `exit_code` is set (negative: a signal's number).
        """
        launcher_ended = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.childless = True
                return launcher_ended
            if pid == 0:
                self.childless = False
                return launcher_ended
            if pid == self._launcher and self.exit_code is None:
                self.exit_code = os.waitstatus_to_exitcode(status)
                launcher_ended = True

    def alive(self) -> list[proctable.Process]:
        """Every live process of the run, by descent and by mark."""
        table = proctable.all_processes()
        below = proctable.descendants(os.getpid(), table)
        known = self._spared | {process.pid for process in below}
        others = (process for process in table.values() if process.pid not in known)
        return below + proctable.marked(self._run_id, others)

    def terminate(self, processes: list[proctable.Process]) -> None:
        """SIGTERM to each process, once however often this is called."""
        for process in processes:
            if process.key not in self._signalled and proctable.send(process, signal.SIGTERM):
                self._note(process)
                proctable.send(process, signal.SIGCONT)  # a stopped process could not act on it

    def kill(self, processes: list[proctable.Process]) -> None:
        """SIGKILL to each process, and to every group that one of them was seen in since the killing began.

        A signal to a group reaches a fork that is in the making, and processes that live too shortly to be seen.
        """
        self._groups |= {process.group for process in processes}
        for group in self._groups - {_group_of(pid) for pid in self._spared}:
            _kill_group(group)
        for process in processes:
            proctable.send(process, signal.SIGKILL)
            self._killed[process.key] = process
            self._note(process)

    def outcome(self) -> dict[str, list[dict[str, object]]]:
        """Who outlived the launcher and had to be ended, and whom only SIGKILL ended."""
        return {"leftovers": named(self._leftovers.values()), "killed": named(self._killed.values())}

    def _note(self, process: proctable.Process) -> None:
        if self.exit_code is not None and process.key not in self._signalled:
            self._leftovers[process.key] = process
        self._signalled.add(process.key)


class Lifecycle:
    """Takes a run to its last process's end, one `step` for whatever happens and for each tick."""

    def __init__(self, run: Run, grace_s: float, tell: Tell) -> None:
        self._run = run
        self._grace_s = grace_s
        self._tell = tell
        self._deadline = 0.0
        self.phase = Phase.RUNNING
        self.survivors: list[proctable.Process] = []

    @property
    def tick_s(self) -> float | None:
        """How long to wait for news at most; None is for ever."""
        if self.phase is Phase.RUNNING:
            return None
        return KILL_TICK_S if self.phase is Phase.KILLING else TICK_S

    def obey(self, request: Request) -> None:
        """Act on a request: a stop that is repeated is a kill."""
        ending = self.phase in (Phase.TERMINATING, Phase.KILLING)
        if request is Request.KILL or (request is Request.STOP and ending):
            self._kill(request.value)
        elif not ending:
            self._stop(request.value)

    def step(self) -> None:
        """Look at what lives, and do what the phase asks."""
        if self._run.reap():
            self._launcher_ended()
        if self.phase is Phase.RUNNING:
            return
        left = self._run.alive()
        if not left and self._run.childless:
            self.phase = Phase.DONE
            return
        if time.monotonic() >= self._deadline:
            self._out_of_time(left)
        if self.phase is Phase.TERMINATING:
            self._run.terminate(left)
        elif self.phase is Phase.KILLING:
            self._run.kill(left)

    def _launcher_ended(self) -> None:
        code = self._run.exit_code or 0
        self._tell("exited", code=None if code < 0 else code, signal=-code if code < 0 else None)
        if self.phase is Phase.RUNNING:
            # Who waits for a launcher that was killed waits in vain.
            self._enter(Phase.LINGERING, 0.0 if code < 0 else LINGER_S)

    def _out_of_time(self, left: list[proctable.Process]) -> None:
        if self.phase is Phase.LINGERING:
            self._stop("leftovers")
        elif self.phase is Phase.TERMINATING:
            self._kill("grace_over")
        else:
            self.survivors = left
            self.phase = Phase.DONE

    def _stop(self, reason: str) -> None:
        self._tell("stopping", reason=reason)
        self._enter(Phase.TERMINATING, self._grace_s)

    def _kill(self, reason: str) -> None:
        if self.phase is not Phase.KILLING:
            self._tell("killing", reason=reason)
            self._enter(Phase.KILLING, KILL_BOUND_S)

    def _enter(self, phase: Phase, seconds: float) -> None:
        self.phase = phase
        self._deadline = time.monotonic() + seconds


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:  # gone, or not ours
        return


def named(processes: Iterable[proctable.Process]) -> list[dict[str, object]]:
    """Processes as a status line names them."""
    return [{"pid": process.pid, "name": process.name} for process in processes][:NAMED_AT_MOST]
