"""The one process between OmniRT and a launcher; it ends all that a run started, whatever ended OmniRT.

A program, started as `python -I -S guard.py RUN_ID` by `process.GuardedProcess`, in a session of its own. Its
three standard descriptors are its whole interface:

- 0, the control pipe: first the launch as one JSON line, then the lines `stop` and `kill`. Its end of file
  means that OmniRT is gone.
- 1, the status pipe: one JSON line for each thing that happened.
- 2, the launcher's output: handed on to it as its stdout and stderr, and then let go.

Other descriptors that it inherits (leases, locks) stay open in it until the run's last process is gone; the
launcher does not get them. It is single-threaded and imports little. It knows nothing of what it runs.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time

if __name__ == "__main__":
    # Isolated mode leaves this package's own root off the path; at its end, so that it shadows nothing.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120

from launchers.lifecycle import Lifecycle, Phase, Request, Run, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import NoReturn

CONTROL, STATUS, OUTPUT = 0, 1, 2
SURVIVOR_TICK_S = 1.0

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_libc = ctypes.CDLL(None, use_errno=True)


class Launch:
    """What to start. Strings arrive as Latin-1 images of the exact bytes: no locale can change them."""

    def __init__(self, line: bytes) -> None:
        fields = json.loads(line)
        self.run_id: str = fields["run_id"]
        self.grace_s: float = fields["grace_s"]
        self.parent: int = fields["parent"]
        self.umask: int | None = fields["umask"]
        self.cwd: bytes = fields["cwd"].encode("latin-1")
        self.argv: list[bytes] = [word.encode("latin-1") for word in fields["argv"]]
        self.env: dict[bytes, bytes] = {
            name.encode("latin-1"): value.encode("latin-1") for name, value in fields["env"].items()
        }


class SpawnError(Exception):
    """The launcher could not be started.

    Attributes:
        errno: What the kernel said.
        stage: `cwd` or `program`, whichever it said it of.
    """

    def __init__(self, errno: int, stage: str) -> None:
        super().__init__(f"{stage}: {os.strerror(errno)}")
        self.errno = errno
        self.stage = stage


class Inbox:
    """Everything that can wake the guard: the control pipe, its signals, and the end of its parent."""

    def __init__(self, wakeups: int) -> None:
        self._wakeups = wakeups
        self._unread = b""
        self._parent: int | None = None
        self._orphaned = False
        self._poll = select.poll()
        self._poll.register(CONTROL, select.POLLIN)
        self._poll.register(wakeups, select.POLLIN)

    def first_line(self) -> bytes | None:
        """The launch; None where OmniRT went away before it had sent it."""
        while b"\n" not in self._unread:
            data = os.read(CONTROL, 1 << 16)
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def watch_parent(self, pid: int) -> None:
        """Notice the parent's end even while a fork of it still holds the control pipe open."""
        try:
            self._parent = os.pidfd_open(pid)
        except (AttributeError, OSError):  # a Python or a kernel without pidfd: the pipe alone must tell
            return
        self._poll.register(self._parent, select.POLLIN)

    def wait(self, seconds: float | None) -> Iterator[Request]:
        """The requests that came, after at most so many seconds."""
        if b"\n" in self._unread:  # came together with the launch
            yield from self._requests()
            return
        ready = {descriptor for descriptor, _ in self._poll.poll(None if seconds is None else seconds * 1000)}
        if self._wakeups in ready and _asks_to_stop(os.read(self._wakeups, 1 << 12)):
            yield Request.STOP
        if CONTROL in ready:
            yield from self._read_control()
        if self._parent in ready and not self._orphaned:  # both ends come at once, as a rule
            yield self._parent_gone()

    def _read_control(self) -> Iterator[Request]:
        data = os.read(CONTROL, 1 << 12)
        if data:
            self._unread += data
            yield from self._requests()
        else:
            yield self._parent_gone()

    def _requests(self) -> Iterator[Request]:
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            yield Request(line.decode())

    def _parent_gone(self) -> Request:
        self._orphaned = True
        for descriptor in (CONTROL, self._parent):
            if descriptor is not None:
                self._poll.unregister(descriptor)
        return Request.PARENT_GONE


def main() -> None:
    """Run one launch from beginning to end."""
    inbox = Inbox(_settle())
    line = inbox.first_line()
    if line is None:
        return
    launch = Launch(line)
    inbox.watch_parent(launch.parent)
    launcher = _start(launch)
    if launcher is None:
        return
    run = Run(launch.run_id, launcher, spared=[launch.parent])
    lifecycle = Lifecycle(run, launch.grace_s, tell)
    try:
        while lifecycle.phase is not Phase.DONE:
            for request in inbox.wait(lifecycle.tick_s):
                lifecycle.obey(request)
            lifecycle.step()
    except BaseException:  # even a bug here must not leave processes that nobody watches
        run.kill(run.alive())
        raise
    tell("done", **run.outcome(), survivors=named(lifecycle.survivors))
    if lifecycle.survivors:
        _outlast(run)


def tell(event: str, **fields: object) -> None:
    """Report one thing. When nobody is there to read it any more, that is no fault."""
    try:
        os.write(STATUS, json.dumps({"event": event, **fields}).encode() + b"\n")
    except BrokenPipeError:
        return


def spawn(launch: Launch) -> int:
    """Start the launcher in a session of its own; it is killed when this process dies.

    Raises:
        SpawnError: The working directory or the program cannot be used.
    """
    reader, writer = os.pipe()
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _become(launch, guard, writer)
    os.close(writer)
    with open(reader, "rb") as file:  # noqa: PTH123 - a descriptor
        failure = file.read()
    if failure:
        os.waitpid(pid, 0)
        number, _, stage = failure.decode().partition(" ")
        raise SpawnError(int(number), stage)
    return pid


def _become(launch: Launch, guard: int, failures: int) -> NoReturn:
    """The child's way to the launcher. Whatever fails is written to a pipe that a successful exec closes."""
    stage = b"cwd"
    try:
        os.setsid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == guard:  # otherwise the guard died before it could take the launcher with it
            _default_signals()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(OUTPUT, 1)
            if launch.umask is not None:
                os.umask(launch.umask)
            os.chdir(launch.cwd)
            stage = b"program"
            os.execve(launch.argv[0], launch.argv, launch.env)  # noqa: S606 - argv only
    except OSError as error:
        os.write(failures, b"%d %s" % (error.errno or 0, stage))
    finally:
        os._exit(127)


def _start(launch: Launch) -> int | None:
    """Spawn and say so; None where that failed."""
    try:
        launcher = spawn(launch)
    except SpawnError as error:
        tell("spawn_failed", errno=error.errno, stage=error.stage)
        return None
    # The launcher and its children alone hold the output now, so that its end of file means their end.
    os.dup2(os.open(os.devnull, os.O_RDWR), OUTPUT, inheritable=False)
    tell("spawned", pid=launcher)
    return launcher


def _settle() -> int:
    """Make this process what a guard has to be.

    Returns:
        A descriptor that becomes readable when a signal came; the bytes are the signals' numbers.
    """
    os.chdir("/")  # keep no file system busy
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib would double the start-up
        if int(name) > OUTPUT:
            _keep_to_itself(int(name))
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_STOP_SIGNALS):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # under nohup it stays ignored
            signal.signal(number, _wake)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return reader


def _keep_to_itself(descriptor: int) -> None:
    try:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the standard library
    except OSError:  # the listing's own descriptor, closed by now
        return


def _default_signals() -> None:
    """Undo what Python and OmniRT's caller ignore; an ignored SIGHUP is a user's `nohup` and stays."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGHUP}:
        signal.signal(number, signal.SIG_DFL)


def _wake(_number: int, _frame: FrameType | None) -> None:
    """The number is read from the wake-up descriptor instead."""


def _asks_to_stop(numbers: bytes) -> bool:
    return any(number in numbers for number in _STOP_SIGNALS)


def _outlast(run: Run) -> None:
    """Hold the leases until processes that no signal ends yet (uninterruptible sleep) are gone."""
    while left := run.alive():
        run.kill(left)
        time.sleep(SURVIVOR_TICK_S)
        run.reap()


if __name__ == "__main__":
    main()
    os._exit(0)  # OmniRT waits for this process, and the interpreter's own tear-down does nothing for it
