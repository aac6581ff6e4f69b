"""`--harness checkout`: the checkout's own benchmark, launched as a cold run is, and its table as figures.

What it prints is its own measurement: its core times leave out the audio encoding and the copy to the host. OmniRT adds
the percentiles of the chunks that it lists.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from launchers.command import Launcher, build_argv
from launchers.errors import LaunchError
from omnirt_cli.bench.bare import Bare, bare, cancelled
from omnirt_cli.bench.document import HarnessInfo, Row
from omnirt_cli.bench.fallback import fallback_line
from omnirt_cli.bench.runner import Outcome
from omnirt_cli.errors import ModelFailedError, OmniRTError
from omnirt_cli.models.rtf_harness import LOG_RULES, SCRIPT, HarnessTable, harness_args, read_table, require_harness
from omnirt_cli.plan import Plan
from omnirt_cli.planner import draft_plan
from omnirt_cli.report import RunReport
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.run import reporting
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.cold import ColdLaunch
from omnirt_cli.run.timings import TimingBuilder
from omnirt_cli.run.watch import ChildOutcome, Watch, WatchedRun
from omnirt_cli.settings import Layer

_TABLE_BYTES = 1 << 16


@dataclass
class HarnessRunner:
    """Runs the checkout's benchmark in place of renders.

    Attributes:
        tables: By the id of the run.
    """

    layer: Layer | None
    warmup_chunks: int
    num_chunks: int
    tables: dict[str, HarnessTable] = field(default_factory=dict)

    def run(self, request: Audio2VideoRequest, cancel: CancelToken) -> Outcome:
        """See base."""
        began = time.monotonic()
        try:
            plan = self._plan(request)
            with bare(plan, cancel) as place:
                return self._measured(place, cancel, began)
        except OmniRTError as error:
            return Outcome(error.report, error)

    def _plan(self, request: Audio2VideoRequest) -> Plan:
        plan = draft_plan(request, request_file=self.layer).require()
        require_harness(plan.checkout)
        return replace(plan, argv=self._argv(plan))

    def _argv(self, plan: Plan) -> tuple[str, ...]:
        args = harness_args(plan.call, warmup_chunks=self.warmup_chunks, num_chunks=self.num_chunks)
        script = plan.checkout.path / SCRIPT
        return build_argv(Launcher.PYTHON, python=plan.launch.python, script=script, args=args, processes=1)

    def _measured(self, place: Bare, cancel: CancelToken, began: float) -> Outcome:
        timings = TimingBuilder()
        timings.started(began)
        error: OmniRTError | None = None
        try:
            outcome = _launched(place, timings, cancel)
            self._judge(place, outcome, cancel)
        except OmniRTError as problem:
            error = problem
        timings.finished(time.monotonic())
        report = place.recorder.report
        _complete(report, place.plan, timings, error)
        if error is None:
            _take_over(report, self.tables[report.run_id])
        place.recorder.save()
        return Outcome(report, error)

    def _judge(self, place: Bare, outcome: ChildOutcome, cancel: CancelToken) -> None:
        """Refuse a bad end, and read the table of a good one.

        Raises:
            OmniRTError: It failed, was stopped, or printed no table.
        """
        log = place.plan.outputs.log
        went_on = _exit_code(outcome) == 0 and outcome.stop is None and fallback_line(place.plan, log) is not None
        # What gave quantizing up still printed its table, which is shown; a gate says what it is worth.
        if not went_on:
            reporting.refuse_bad_ending(place.recorder.report, outcome, lambda: cancelled(cancel))
        text = log.read_bytes()[-_TABLE_BYTES:].decode("utf-8", "replace")
        self.tables[place.recorder.report.run_id] = read_table(text.splitlines())

    def _of(self, row: Row) -> list[HarnessTable]:
        return [self.tables[run_id] for run_id in row.run_ids if run_id in self.tables]

    def figures(self, row: Row) -> dict[str, float]:
        """The row's figures: what the tables say, and beside it what the chunk lines and the launches gave."""
        tables = [table.figures for table in self._of(row)]
        names = dict.fromkeys(name for table in tables for name in table)
        return {**row.figures, **{name: _joined(name, [table[name] for table in tables]) for name in names}}

    def info(self, row: Row) -> HarnessInfo | None:
        """The row's last table; None where no run of it printed one."""
        tables = self._of(row)
        if not tables:
            return None
        return HarnessInfo(case=row.case, table=dict(tables[-1].rows), quantization=tables[-1].quantization)


def _launched(place: Bare, timings: TimingBuilder, cancel: CancelToken) -> ChildOutcome:
    plan = place.plan
    watch = Watch((*plan.adapter.log_rules(plan.variant), *LOG_RULES), devices=plan.visibility.ids or ())
    launch = ColdLaunch(plan.argv, plan.cwd, place.env, watch)
    run = WatchedRun(
        plan,
        watch,
        place.recorder,
        timings,
        cancel,
        start=partial(launch.start, plan, place.lock_fds),
        log=place.log.file,
    )
    try:
        return run.run()
    except LaunchError as error:
        raise ModelFailedError(error.message, hint=error.hint) from error


def _exit_code(outcome: ChildOutcome) -> int | None:
    return outcome.exit.code if outcome.exit else None


def _complete(report: RunReport, plan: Plan, timings: TimingBuilder, error: OmniRTError | None) -> None:
    """The end of the report; there is no video whose length a rate could be taken from."""
    reporting.complete(report, plan, timings, error)
    for name in ("rtf", "wall_rtf", "frames_per_second", "steady_rtf"):
        report.timings.pop(name, None)


def _take_over(report: RunReport, table: HarnessTable) -> None:
    """What only the table tells."""
    figures = table.figures
    report.timings.update({name: figures[name] for name in ("rtf", "model_load_ms") if name in figures})
    peak = figures.get("memory_peak_gib")
    if peak is not None and report.devices is not None:
        for device in report.devices.used:
            device.memory_peak_gib = peak


def _joined(name: str, values: Sequence[float]) -> float:
    """One figure of several tables: extremes stay extremes, the rest is averaged."""
    if name.endswith("_min"):
        return min(values)
    if name.endswith(("_max", "peak_gib")):
        return max(values)
    return round(statistics.fmean(values), 3)
