"""What `/proc` says about processes: whose child each is, and which run it is marked with.

The guard imports this, so it needs only the standard library and few of its modules. It does not know why
anything is to be ended.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

RUN_MARK = "OMNIRT_RUN_ID"
"""The environment variable that every process of a run inherits; its value is the run's id."""

_DEAD_STATES = frozenset("ZXx")


class Process:
    """A process as it was seen; `pid` and `start` together never name two processes of one boot.

    Attributes:
        pid: Its number, which another process may get later.
        start: Clock ticks from boot to its start.
        parent: Its parent's number.
        group: Its process group.
        state: The letter of `ps`.
        name: The command's short name, at most 15 bytes.
    """

    __slots__ = ("group", "name", "parent", "pid", "start", "state", "threads")

    def __init__(
        self, pid: int, *, start: int, parent: int, group: int, state: str, threads: int = 1, name: str = ""
    ) -> None:
        self.pid = pid
        self.start = start
        self.parent = parent
        self.group = group
        self.state = state
        self.threads = threads
        self.name = name

    @property
    def key(self) -> tuple[int, int]:
        """What tells this process from a later one with the same number."""
        return self.pid, self.start

    @property
    def alive(self) -> bool:
        """Whether any of its threads can still run; a leader that ended before its threads counts."""
        return self.state not in _DEAD_STATES or self.threads > 1


def read_process(pid: int) -> Process | None:
    """The process with this number, or None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            text = file.read()
    except OSError:
        return None
    head, _, tail = text.rpartition(b")")
    fields = tail.split()
    return Process(
        pid,
        start=int(fields[19]),
        parent=int(fields[1]),
        group=int(fields[2]),
        state=fields[0].decode(),
        threads=int(fields[17]),
        name=head.partition(b"(")[2].decode(errors="replace"),
    )


def all_processes() -> dict[int, Process]:
    """Every live process of this PID namespace, by number."""
    numbers = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - as above
    seen = ((number, read_process(number)) for number in numbers)
    return {number: process for number, process in seen if process is not None and process.alive}


def descendants(ancestor: int, table: dict[int, Process]) -> list[Process]:
    """Every process below `ancestor` in the table."""
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [ancestor]
    while waiting:
        below = children.pop(waiting.pop(), [])
        found += below
        waiting += [process.pid for process in below]
    return found


def marked(run_id: str, table: Iterable[Process]) -> list[Process]:
    """The processes that this user owns and that were started with the run's mark in their environment."""
    return [process for process in table if carries_mark(process.pid, run_id)]


def carries_mark(pid: int, run_id: str) -> bool:
    """Whether this user's process `pid` was started with the mark; False where that cannot be read."""
    mark = os.fsencode(f"{RUN_MARK}={run_id}")
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():  # noqa: PTH116 - as above
            return False
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - as above
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def send(process: Process, signal_number: int) -> bool:
    """Signal this very process, never a later one that got its number.

    Returns:
        Whether it was there to be signalled, and could be.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except (AttributeError, OSError):  # a Python or a kernel without pidfd
        return _send_by_number(process, signal_number)
    try:
        if not _is_still(process):
            return False
        signal.pidfd_send_signal(handle, signal_number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _send_by_number(process: Process, signal_number: int) -> bool:
    try:
        if not _is_still(process):
            return False
        os.kill(process.pid, signal_number)
    except OSError:
        return False
    return True


def _is_still(process: Process) -> bool:
    now = read_process(process.pid)
    return now is not None and now.key == process.key
