"""`render(plan)`: one plan carried out, from the first file to the report.

Whatever ends a run (a good end, a fault, a signal, a bug) ends it here: nothing started is left, what was made is kept,
and the report is on disk. `generate(request)` is the same with planning before it; the command line and Python call it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from launchers.env_script import capture_env_script
from launchers.environment import compose_environment
from launchers.errors import EnvScriptFailedError, EnvScriptUnreadableError, LaunchError, ProgramMissingError
from launchers.proctable import RUN_MARK
from omnirt_cli.devices.visibility import VARIABLES
from omnirt_cli.draft import Draft
from omnirt_cli.errors import (
    BusyError,
    CancelledRunError,
    ConfigInvalidError,
    ExitCode,
    InputMissingError,
    InternalError,
    ModelFailedError,
    OmniRTError,
    OutputInvalidError,
)
from omnirt_cli.files import storage_error
from omnirt_cli.inputs import InputLooks
from omnirt_cli.output_paths import OutputPaths
from omnirt_cli.plan import Plan
from omnirt_cli.planner import draft_plan
from omnirt_cli.report import GenerateResult
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.run import reporting
from omnirt_cli.run.cancel import CancelToken, Interrupted
from omnirt_cli.run.cold import ChildOutcome, ColdRun
from omnirt_cli.run.events import Listener, RunStarted, Stage
from omnirt_cli.run.recorder import Recorder
from omnirt_cli.run.run_log import RunLog
from omnirt_cli.run.scratch import Scratch, complete_interrupted
from omnirt_cli.run.timings import TimingBuilder
from omnirt_cli.secrets import without_secrets
from omnirt_cli.settings import Layer, Surroundings

if TYPE_CHECKING:
    from omnirt_cli.run.publish import Picture

_OWN_ROOT = Path(__file__).resolve().parents[1]


def generate(
    request: Audio2VideoRequest,
    *,
    on_event: Callable[..., None] | None = None,
    cancel: CancelToken | None = None,
    request_file: Layer | None = None,
    surroundings: Surroundings | None = None,
    began: float | None = None,
    looks: InputLooks | None = None,
) -> GenerateResult:
    """Plan and render one request.

    Args:
        request: What is wanted.
        on_event: Called with every event, in order, in this thread; must not block.
        cancel: A token by which another thread or a signal handler stops the run.
        request_file: The `--config` file's layer, where there is one.
        surroundings: Environment, working directory and user files; this process's by default.
        began: Monotonic seconds at which the request came in.
        looks: Looks at the inputs that are under way already.

    Raises:
        OmniRTError: The run failed; the error carries the report where there is one.
    """
    began = time.monotonic() if began is None else began
    draft = draft_plan(request, request_file=request_file, surroundings=surroundings, looks=looks)
    listeners = [on_event] if on_event is not None else []
    if draft.plan is None:
        raise _refused(draft, listeners, began)
    return render(draft.plan, listeners=listeners, cancel=cancel, began=began, draft=draft)


def _refused(draft: Draft, listeners: Iterable[Listener], began: float) -> OmniRTError:
    """The error of a request that no plan could be made of; its report is written where that is possible."""
    error = draft.checks.error() or InternalError("no check failed, and yet there is no plan")
    report = reporting.refused_report(draft, error)
    error.report = report
    if draft.outputs is None:
        return error
    recorder = Recorder(report, draft.outputs, listeners, began=began)
    if _may_report_refusal(draft.outputs, error):
        # A place that cannot be written is told by the error itself.
        with contextlib.suppress(OSError):
            draft.outputs.folder.mkdir(parents=True, exist_ok=True)
            recorder.save()
    recorder.finish(error)
    return error


def _may_report_refusal(outputs: OutputPaths, error: OmniRTError) -> bool:
    """A mistyped command leaves no files, and no refusal replaces the report of a run that lives or must be kept."""
    if error.exit_code in (ExitCode.USAGE, ExitCode.CONFIG_INVALID, ExitCode.OUTPUT_UNCREATABLE):
        return False
    return not RunLog.is_held(outputs.log)


def render(
    plan: Plan,
    *,
    listeners: Iterable[Listener] = (),
    cancel: CancelToken | None = None,
    began: float | None = None,
    draft: Draft | None = None,
) -> GenerateResult:
    """Carry out one plan, cold.

    Raises:
        OmniRTError: The run failed, was cancelled or timed out; the error carries the report.
    """
    token = cancel or CancelToken()
    try:
        return _Render(plan, tuple(listeners), token, time.monotonic() if began is None else began, draft).run()
    finally:
        if cancel is None:
            token.close()


@dataclass
class _Render:
    """One run's state; each method is a step of `run`."""

    plan: Plan
    listeners: tuple[Listener, ...]
    cancel: CancelToken
    began: float
    draft: Draft | None
    timings: TimingBuilder = field(default_factory=TimingBuilder)

    def run(self) -> GenerateResult:
        plan = self.plan
        self.timings.started(self.began)
        report = reporting.new_report(plan, self.draft.checks.checks if self.draft else [])
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
        plan = self.plan
        self.recorder.enter(Stage.PREPARE)
        scratch = Scratch.create(plan.scratch, plan.outputs.report)
        keep_scratch = True
        try:
            env = self._prepare(scratch)
            outcome = self._launch(scratch, env)
            self._collect(scratch, outcome)
            keep_scratch = plan.publish.keep_scratch
        finally:
            kept = self._rescue(scratch) if keep_scratch else []
            self.recorder.report.kept += kept
            scratch.close(remove=not plan.publish.keep_scratch)
            if not plan.publish.keep_scratch:
                self.recorder.report.scratch_dir = None

    def _prepare(self, scratch: Scratch) -> dict[str, str]:
        """Everything that the script finds in its directory and in its environment."""
        from omnirt_cli.media.audio import write_prepared
        from omnirt_cli.media.image import write_portrait

        plan = self.plan
        for name in plan.checkout.relative_files:
            scratch.write(name, (plan.checkout.path / name).read_bytes())
        for name, content in plan.call.files.items():
            scratch.write(name, content)
        write_portrait(plan.portrait, scratch.path)
        write_prepared(plan.speech, plan.audio, scratch.path / plan.names.audio)
        if plan.call.silent_name is not None:
            scratch.keep_picture_of(plan.call.silent_name)
        return self._environment()

    def _environment(self) -> dict[str, str]:
        """The child's whole environment.

        Raises:
            InputMissingError: The env script cannot be read.
            ConfigInvalidError: The env script failed.
        """
        plan = self.plan
        visibility = VARIABLES.get(plan.backend)
        base = dict(os.environ)
        composed = compose_environment(
            base,
            visibility=visibility,
            own_roots=(_OWN_ROOT,),
            script_env=self._env_script(base) if plan.env_script else None,
            overlay={**plan.env, RUN_MARK: plan.run_id},
            user=plan.user_env,
        )
        command = self.recorder.report.command
        assert command is not None
        command.env = without_secrets(composed.assigned)
        return dict(composed.env)

    def _env_script(self, base: dict[str, str]) -> dict[str, str]:
        assert self.plan.env_script is not None
        try:
            with self.cancel.interruptible():
                captured = capture_env_script(self.plan.env_script, base)
        except (EnvScriptUnreadableError, ProgramMissingError) as error:
            raise InputMissingError(error.message, hint=error.hint) from error
        except EnvScriptFailedError as error:
            self.log.write(error.output)
            raise ConfigInvalidError(error.message, hint=error.hint) from error
        self.log.write(captured.output)
        for warning in captured.warnings:
            self.recorder.warn(warning)
        return dict(captured.env)

    def _launch(self, scratch: Scratch, env: dict[str, str]) -> ChildOutcome:
        self._refuse_if_cancelled()
        run = ColdRun(
            self.plan,
            env,
            self.recorder,
            self.timings,
            self.cancel,
            log=self.log.file,
            lock_fds=(scratch.lock_fd, self.log.file.fileno()),
        )
        # Hashes and versions cost nothing here: the model is loading.
        facts = threading.Thread(target=reporting.add_slow_facts, args=(self.recorder.report, self.plan), daemon=True)
        facts.start()
        try:
            outcome = run.run()
        except ProgramMissingError as error:
            raise InputMissingError(error.message, hint=error.hint) from error
        except LaunchError as error:
            raise ModelFailedError(error.message, hint=error.hint) from error
        finally:
            facts.join()
        if outcome.peak_memory_gib is not None:
            self.recorder.report.memory["host_peak_gib"] = outcome.peak_memory_gib
            self.recorder.report.memory["peak_mb"] = round(outcome.peak_memory_gib * 1024, 3)
        return outcome

    def _refuse_if_cancelled(self) -> None:
        if self.cancel.asked:
            raise self._cancelled()

    def _cancelled(self) -> CancelledRunError:
        number = self.cancel.signal_number or signal.SIGINT
        return CancelledRunError(f"cancelled by {signal.Signals(number).name}", signal_number=number)

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
            checks, facts = publish.verify(plan, scratch.delivered)
        report.checks += checks
        publish.refuse_invalid(checks)
        self._refuse_if_cancelled()
        publish.put_in_place(scratch.delivered, plan.outputs.video, no_clobber=plan.publish.no_clobber)
        self.timings.published(time.monotonic())
        report.artifacts.append(publish.artifact(plan.outputs.video, facts))
        for check in reporting.warned_checks(checks):
            self.recorder.warn(check)

    def _rescue(self, scratch: Scratch) -> list[str]:
        """Keep what a failed run made: a rejected video, else the picture without its sound."""
        from omnirt_cli.run import publish

        outputs = self.plan.outputs
        kept = publish.keep(scratch.delivered, outputs.failed)
        if kept is None:
            result = scratch.path / self.plan.call.result_name
            kept = publish.keep(result, outputs.failed) or publish.keep(scratch.picture, outputs.partial)
        return [str(kept)] if kept else []

    def _bug(self, problem: Exception) -> InternalError:
        text = "".join(traceback.format_exception(type(problem), problem, problem.__traceback__))
        try:
            self.log.write(text.encode())
        except OSError:
            sys.stderr.write(text)
        return InternalError(
            f"a bug in OmniRT: {type(problem).__name__}: {problem}",
            hint=f"the traceback is at the end of {self.plan.outputs.log}; please report it",
        )

    def _complete(self, error: OmniRTError | None) -> OmniRTError | None:
        """Complete and save the report; what went wrong, which may be the saving itself."""
        self.timings.finished(time.monotonic())
        report = self.recorder.report
        reporting.complete(report, self.plan, self.timings, error)
        try:
            self.recorder.save()
        except OSError as problem:
            error = error or storage_error(problem, "the report cannot be written")
        self.recorder.finish(error)
        return error
