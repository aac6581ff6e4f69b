"""The checkout's script as it would run without OmniRT: the plan's argv, environment, directory and files, and no more.

A guard stands by so that nothing is left over, and waits; the output is read and stamped as it comes, and looked at
only when the script has ended.
"""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass, field

from launchers.errors import LaunchError
from launchers.process import GuardedProcess, ProcessSpec
from launchers.pump import BLOCK_BYTES
from omnirt_cli.bench.bare import Bare, bare, cancelled
from omnirt_cli.errors import ModelFailedError, OmniRTError, RunTimeoutError
from omnirt_cli.plan import Plan
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.log_scanner import LogScanner
from omnirt_cli.run.timings import TimingBuilder

_LAST_LINES = 3


@dataclass
class _Heard:
    """The script's output: every block with the monotonic second at which it came."""

    whole: bool = False
    blocks: list[tuple[float, bytes]] = field(default_factory=list)
    began_s: float = 0.0
    ended_s: float = 0.0


def run_plain(plan: Plan, cancel: CancelToken) -> dict[str, float]:
    """Run the script of a plan to its end.

    Returns:
        Its phases and chunk times in milliseconds, by the report's names.

    Raises:
        OmniRTError: It failed, took longer than the plan allows, or was cancelled.
    """
    with bare(plan, cancel) as place:
        heard = _Heard()
        try:
            status = _listen(place, heard, cancel)
        except LaunchError as error:
            raise ModelFailedError(error.message, hint=error.hint) from error
        place.log.write(b"".join(block for _, block in heard.blocks))
        if cancel.asked:
            raise cancelled(cancel)
        if status != 0:
            raise _failed(place, heard, status)
        return _times(place.plan, heard)


def _listen(place: Bare, heard: _Heard, cancel: CancelToken) -> int | None:
    """Follow the script to its end; returns its exit code, None where a signal ended it."""
    plan = place.plan
    spec = ProcessSpec(argv=plan.argv, cwd=plan.cwd, env=place.env, run_id=plan.run_id)
    process = GuardedProcess.start(spec, grace_s=plan.limits.grace_s, pass_fds=place.lock_fds)
    heard.began_s = time.monotonic()
    try:
        while not process.finished:
            waited_for: list[int | CancelToken] = [
                process.status_fd,
                cancel,
                *([] if heard.whole else [process.output_fd]),
            ]
            ready = select.select(waited_for, [], [], 1.0)[0]
            _read(process.output_fd, heard)
            process.read_status()
            if process.exit is not None and not heard.ended_s:
                heard.ended_s = time.monotonic()
            if cancel in ready:
                cancel.drain()
                process.request_stop()
            _refuse_too_long(plan, heard)
        _read(process.output_fd, heard)
    finally:
        process.close()
    return process.exit.code if process.exit else None


def _read(descriptor: int, heard: _Heard) -> None:
    """Take what is there now."""
    try:
        while block := os.read(descriptor, BLOCK_BYTES):
            heard.blocks.append((time.monotonic(), block))
    except BlockingIOError:
        return
    heard.whole = True


def _refuse_too_long(plan: Plan, heard: _Heard) -> None:
    limit = plan.limits.timeout_s
    if limit and time.monotonic() - heard.began_s > limit:
        raise RunTimeoutError("the plain script took longer than --timeout; it was stopped", hint="raise --timeout")


def _failed(place: Bare, heard: _Heard, status: int | None) -> OmniRTError:
    """The error of a script that did not end well."""
    scanner = LogScanner(())
    for at_s, block in heard.blocks:
        scanner.feed(block, at_s)
    how = f"exit code {status}" if status is not None else "a signal"
    last = " | ".join(scanner.tail()[-_LAST_LINES:])
    return ModelFailedError(f"the plain script ended with {how}: {last}", hint=f"see {place.plan.outputs.log}")


def _times(plan: Plan, heard: _Heard) -> dict[str, float]:
    """The script's phases, read from its log as OmniRT reads them."""
    timings = TimingBuilder()
    timings.spawned(heard.began_s)
    scanner = LogScanner(plan.adapter.log_rules(plan.variant))
    for at_s, block in heard.blocks:
        timings.first_output(at_s)
        for mark in scanner.feed(block, at_s):
            timings.mark(mark)
    timings.exited(heard.ended_s)
    built = timings.build(
        frames_per_chunk=plan.geometry.slice_frames,
        fps=plan.geometry.fps,
        core_scope=plan.adapter.core_scope(plan.encode_mode),
    )
    return dict(built.values)
