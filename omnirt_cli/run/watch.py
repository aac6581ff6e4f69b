"""One run watched from its start to its end: a launch of its own, or a request to a worker that is there already.

A single loop waits on the output, the guard's (or the worker's) reports, the cancel token and the next deadline. It
knows no model's log line (the adapter's rules find those) and judges no video (publishing does).
"""

from __future__ import annotations

import selectors
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO, Protocol

from launchers.command import Launcher
from launchers.process import Done, ExitStatus, GuardEvent, GuardLost
from launchers.pump import LogPump
from omnirt_cli.models.base import LogRule, MarkKind
from omnirt_cli.plan import Plan
from omnirt_cli.report import ChunkInfo
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.events import ChunkFinished, Stage, StepFinished
from omnirt_cli.run.failure_reader import FailureReader
from omnirt_cli.run.host_memory import HostMemory
from omnirt_cli.run.log_facts import LogFacts, LogFactsReader
from omnirt_cli.run.log_scanner import LogMark, LogScanner
from omnirt_cli.run.recorder import Recorder
from omnirt_cli.run.timings import TimingBuilder

if TYPE_CHECKING:
    from omnirt_cli.run.failure import Failure

LOADING_STALL_S = 1800.0
STEADY_STALL_S = 300.0
STALL_FACTOR = 10.0
STOP_BOUND_S = 3.5
"""How long after the grace the guard has to end what ignores TERM, before its run is called unstoppable."""

MEMORY_EVERY_S = 1.0
NOTES_AT_MOST = 50
"""Lines of the script that a run's events repeat; all of them are in its log."""


@dataclass(frozen=True)
class Watch:
    """How a run's output is read.

    Attributes:
        rules: The lines that tell something.
        launcher: Whose words a failure is told in.
        devices: The real device numbers by their index inside the run.
        stage: The phase that the start begins.
        detail: What the phase is about, where its name does not say.
    """

    rules: tuple[LogRule, ...] = ()
    launcher: Launcher = Launcher.PYTHON
    devices: tuple[str, ...] = ()
    stage: Stage = Stage.LAUNCH
    detail: str | None = None


class Running(Protocol):
    """What is watched: `launchers.process.GuardedProcess`, or a request to a resident worker.

    Attributes:
        pid: The process whose tree is looked at for memory.
        exit: How it ended, once that is known.
    """

    output_fd: int
    status_fd: int
    pid: int
    exit: ExitStatus | None

    @property
    def finished(self) -> bool:
        """Whether `read_status` returned the last word."""

    @property
    def guard_lost(self) -> bool:
        """Whether it ended because its guard was killed."""

    @property
    def waiting(self) -> bool:
        """Whether others come first, so that its silence means nothing."""

    def read_status(self) -> Sequence[GuardEvent]:
        """What happened since the last call."""

    def request_stop(self) -> None:
        """Ask for a clean end."""

    def kill(self) -> None:
        """End it now."""

    def close(self) -> None:
        """End whatever still runs, and let go of every descriptor."""


class Companion(Protocol):
    """What goes on beside a launch; called in the loop's thread, and never waited for."""

    def start(self) -> None:
        """The child runs."""

    def tick(self) -> None:
        """A second or less has passed."""

    def model_loaded(self) -> None:
        """The script begins with its first chunk."""


class StopReason(str, Enum):
    """Why OmniRT ended a run that had not ended by itself."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    STALL = "stall"
    STORAGE = "storage"


@dataclass(frozen=True)
class ChildOutcome:
    """How the child ended.

    Attributes:
        exit: The launcher's exit; None where it was never seen (it could not be started, or the guard was lost).
        stop: Why OmniRT ended it, None where it ended by itself.
        failure: What the log says about the cause; None for a good end.
        survivors: Numbers of processes that could not be ended.
        leftovers: Names of processes that outlived the launcher and were ended.
        storage: The operating system's refusal to store the log.
        log_facts: What the log told besides.
    """

    exit: ExitStatus | None
    stop: StopReason | None
    failure: Failure | None
    log_tail: tuple[str, ...]
    survivors: tuple[int, ...] = ()
    leftovers: tuple[str, ...] = ()
    guard_lost: bool = False
    storage: OSError | None = None
    peak_memory_gib: float | None = None
    log_facts: LogFacts = field(default_factory=LogFacts)


class WatchedRun:
    """One run. `run()` returns when nothing of it is left."""

    def __init__(
        self,
        plan: Plan,
        watch: Watch,
        recorder: Recorder,
        timings: TimingBuilder,
        cancel: CancelToken,
        *,
        start: Callable[[], Running],
        log: BinaryIO,
        beside: Companion | None = None,
    ) -> None:
        self._plan = plan
        self._recorder = recorder
        self._timings = timings
        self._cancel = cancel
        self._failures = FailureReader()
        self._facts = LogFactsReader()
        self._watched = watch
        self._scanner = LogScanner(watch.rules, watch=self._failures.read)
        self._start = start
        self._log = log
        self._beside = beside
        self._memory = HostMemory()
        self._stop: StopReason | None = None
        self._stop_deadline: float | None = None
        self._killed = False
        self._storage: OSError | None = None
        self._fell_back: str | None = None
        self._last_word: Done | GuardLost | None = None
        self._chunks: list[ChunkInfo] = []
        self._steps = 0
        self._notes = 0
        self._last_output = 0.0
        self._eof = False

    def run(self) -> ChildOutcome:
        """Start, watch, and end.

        Raises:
            launchers.errors.LaunchError: The launcher could not be started.
        """
        self._recorder.enter(self._watched.stage, self._watched.detail)
        began = time.monotonic()
        process = self._start()
        try:
            self._timings.spawned(began)
            if self._beside is not None:
                self._beside.start()
            self._last_output = began
            self._watch(process)
        finally:
            process.close()
        self._timings.exited(time.monotonic())
        return self._outcome(process)

    # The loop

    def _watch(self, process: Running) -> None:
        pump = LogPump(process.output_fd, self._log)
        with selectors.DefaultSelector() as selector:
            selector.register(process.output_fd, selectors.EVENT_READ, "output")
            selector.register(process.status_fd, selectors.EVENT_READ, "status")
            selector.register(self._cancel, selectors.EVENT_READ, "cancel")
            while not process.finished or not self._eof:
                ready = {key.data for key, _ in selector.select(self._patience(process))}
                if "output" in ready and self._read_output(pump):
                    selector.unregister(process.output_fd)
                if "status" in ready and self._read_status(process):
                    selector.unregister(process.status_fd)
                    self._drain(pump)
                    break
                if "cancel" in ready:
                    self._cancel.drain()
                    self._heed_cancel(process)
                self._look_at_clock(process)
        self._note(self._scanner.finish(time.monotonic()))

    def _read_status(self, process: Running) -> bool:
        """Take the guard's news; True after its last word."""
        for event in process.read_status():
            if isinstance(event, (Done, GuardLost)):
                self._last_word = event
        return process.finished

    def _read_output(self, pump: LogPump) -> bool:
        """Take one block; True at the end of the output."""
        block = self._pump_block(pump)
        if block is None:
            self._eof = True
            return True
        if block:
            now = time.monotonic()
            self._last_output = now
            self._timings.first_output(now)
            self._note(self._scanner.feed(block, now))
        return False

    def _pump_block(self, pump: LogPump) -> bytes | None:
        """A block, stored; where the log cannot be written the run is stopped, and its output still read away."""
        try:
            return pump.read()
        except OSError as error:
            if self._storage is None:
                self._storage = error
            pump.discard()
            return b""

    def _drain(self, pump: LogPump) -> None:
        """What the child wrote last; nobody who could write more is left."""
        while not self._eof:
            before = pump.bytes_read
            if self._read_output(pump) or pump.bytes_read == before:
                return

    def _patience(self, process: Running) -> float:
        """Seconds until something may be due."""
        now = time.monotonic()
        due = [now + MEMORY_EVERY_S]
        if self._stop_deadline is not None:
            due.append(self._stop_deadline)
        elif self._plan.limits.timeout_s:
            due.append(self._recorder.began + self._plan.limits.timeout_s)
        return max(0.0, min(due) - now) if not process.finished else 0.0

    def _look_at_clock(self, process: Running) -> None:
        now = time.monotonic()
        self._memory.sample(process.pid, now)
        if self._beside is not None:
            self._beside.tick()
        if self._storage is not None:
            self._ask_to_stop(process, StopReason.STORAGE)
        if process.waiting:
            self._last_output = now
        if self._stop is not None:
            if self._stop_deadline is not None and now > self._stop_deadline and not self._killed:
                self._kill(process)
            return
        limits = self._plan.limits
        if limits.timeout_s and now - self._recorder.began > limits.timeout_s:
            self._ask_to_stop(process, StopReason.TIMEOUT)
        stall = self.stall_limit_s()
        if stall and now - self._last_output > stall:
            self._ask_to_stop(process, StopReason.STALL)

    def stall_limit_s(self) -> float:
        """How long silence is patiently listened to; any byte of output counts as life."""
        chosen = self._plan.limits.stall_timeout_s
        if chosen is not None:
            return chosen
        intervals = [chunk.interval_ms for chunk in self._chunks if chunk.interval_ms is not None]
        if not intervals:
            return LOADING_STALL_S
        return max(STEADY_STALL_S, STALL_FACTOR * statistics.median(intervals) / 1000)

    # Stopping

    def _heed_cancel(self, process: Running) -> None:
        if self._cancel.at_once:
            self._stop = self._stop or StopReason.CANCELLED
            self._kill(process)
        else:
            self._ask_to_stop(process, StopReason.CANCELLED)

    def _ask_to_stop(self, process: Running, reason: StopReason) -> None:
        if self._stop is not None:
            return
        self._stop = reason
        self._stop_deadline = time.monotonic() + self._plan.limits.grace_s + STOP_BOUND_S
        process.request_stop()

    def _kill(self, process: Running) -> None:
        self._killed = True
        process.kill()

    # What the output says

    def _note(self, marks: list[LogMark]) -> None:
        for mark in marks:
            self._facts.note(mark)
            chunk = self._timings.mark(mark)
            if mark.kind is MarkKind.READY:
                self._begin_generating()
            elif mark.kind in (MarkKind.DEVICE, MarkKind.LOADING) and not self._chunks:
                self._recorder.enter(Stage.LOAD)
            elif mark.kind is MarkKind.DENOISE_STEP:
                self._note_step(mark)
            elif mark.kind is MarkKind.FELL_BACK:
                self._fell_back = mark.text
            elif mark.kind is MarkKind.NOTE:
                self._pass_on(mark)
            if chunk is not None:
                self._note_chunk(chunk)

    def _begin_generating(self) -> None:
        self._recorder.enter(Stage.GENERATE)
        if self._beside is not None:
            self._beside.model_loaded()

    def _note_step(self, mark: LogMark) -> None:
        self._recorder.emit(
            StepFinished(chunk=len(self._chunks), step=self._steps, duration_ms=round(mark.value_ms or 0.0, 3))
        )
        self._steps += 1

    def _pass_on(self, mark: LogMark) -> None:
        """Show a warning of the script's own and keep it for the report, unless it has said too many already."""
        self._notes += 1
        if self._notes <= NOTES_AT_MOST:
            self._recorder.pass_on(mark.text, mark.rank)

    def _note_chunk(self, chunk: ChunkInfo) -> None:
        self._chunks.append(chunk)
        self._steps = 0
        total = self._plan.expected.chunks
        self._recorder.emit(
            ChunkFinished(
                index=chunk.index,
                total=total,
                core_ms=chunk.core_ms,
                interval_ms=chunk.interval_ms,
                rtf=self._rtf(),
                eta_s=self._eta_s(total),
            )
        )
        if len(self._chunks) >= total:
            self._recorder.enter(Stage.SAVE)

    def _rtf(self) -> float | None:
        """Processing over media time, without the first chunk once there are more."""
        spans = [chunk.interval_ms for chunk in self._chunks if chunk.interval_ms is not None]
        spans = spans[1:] or spans
        if not spans:
            return None
        geometry = self._plan.geometry
        return round(statistics.fmean(spans) / (geometry.slice_frames / geometry.fps * 1000), 3)

    def _eta_s(self, total: int) -> float | None:
        steady = [chunk.interval_ms for chunk in self._chunks[1:] if chunk.interval_ms is not None]
        if not steady:
            return None
        return round(statistics.median(steady) * max(0, total - len(self._chunks)) / 1000, 1)

    # The end

    def _outcome(self, process: Running) -> ChildOutcome:
        tail = tuple(self._scanner.tail())
        word = self._last_word
        return ChildOutcome(
            exit=process.exit,
            stop=self._stop,
            failure=self._diagnose(process.exit, tail) if self._stop is None else None,
            log_tail=tail,
            survivors=_survivors(word),
            leftovers=tuple(note.name for note in word.leftovers) if isinstance(word, Done) else (),
            guard_lost=process.guard_lost,
            storage=self._storage,
            peak_memory_gib=self._memory.peak_gib,
            log_facts=self._facts.facts(),
        )

    def _diagnose(self, status: ExitStatus | None, tail: tuple[str, ...]) -> Failure | None:
        if status is None or (status.code == 0 and self._fell_back is None):
            return None
        from omnirt_cli.run.failure import diagnose

        return diagnose(
            self._failures.rows(),
            exit_code=-status.signal if status.signal else status.code or 0,
            tail=tail,
            launcher=self._watched.launcher.value,
            devices=self._watched.devices,
            fell_back=self._fell_back,
        )


def _survivors(word: Done | GuardLost | None) -> tuple[int, ...]:
    if isinstance(word, Done):
        return tuple(note.pid for note in word.survivors)
    return word.survivors if word else ()
