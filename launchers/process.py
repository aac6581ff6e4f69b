"""A launcher under guard, as the engine sees it: two descriptors to poll, typed events, `stop` and `kill`.

Usable from any thread. It changes no signal handler and no attribute of the calling process, and the
processes that the caller starts elsewhere inherit none of its descriptors.
"""

from __future__ import annotations

import errno
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers import lifecycle, sweep
from launchers.errors import GuardError, LaunchError, ProgramMissingError
from launchers.proctable import RUN_MARK

DEFAULT_GRACE_S = 5.0
START_BOUND_S = 30.0
"""How long the guard may take to start the launcher; a loaded machine needs a second."""
CLOSE_BOUND_S = lifecycle.KILL_BOUND_S + 2.0
"""How long `close` waits for the guard's last word after a kill."""

_GUARD_PROGRAM = str(Path(__file__).with_name("guard.py"))
_LAST_STANDARD_FD = 2
_START_ANSWERS = frozenset({"spawned", "spawn_failed"})
_PROGRAM_ERRORS = frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})


@dataclass(frozen=True)
class ProcessSpec:
    """A launch.

    Attributes:
        argv: The whole command line; `argv[0]` is a path, not a name to look up.
        cwd: The launcher's working directory.
        env: The launcher's whole environment; the run's mark is added to it.
        run_id: The mark's value, unique to this run.
        umask: Permissions that no file of the launcher gets; None leaves the calling process's own.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    run_id: str
    umask: int | None = None


@dataclass(frozen=True)
class ProcessNote:
    """A process as a report names it."""

    pid: int
    name: str


@dataclass(frozen=True)
class ExitStatus:
    """How the launcher ended: exactly one of the two is set."""

    code: int | None
    signal: int | None


@dataclass(frozen=True)
class Exited:
    """The launcher ended; processes that it started may still live."""

    status: ExitStatus


@dataclass(frozen=True)
class Stopping:
    """SIGTERM goes to every process of the run.

    Attributes:
        reason: `stop` (asked for), `gone` (OmniRT ended), `leftovers` (processes outlived their launcher).
    """

    reason: str


@dataclass(frozen=True)
class Killing:
    """SIGKILL goes to every process of the run.

    Attributes:
        reason: `kill` or `stop` (asked for, the latter twice), `grace_over`.
    """

    reason: str


@dataclass(frozen=True)
class Done:
    """The run is over.

    Attributes:
        leftovers: Processes that outlived the launcher and had to be ended (64 at most).
        killed: Processes that only SIGKILL ended (64 at most).
        survivors: Processes that not even SIGKILL ended in time; the guard keeps its leases until they are
            gone.
    """

    leftovers: tuple[ProcessNote, ...] = ()
    killed: tuple[ProcessNote, ...] = ()
    survivors: tuple[ProcessNote, ...] = ()


@dataclass(frozen=True)
class GuardLost:
    """The guard itself was killed; what carried the run's mark was then killed from here.

    Attributes:
        killed: Numbers of the processes that were killed.
        survivors: Numbers of those that SIGKILL did not end in time.
    """

    killed: tuple[int, ...] = ()
    survivors: tuple[int, ...] = ()


GuardEvent = Exited | Stopping | Killing | Done | GuardLost


class GuardedProcess:
    """A launcher with everything it starts, from `start` to `close`.

    One thread at a time may use an instance; `request_stop` and `kill` may come from any other. Poll
    `output_fd` and `status_fd`; after `finished`, read what is left of the output until it would block: no
    process that could write more is alive, except survivors that were named.

    Attributes:
        pid: The launcher's process number.
        output_fd: Non-blocking read end of the launcher's stdout and stderr, which are one pipe.
        status_fd: Becomes readable when `read_status` has news.
        exit: How the launcher ended, once that is known.
    """

    def __init__(self, spec: ProcessSpec, popen: subprocess.Popen[bytes], pipes: _Pipes) -> None:
        """For `start` only."""
        self._spec = spec
        self._guard = popen
        self._control_fd = pipes.control
        self._unread = b""
        self._last: Done | GuardLost | None = None
        self._closed = False
        self.output_fd = pipes.output
        self.status_fd = pipes.status
        self.pid = 0
        self.exit: ExitStatus | None = None

    @classmethod
    def start(
        cls, spec: ProcessSpec, *, grace_s: float = DEFAULT_GRACE_S, pass_fds: Sequence[int] = ()
    ) -> GuardedProcess:
        """Start the guard, and through it the launcher.

        Args:
            spec: What to launch.
            grace_s: Seconds between SIGTERM and SIGKILL when the run is stopped.
            pass_fds: Descriptors above 2 that the guard, but not the launcher, holds until the run's last
                process is gone.

        Raises:
            ProgramMissingError: The launcher's program cannot be executed.
            GuardError: The working directory cannot be used, or the guard did not do its work.
            LaunchError: An argument or a variable cannot be given to any process.
        """
        launch = _encode(spec, grace_s)
        started = cls(spec, *_start_guard(spec.run_id, pass_fds))
        try:
            started._launch(launch, time.monotonic() + START_BOUND_S)
        except BaseException:  # whatever it was, an interrupt included: leave nothing behind
            started.close()
            raise
        return started

    @property
    def finished(self) -> bool:
        """Whether the run's last word was said: `Done` or `GuardLost` was returned by `read_status`."""
        return self._last is not None

    @property
    def waiting(self) -> bool:
        """Never: a launch of its own has nobody before it."""
        return False

    @property
    def guard_lost(self) -> bool:
        """Whether the guard ended before the run did."""
        return isinstance(self._last, GuardLost)

    def request_stop(self) -> None:
        """Ask for SIGTERM now and SIGKILL after the grace; asked again, it is SIGKILL now."""
        self._ask(lifecycle.Request.STOP)

    def kill(self) -> None:
        """Ask for SIGKILL now."""
        self._ask(lifecycle.Request.KILL)

    def read_status(self) -> list[GuardEvent]:
        """What happened since the last call. Waits only to kill what a lost guard left, for 3 s at most."""
        if self._last is not None or self._closed:
            return []
        at_end = self._fill()
        events = self._events()
        if at_end and self._last is None:
            events.append(self._sweep())
        return events

    def wait(self, timeout_s: float) -> bool:
        """Follow the status until the run is over, without reading the output.

        Returns:
            Whether it was over in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.finished and _readable(self.status_fd, deadline):
            self.read_status()
        return self.finished

    def close(self) -> None:
        """End whatever still runs, and let go of every descriptor. May be called again."""
        if self._closed:
            return
        if not self.finished:
            self.kill()
            self.wait(CLOSE_BOUND_S)
        if not self.finished:
            self._guard.kill()
            self._sweep()
        self._closed = True
        for descriptor in (self._control_fd, self.status_fd, self.output_fd):
            os.close(descriptor)
        self._forget_guard()

    def __enter__(self) -> GuardedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _launch(self, launch: bytes, deadline: float) -> None:
        self._send_all(launch, deadline)
        answer = self._first_answer(deadline)
        if answer["event"] == "spawn_failed":
            self._last = Done()
            raise _spawn_error(self._spec, answer["stage"], answer["errno"])
        self.pid = answer["pid"]

    def _first_answer(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._unread:
            if not _readable(self.status_fd, deadline):
                raise GuardError(f"the guard gave no answer within {START_BOUND_S:.0f} s")
            if self._fill() and b"\n" not in self._unread:
                raise self._guard_died()
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _guard_died(self) -> GuardError:
        """What the guard said itself: the output pipe is its stderr until the launcher has it."""
        said = _read_available(self.output_fd).decode(errors="replace").strip()
        return GuardError(f"the guard ended before it had started the launcher: {said or 'it said nothing'}")

    def _send_all(self, data: bytes, deadline: float) -> None:
        unsent = memoryview(data)
        try:
            while unsent:
                if not _writable(self._control_fd, deadline):
                    raise GuardError(f"the guard did not take its orders within {START_BOUND_S:.0f} s")
                unsent = unsent[os.write(self._control_fd, unsent) :]
        except BrokenPipeError:
            raise self._guard_died() from None

    def _ask(self, request: lifecycle.Request) -> None:
        if self._closed:
            return
        try:
            os.write(self._control_fd, request.value.encode() + b"\n")
        except (BrokenPipeError, BlockingIOError):  # the guard is gone, or stopped and has enough orders
            return

    def _fill(self) -> bool:
        """Take in what the status pipe holds.

        Returns:
            Whether it is at its end.
        """
        while True:
            try:
                data = os.read(self.status_fd, 1 << 16)
            except BlockingIOError:
                return False
            if not data:
                return True
            self._unread += data

    def _events(self) -> list[GuardEvent]:
        *lines, self._unread = self._unread.split(b"\n")
        answers = [json.loads(line) for line in lines]
        # Only `close` after an interrupted start still finds the answer to the start here.
        events = [_parse(answer) for answer in answers if answer["event"] not in _START_ANSWERS]
        for event in events:
            if isinstance(event, Exited):
                self.exit = event.status
            if isinstance(event, Done):
                self._last = event
        return events

    def _sweep(self) -> GuardLost:
        result = sweep.kill_marked(self._spec.run_id)
        lost = GuardLost(killed=result.killed, survivors=result.survivors)
        self._last = lost
        return lost

    def _forget_guard(self) -> None:
        """Collect the guard; one that outlasts survivors is left to its work."""
        try:
            self._guard.wait(timeout=0 if self._has_survivors() else CLOSE_BOUND_S)
        except subprocess.TimeoutExpired:
            self._guard.returncode = 0  # keeps Popen from warning; the guard ends by itself

    def _has_survivors(self) -> bool:
        return isinstance(self._last, Done) and bool(self._last.survivors)


@dataclass(frozen=True)
class _Pipes:
    """OmniRT's ends of the guard's three pipes."""

    control: int
    status: int
    output: int


def _start_guard(run_id: str, pass_fds: Sequence[int]) -> tuple[subprocess.Popen[bytes], _Pipes]:
    if any(descriptor <= _LAST_STANDARD_FD for descriptor in pass_fds):
        raise ValueError("the guard's standard descriptors are its own")
    control_read, control_write = os.pipe()
    status_read, status_write = os.pipe()
    output_read, output_write = os.pipe()
    ours = (control_write, status_read, output_read)
    theirs = (control_read, status_write, output_write)
    try:
        popen = subprocess.Popen(
            [_interpreter(), "-I", "-S", _GUARD_PROGRAM, run_id],
            stdin=control_read,
            stdout=status_write,
            stderr=output_write,
            env={name: value for name, value in os.environ.items() if name != RUN_MARK},
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
    except BaseException as error:
        _close_all(ours)
        if isinstance(error, OSError):
            raise GuardError(f"the guard cannot be started: {error}") from error
        raise
    finally:
        _close_all(theirs)
    for descriptor in ours:
        os.set_blocking(descriptor, False)
    return popen, _Pipes(control=control_write, status=status_read, output=output_read)


def _interpreter() -> str:
    if not sys.executable:
        raise GuardError("this Python does not know its own path, so the guard cannot be started with it")
    return sys.executable


def _encode(spec: ProcessSpec, grace_s: float) -> bytes:
    """The launch as the guard reads it: one line, the strings as Latin-1 images of their bytes."""
    return (
        json.dumps(
            {
                "run_id": spec.run_id,
                "grace_s": grace_s,
                "parent": os.getpid(),
                "umask": spec.umask,
                "cwd": _image(str(spec.cwd)),
                "argv": [_image(word) for word in spec.argv],
                "env": {_image(name): _image(value) for name, value in {**spec.env, RUN_MARK: spec.run_id}.items()},
            }
        ).encode()
        + b"\n"
    )


def _image(text: str) -> str:
    if "\0" in text:
        raise LaunchError(f"a NUL character cannot be given to a process: {text!r}")
    try:
        return os.fsencode(text).decode("latin-1")
    except UnicodeEncodeError as error:
        raise LaunchError(f"this cannot be given to a process: {text!r} ({error.reason})") from error


def _spawn_error(spec: ProcessSpec, stage: str, number: int) -> LaunchError:
    reason = os.strerror(number)
    if stage == "cwd":
        return GuardError(f"the working directory cannot be entered: {spec.cwd}: {reason}")
    if number in _PROGRAM_ERRORS:
        hint = "Name an existing executable; for a script, see that the interpreter in its first line exists."
        return ProgramMissingError(f"cannot execute {spec.argv[0]}: {reason}", hint=hint)
    return GuardError(f"cannot start {spec.argv[0]}: {reason}")


def _parse(fields: Mapping[str, Any]) -> GuardEvent:
    kind = fields["event"]
    if kind == "exited":
        return Exited(ExitStatus(code=fields["code"], signal=fields["signal"]))
    if kind == "stopping":
        return Stopping(fields["reason"])
    if kind == "killing":
        return Killing(fields["reason"])
    return Done(
        leftovers=_notes(fields["leftovers"]),
        killed=_notes(fields["killed"]),
        survivors=_notes(fields["survivors"]),
    )


def _notes(items: list[Mapping[str, Any]]) -> tuple[ProcessNote, ...]:
    return tuple(ProcessNote(pid=item["pid"], name=item["name"]) for item in items)


def _readable(descriptor: int, deadline: float) -> bool:
    return _poll(descriptor, select.POLLIN, deadline)


def _writable(descriptor: int, deadline: float) -> bool:
    return _poll(descriptor, select.POLLOUT, deadline)


def _poll(descriptor: int, event: int, deadline: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, event)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _read_available(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
