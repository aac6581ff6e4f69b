"""`generate(request)` plans and renders one request; `render(plan)` renders a plan that is there already.

The command line, Python and whatever else renders come through here. How a plan is carried out is `run.render`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from omnirt_cli.draft import Draft
from omnirt_cli.errors import ExitCode, InternalError, OmniRTError
from omnirt_cli.inputs import InputLooks, sample_inputs
from omnirt_cli.output_paths import OutputPaths
from omnirt_cli.plan import Plan
from omnirt_cli.planner import draft_plan
from omnirt_cli.report import GenerateResult
from omnirt_cli.request import Audio2VideoRequest, ExecutorChoice
from omnirt_cli.run import reporting
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.events import Listener
from omnirt_cli.run.recorder import Recorder
from omnirt_cli.run.render import Render
from omnirt_cli.run.run_log import RunLog
from omnirt_cli.settings import Layer, Surroundings

if TYPE_CHECKING:
    from omnirt_cli.resident.spec import WorkerInfo


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


def start_worker(
    request: Audio2VideoRequest,
    *,
    cancel: CancelToken | None = None,
    request_file: Layer | None = None,
    surroundings: Surroundings | None = None,
) -> WorkerInfo:
    """Have a resident worker load a model, so that the first render finds it there.

    Args:
        request: Model, place, launch and knobs; inputs and output are not looked at.
        cancel: Ends a wait for devices.
        request_file: The `--config` file's layer, where there is one.
        surroundings: Environment, working directory and user files; this process's by default.

    Returns:
        The worker as it is now: a new one is still loading.

    Raises:
        OmniRTError: It cannot be started.
    """
    import tempfile

    from omnirt_cli.run.hot import start_for

    around = surroundings or Surroundings.current()
    config = request.config.model_copy(
        update={"executor": ExecutorChoice.RESIDENT.value, "output": None, "output_dir": tempfile.gettempdir()}
    )
    asked = request.model_copy(update={"inputs": sample_inputs(), "config": config})
    plan = draft_plan(asked, request_file=request_file, surroundings=around).require()
    token = cancel or CancelToken()
    try:
        return start_for(plan, environ=around.environ, cancel=token)
    finally:
        if cancel is None:
            token.close()


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
        return Render(plan, tuple(listeners), token, time.monotonic() if began is None else began, draft).run()
    finally:
        if cancel is None:
            token.close()
