"""A plan's devices, directory and environment, for something else than a render to be launched in.

The same lease, the same look at memory, the same prepared files and the same environment as a cold run has; what is
started in them is the user's business.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from omnirt_cli.devices.leases import WaitCancelledError
from omnirt_cli.errors import BusyError, CancelledRunError
from omnirt_cli.files import storage_error
from omnirt_cli.media.audio import write_prepared
from omnirt_cli.media.image import write_portrait
from omnirt_cli.placement import Placement, Seat, judge_memory, place
from omnirt_cli.plan import Plan
from omnirt_cli.run import earlier, reporting
from omnirt_cli.run.cancel import CancelToken, Interrupted
from omnirt_cli.run.child_environment import child_environment
from omnirt_cli.run.recorder import Recorder
from omnirt_cli.run.run_log import RunLog
from omnirt_cli.run.scratch import Scratch


@dataclass(frozen=True)
class Bare:
    """What a launch finds.

    Attributes:
        plan: On the devices that are held.
        env: The child's whole environment.
        recorder: With the report that a launch may fill.
        lock_fds: For the guard to hold until the last process is gone.
    """

    plan: Plan
    env: Mapping[str, str]
    recorder: Recorder
    log: RunLog
    scratch: Scratch
    lock_fds: tuple[int, ...]


@contextlib.contextmanager
def bare(plan: Plan, cancel: CancelToken) -> Iterator[Bare]:
    """Take a plan's devices and prepare its directory; both are given back in the end.

    Raises:
        OmniRTError: They cannot be had, or it was cancelled meanwhile.
    """
    try:
        with _log(plan) as log, _scratch(plan) as scratch:
            with cancel.interruptible():
                scratch.hold_inputs(plan.portrait.path, plan.speech.path, plan.speech.stamp)
            with Seat(place(plan, environ=os.environ, cancel=cancel, on_wait=lambda _: None)) as seat:
                yield _prepared(plan, seat.placement, scratch, log, cancel)
    except (WaitCancelledError, Interrupted):
        raise cancelled(cancel) from None
    except OSError as error:
        raise storage_error(error, "the run could not store its files") from error


def cancelled(cancel: CancelToken) -> CancelledRunError:
    """The error of a launch that was stopped."""
    number = cancel.signal_number or signal.SIGINT
    return CancelledRunError(f"cancelled by {signal.Signals(number).name}", signal_number=number)


def _log(plan: Plan) -> RunLog:
    try:
        plan.outputs.folder.mkdir(parents=True, exist_ok=True)
        return RunLog.open(plan.outputs.log)
    except BlockingIOError as error:
        raise BusyError(f"another run is writing {plan.outputs.log}", hint="choose another --output-dir") from error


@contextlib.contextmanager
def _scratch(plan: Plan) -> Iterator[Scratch]:
    scratch = Scratch.create(plan.scratch, plan.outputs.report)
    try:
        yield scratch
    finally:
        scratch.close(remove=not plan.publish.keep_scratch)


def _prepared(plan: Plan, placement: Placement, scratch: Scratch, log: RunLog, cancel: CancelToken) -> Bare:
    """The plan on its devices, every file that it opens by a relative name, and its environment."""
    plan = plan.bind(placement.devices)
    memory = judge_memory(plan, placement.devices, os.environ)
    if memory.error is not None:
        raise memory.error
    recorder = Recorder(reporting.new_report(plan, memory.checks), plan.outputs, ())
    recorder.report.devices = reporting.devices_info(plan, placement.devices)
    for name in plan.checkout.relative_files:
        scratch.write(name, (plan.checkout.path / name).read_bytes())
    for name, content in plan.call.files.items():
        scratch.write(name, content)
    assert scratch.portrait is not None, "the inputs are held first"
    write_portrait(replace(plan.portrait, path=scratch.portrait.path), scratch.path)
    write_prepared(plan.speech, plan.audio, scratch.path / plan.names.audio)
    earlier.write_cache_files(plan.call.cache_files)
    env = child_environment(plan, cancel, log.write)
    assert recorder.report.command is not None
    recorder.report.command.env = dict(env.assigned)
    lock_fds = (scratch.lock_fd, log.file.fileno(), *placement.fds)
    return Bare(plan, env.env, recorder, log, scratch, lock_fds)
