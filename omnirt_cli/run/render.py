"""One plan carried out, from the first file to the report.

Whatever ends a run (a good end, a fault, a signal, a bug) ends it here: nothing started is left, what was made is kept,
and the report is on disk.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from launchers.errors import LaunchError, ProgramMissingError
from omnirt_cli.devices.leases import WaitCancelledError
from omnirt_cli.draft import Draft
from omnirt_cli.errors import (
    BusyError,
    CancelledRunError,
    InputMissingError,
    InternalError,
    ModelFailedError,
    OmniRTError,
    OutputInvalidError,
    RunTimeoutError,
)
from omnirt_cli.files import storage_error
from omnirt_cli.placement import Placement, Seat, device_warnings, judge_memory, place
from omnirt_cli.plan import Plan
from omnirt_cli.report import GenerateResult
from omnirt_cli.run import earlier, reporting
from omnirt_cli.run.beside import Beside
from omnirt_cli.run.cancel import CancelToken, Interrupted
from omnirt_cli.run.child_environment import child_environment
from omnirt_cli.run.cold import ColdLaunch
from omnirt_cli.run.events import Diagnosed, Listener, RunStarted, Stage, Warned
from omnirt_cli.run.log_facts import CLUE_RULES, LogFacts
from omnirt_cli.run.recorder import Recorder
from omnirt_cli.run.run_log import RunLog
from omnirt_cli.run.scratch import Scratch, complete_interrupted
from omnirt_cli.run.timings import TimingBuilder
from omnirt_cli.run.watch import ChildOutcome, Running, Watch, WatchedRun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from omnirt_cli.devices.device import Device
    from omnirt_cli.models.base import EarlierStep
    from omnirt_cli.resident.hot_request import HotRequest
    from omnirt_cli.resident.spec import HotFacts, WorkerInfo
    from omnirt_cli.run.device_use import SampledUse
    from omnirt_cli.run.hot import WorkerSeat
    from omnirt_cli.run.publish import Picture

SEATS_AT_MOST = 5
"""Workers that a render asks, one after the other, each stopped before it could be asked."""

EARLIER_POLL_S = 0.3
"""Between two looks at a step that another run is at."""


@dataclass
class Render:
    """One run's state; each method is a step of `run`."""

    plan: Plan
    listeners: tuple[Listener, ...]
    cancel: CancelToken
    began: float
    draft: Draft | None
    timings: TimingBuilder = field(default_factory=TimingBuilder)
    log_facts: LogFacts = field(default_factory=LogFacts)
    noted: bool = False
    use: SampledUse | None = None

    def run(self) -> GenerateResult:
        """Carry the plan out.

        Raises:
            OmniRTError: The run failed, was cancelled or timed out; the error carries the report.
        """
        plan = self.plan
        self.timings.started(self.began)
        report = reporting.new_report(plan, self.draft.checks.checks if self.draft else [])
        report.request = self.draft.asked if self.draft else {}
        self.recorder = Recorder(report, plan.outputs, self.listeners, began=self.began)
        with self._log() as log:
            self.log = log
            self._open()
            error: OmniRTError | None = None
            try:
                self._render()
            except OmniRTError as problem:
                error = problem
            except OSError as problem:
                error = storage_error(problem, "the run could not store its files")
            except Interrupted:
                error = self._cancelled()
            except KeyboardInterrupt:
                self._complete(CancelledRunError("cancelled by its caller", signal_number=signal.SIGINT))
                raise
            except Exception as problem:  # noqa: BLE001 - the run's edge: a bug must still leave a report
                error = self._bug(problem)
            return self._close(error)

    def _close(self, error: OmniRTError | None) -> GenerateResult:
        """Complete the report; return it, or raise what went wrong with it."""
        error = self._complete(error)
        report = self.recorder.report
        if error is not None:
            error.report = report
            raise error
        return GenerateResult(outputs=report.artifacts, metadata=report)

    # Beginning

    def _log(self) -> RunLog:
        """The run's log, locked against another run to the same output.

        Raises:
            OutputUncreatableError, IOFailureError: It cannot be made.
            BusyError: Another run writes this output now.
        """
        outputs = self.plan.outputs
        try:
            outputs.folder.mkdir(parents=True, exist_ok=True)
            return RunLog.open(outputs.log)
        except BlockingIOError as error:
            raise BusyError(
                f"another run is writing {outputs.video}", hint="wait for it, or choose another --output"
            ) from error
        except OSError as error:
            raise storage_error(error, "the log cannot be made") from error

    def _open(self) -> None:
        """Put the report with status `running` on disk, before anything is started."""
        plan, report = self.plan, self.recorder.report
        for folder in {plan.outputs.folder, plan.scratch.parent}:
            complete_interrupted(folder)
        report.scratch_dir = str(plan.scratch)
        try:
            self.recorder.save()
        except OSError as error:
            raise storage_error(error, "the report cannot be written") from error
        self.recorder.emit(
            RunStarted(
                model=plan.adapter.info.id,
                output=str(plan.outputs.video),
                log_path=str(plan.outputs.log),
                chunks=plan.expected.chunks,
                frames=plan.expected.frames,
                duration_s=plan.expected.duration_s,
            )
        )
        for warning in plan.warnings:
            self.recorder.warn(warning)

    # The run

    def _render(self) -> None:
        # Before the wait for devices: the directory's lock is how the next run knows that this one lives.
        scratch = Scratch.create(self.plan.scratch, self.plan.outputs.report)
        unfinished = False
        try:
            self._hold_inputs(scratch)
            with self._take_seat() as seat:
                self._bind(seat)
                self.recorder.enter(Stage.PREPARE)
                unfinished = True
                self._write_inputs(scratch)
                outcome = self._ask_worker(scratch, seat) if self.plan.resident else self._launch_cold(scratch, seat)
                self._collect(scratch, outcome)
                unfinished = False
        finally:
            self._put_away(scratch, rescue=unfinished)

    def _hold_inputs(self, scratch: Scratch) -> None:
        """From here on it does not matter what becomes of the files' names; copying a large one can be interrupted."""
        speech = self.plan.speech
        with self.cancel.interruptible():
            scratch.hold_inputs(self.plan.portrait.path, speech.path, speech.stamp)

    def _take_seat(self) -> Seat:
        """Find the worker or take the devices, waiting for them where that was asked for.

        Raises:
            DevicesUnavailableError: There are not enough, or they lack memory.
            BusyError: Other runs hold them.
        """
        asked = time.monotonic()
        try:
            if self.plan.resident:
                return self._seat_with_worker()
            return Seat(place(self.plan, environ=os.environ, cancel=self.cancel, on_wait=self._say_waiting))
        except WaitCancelledError:
            raise self._cancelled() from None
        finally:
            if self.plan.devices is not None:
                self.recorder.report.queue_wait_ms = round((time.monotonic() - asked) * 1000, 3)

    def _seat_with_worker(self) -> Seat:
        from omnirt_cli.run import hot

        return hot.take_seat(self.plan, environ=os.environ, cancel=self.cancel, on_wait=self._say_waiting)

    def _say_waiting(self, message: str) -> None:
        self.recorder.enter(Stage.WAIT, message)
        self._note_started()

    def _note_started(self) -> None:
        """Have `omnirt runs` know this run before it waits; without a wait that is done beside the launch."""
        if self.noted:
            return
        self.noted = True
        from omnirt_cli.runs.notes import note_started

        outputs = self.plan.outputs
        warning = note_started(self.recorder.report, outputs.report, outputs.log)
        if warning:
            self.recorder.warn(warning)

    def _bind(self, seat: Seat) -> None:
        """Settle the devices; where a model is still to be loaded, see that they have the memory."""
        self._refuse_if_cancelled()
        devices = seat.placement.devices
        self.plan = self.plan.bind(devices)
        report = self.recorder.report
        report.devices = reporting.devices_info(self.plan, devices)
        self.use = self._sampler(devices)
        if seat.loaded:
            return
        memory = judge_memory(self.plan, devices, os.environ)
        report.checks += memory.checks
        told = device_warnings(self.plan, devices)
        for warning in (*told, *reporting.warned_checks(memory.checks)):
            self.recorder.warn(warning)
        if memory.error is not None:
            raise memory.error

    def _sampler(self, devices: Sequence[Device]) -> SampledUse | None:
        if not devices:
            return None
        from omnirt_cli.run.device_use import SampledUse

        return SampledUse(self.plan.backend, devices, began=self.recorder.began, environ=os.environ)

    def _put_away(self, scratch: Scratch, *, rescue: bool) -> None:
        kept = self._rescue(scratch) if rescue else []
        self.recorder.report.kept += kept
        scratch.close(remove=not self.plan.publish.keep_scratch)
        if not self.plan.publish.keep_scratch:
            self.recorder.report.scratch_dir = None

    def _write_inputs(self, scratch: Scratch) -> None:
        """Portrait and sound, as the model is given them."""
        from omnirt_cli.media.audio import write_prepared
        from omnirt_cli.media.image import write_portrait

        plan = self.plan
        assert scratch.portrait is not None, "the inputs are held first"
        write_portrait(replace(plan.portrait, path=scratch.portrait.path), scratch.path)
        write_prepared(plan.speech, plan.audio, scratch.path / plan.names.audio)
        if plan.call.silent_name is not None:
            scratch.keep_picture_of(plan.call.silent_name)

    def _environment(self) -> dict[str, str]:
        """What a child of this run gets; the report says what of it is OmniRT's."""
        composed = child_environment(self.plan, self.cancel, self.log.write)
        report = self.recorder.report
        assert report.command is not None
        report.command.env = dict(composed.assigned)
        report.compile_cache = composed.compile_cache
        for warning in composed.warnings:
            self.recorder.warn(warning)
        return dict(composed.env)

    # Cold

    def _launch_cold(self, scratch: Scratch, seat: Seat) -> ChildOutcome:
        plan = self.plan
        for name in plan.checkout.relative_files:
            scratch.write(name, (plan.checkout.path / name).read_bytes())
        for name, content in plan.call.files.items():
            scratch.write(name, content)
        earlier.write_cache_files(plan.call.cache_files)
        env = self._environment()
        self._run_earlier(scratch, seat.placement, env)
        launch = ColdLaunch(plan.argv, plan.cwd, env, self._watch(Stage.LAUNCH))
        return self._run_beside(
            scratch, launch.watch, partial(launch.start, plan, self._locks(scratch, seat.placement))
        )

    def _locks(self, scratch: Scratch, placement: Placement) -> tuple[int, ...]:
        """What lasts until the last process is gone."""
        return (scratch.lock_fd, self.log.file.fileno(), *placement.fds)

    def _run_earlier(self, scratch: Scratch, placement: Placement, env: dict[str, str]) -> None:
        """The steps before the script, each only where what it makes is not there yet."""
        for step in self.plan.call.earlier:
            with earlier.StepRecord.of(step, partial(self._wait_for_step, step)) as record:
                if earlier.is_done(step, record):
                    continue
                began = time.monotonic()
                launch = earlier.launch_of(step, self.plan, env)
                start = partial(launch.start, self.plan, self._locks(scratch, placement))
                outcome = self._run(launch.watch, start, TimingBuilder())
                self._note_ending(outcome)
                reporting.refuse_bad_ending(self.recorder.report, outcome, self._cancelled, step=step)
                earlier.note_done(step, record)
                self.timings.earlier(step.name, began, time.monotonic())

    def _wait_for_step(self, step: EarlierStep) -> None:
        """Another run is at the same step: what it makes will do for this one, too."""
        self.recorder.enter(Stage.WAIT, f"another run is at the {step.name} step")
        self._note_started()
        self._refuse_if_cancelled()
        limit = self.plan.limits.timeout_s
        if limit and time.monotonic() - self.recorder.began > limit:
            raise RunTimeoutError(
                f"another run was still at the {step.name} step when --timeout was over",
                hint="wait for it, or raise --timeout",
            )
        select.select([self.cancel], [], [], EARLIER_POLL_S)

    # Hot

    def _ask_worker(self, scratch: Scratch, seat: Seat) -> ChildOutcome:
        """Have a worker render, started first where there is none."""
        from omnirt_cli.run import hot

        assert isinstance(seat, hot.WorkerSeat)
        seat, request = self._request(seat)
        worker = request.worker
        self._note_place(worker)
        if seat.loaded:
            self.plan = replace(self.plan, read_ahead=False)
        watch = self._watch(Stage.PREPARE if seat.loaded else Stage.LOAD, f"worker {worker.id}")
        outcome = self._run_beside(scratch, watch, lambda: request, worker_pid=request.pid or None)
        if request.facts is not None:
            self._note_worker(request.facts)
            if outcome.stop is None:
                return hot.explained(outcome, request.facts)
        return outcome

    def _request(self, seat: WorkerSeat) -> tuple[WorkerSeat, HotRequest]:
        """Ask a worker; where it was stopped since it was found, another one.

        Raises:
            OmniRTError: None can be had.
        """
        from omnirt_cli.run import hot

        for _ in range(SEATS_AT_MOST - 1):
            try:
                return seat, self._ask(seat)
            except (InputMissingError, BusyError):
                if not seat.loaded:
                    raise
            try:
                seat = hot.look_for_seat(
                    self.plan, seat.connection, environ=os.environ, cancel=self.cancel, on_wait=self._say_waiting
                )
            except WaitCancelledError:
                raise self._cancelled() from None
            self._bind(seat)
        return seat, self._ask(seat)

    def _ask(self, seat: WorkerSeat) -> HotRequest:
        from omnirt_cli.run import hot

        if seat.worker is not None:
            return hot.ask(self.plan, seat.connection, seat.worker)
        with contextlib.closing(seat.placement):  # the daemon has the leases then
            worker = hot.start_worker(self.plan, seat, self._environment())
        return hot.ask(self.plan, seat.connection, worker)

    def _note_place(self, worker: WorkerInfo) -> None:
        command = self.recorder.report.command
        assert command is not None
        command.cwd = worker.folder

    def _note_worker(self, facts: HotFacts) -> None:
        from omnirt_cli.run import hot

        report = self.recorder.report
        hot.note(report, self.timings, facts)
        if self.use is not None and facts.device_peak_bytes and report.devices:
            self.use.note_peak(report.devices.used[0].id, facts.device_peak_bytes)
            self.use.facts().put_into(report.devices)

    # Watching either

    def _watch(self, stage: Stage, detail: str | None = None) -> Watch:
        plan = self.plan
        rules = (*plan.adapter.log_rules(plan.variant), *CLUE_RULES)
        return Watch(rules, plan.launch.launcher, plan.visibility.ids or (), stage, detail)

    def _run_beside(
        self, scratch: Scratch, watch: Watch, start: Callable[[], Running], *, worker_pid: int | None = None
    ) -> ChildOutcome:
        """Run it, with what can be done beside it."""
        beside = Beside(self.plan, self.recorder, scratch, self.cancel, noted=self.noted)
        try:
            if self.use is not None:
                self.use.start(worker_pid)
            outcome = self._run(watch, start, self.timings, beside)
        finally:
            if self.use is not None:
                self.use.stop().put_into(self.recorder.report.devices)
            beside.stop()
        self.log_facts = outcome.log_facts
        if outcome.peak_memory_gib is not None:
            self.recorder.report.memory["host_peak_gib"] = outcome.peak_memory_gib
            self.recorder.report.memory["peak_mb"] = round(outcome.peak_memory_gib * 1024, 3)
        return outcome

    def _run(
        self, watch: Watch, start: Callable[[], Running], timings: TimingBuilder, beside: Beside | None = None
    ) -> ChildOutcome:
        self._refuse_if_cancelled()
        run = WatchedRun(
            self.plan, watch, self.recorder, timings, self.cancel, start=start, log=self.log.file, beside=beside
        )
        try:
            return run.run()
        except ProgramMissingError as error:
            raise InputMissingError(error.message, hint=error.hint) from error
        except LaunchError as error:
            raise ModelFailedError(error.message, hint=error.hint) from error

    def _refuse_if_cancelled(self) -> None:
        if self.cancel.asked:
            raise self._cancelled()

    def _cancelled(self) -> CancelledRunError:
        number = self.cancel.signal_number or signal.SIGINT
        left = (
            "its worker stays, and ends the chunk that it is at"
            if self.plan.resident
            else "nothing of it is left running"
        )
        return CancelledRunError(
            f"cancelled by {signal.Signals(number).name}",
            signal_number=number,
            hint=f"{left}; `omnirt runs rerun` repeats it",
        )

    # Its end

    def _collect(self, scratch: Scratch, outcome: ChildOutcome) -> None:
        """Judge how the child ended, and publish what it made.

        Raises:
            OmniRTError: The child failed, was stopped, or its video is not what was asked for.
        """
        from omnirt_cli.run import publish

        self._note_ending(outcome)
        picture = publish.find_picture(self.plan, scratch)
        whole = picture is not None and picture.frames >= self.plan.expected.frames
        if not (whole and reporting.only_mux_failed(outcome)):
            reporting.refuse_bad_ending(self.recorder.report, outcome, self._cancelled)
        if picture is None:
            raise OutputInvalidError(
                "the script ended well and left no video",
                hint="its save routine lost it; the end of the log shows what its ffmpeg said",
            )
        if picture.repaired:
            self.recorder.warn("the script's own mux failed; the video was repaired from its silent picture")
        self._publish(scratch, picture)

    def _note_ending(self, outcome: ChildOutcome) -> None:
        if outcome.leftovers:
            self.recorder.warn(f"processes outlived the launcher and were ended: {', '.join(outcome.leftovers)}")
        if outcome.guard_lost:
            self.recorder.warn("the guard process was killed from outside; what it watched was swept")

    def _publish(self, scratch: Scratch, picture: Picture) -> None:
        from omnirt_cli.run import publish

        plan, report = self.plan, self.recorder.report
        self.recorder.enter(Stage.VERIFY)
        with self.cancel.interruptible():
            publish.deliver_picture(plan, scratch, picture, plan.checkout.revision)
            made = publish.fingerprint(scratch.delivered)
            checks, facts = publish.verify(plan, scratch.delivered, picture.seen)
        report.checks += checks
        publish.refuse_invalid(checks)
        publish.refuse_changed(scratch.delivered, made)
        self._refuse_if_cancelled()
        publish.put_in_place(scratch.delivered, plan.outputs.video, no_clobber=plan.publish.no_clobber)
        self.timings.published(time.monotonic())
        report.artifacts.append(publish.artifact(plan.outputs.video, facts))
        for check in reporting.warned_checks(checks):
            self.recorder.warn(check)

    def _rescue(self, scratch: Scratch) -> list[str]:
        """Keep what a failed run made: a rejected video, else what is whole of it, else the picture without sound."""
        from omnirt_cli.run import publish

        outputs = self.plan.outputs
        kept = publish.keep(scratch.delivered, outputs.failed)
        if kept is None and self.plan.driven:
            kept = self._finish_part(scratch)
        elif kept is None:
            result = scratch.path / self.plan.call.result_name
            kept = publish.keep(result, outputs.failed) or publish.keep(scratch.picture, outputs.partial)
        return [str(kept)] if kept else []

    def _finish_part(self, scratch: Scratch) -> Path | None:
        """Make a video with sound of the chunks that were finished; where that fails, their picture is kept alone."""
        from omnirt_cli.run import publish, unfinished

        self.recorder.enter(Stage.VERIFY)
        plan = self.plan
        if self.cancel.asked and plan.verify.mode == "full":  # who stops a run does not wait for a long decode
            plan = replace(plan, verify=replace(plan.verify, mode="fast"))
        try:
            with self.cancel.interruptible_again():
                part = unfinished.finish(plan, scratch)
        except (OmniRTError, OSError, Interrupted) as problem:
            why = str(problem) or "it was interrupted"
            self.recorder.warn(f"the finished chunks could not be put together with their sound: {why}")
            return publish.keep(scratch.picture, self.plan.outputs.partial)
        if part is None:
            return None
        self.recorder.report.checks.append(part.check)
        self.recorder.warn(f"{part.check.detail}: {part.path}")
        return part.path

    def _bug(self, problem: Exception) -> InternalError:
        self._log_traceback(problem)
        return InternalError(
            f"a bug in OmniRT: {type(problem).__name__}: {problem}",
            hint=f"the traceback is at the end of {self.plan.outputs.log}; please report it",
        )

    def _log_traceback(self, problem: Exception) -> None:
        text = "".join(traceback.format_exception(type(problem), problem, problem.__traceback__))
        try:
            self.log.write(text.encode())
        except OSError:
            sys.stderr.write(text)

    def _diagnose(self) -> None:
        """Say what the report shows to a reader who knows the models: what was slow, what was missing."""
        from omnirt_cli.run.diagnosis import diagnose_run
        from omnirt_cli.runs.history import earlier as earlier_runs

        report = self.recorder.report
        report.findings = diagnose_run(report, self.log_facts, earlier_runs(report), self.plan.adapter.card)
        for finding in report.findings:
            self.recorder.emit(Diagnosed(finding=finding))

    def _complete(self, error: OmniRTError | None) -> OmniRTError | None:
        """Complete and save the report; what went wrong, which may be the saving itself."""
        self.timings.finished(time.monotonic())
        report = self.recorder.report
        reporting.complete(report, self.plan, self.timings, error)
        try:
            self._diagnose()
        except Exception as problem:  # noqa: BLE001 - the run's edge: a finding is not worth a video
            self._log_traceback(problem)
            self.recorder.warn(f"a bug in OmniRT: the run could not be diagnosed: {type(problem).__name__}: {problem}")
        try:
            self.recorder.save()
        except OSError as problem:
            error = error or storage_error(problem, "the report cannot be written")
            reporting.set_error(report, error)
        self._note_finished()
        self.recorder.finish(error)
        return error

    def _note_finished(self) -> None:
        from omnirt_cli.runs.notes import note_finished

        outputs = self.plan.outputs
        report, days = self.recorder.report, self.plan.keep_runs_days
        warning = note_finished(report, outputs.report, outputs.log, keep_days=days)
        if warning:
            self.recorder.emit(Warned(message=warning))
