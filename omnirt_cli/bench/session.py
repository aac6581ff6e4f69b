"""The benchmark itself: sends the requests of every row, cold before hot, and keeps what each gave.

A request that fails is a sample with its error and ends nothing. What was measured is on disk while the benchmark goes
on: not even SIGKILL loses more than the last seconds.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnirt_cli.bench import fallback
from omnirt_cli.bench.document import Asked, BenchReport, Heat, Row, Sample
from omnirt_cli.bench.order import Case, Order
from omnirt_cli.bench.planned import Planned
from omnirt_cli.bench.quota import Quota
from omnirt_cli.bench.rows import finished_row
from omnirt_cli.bench.runner import Outcome, Runner, sample_of
from omnirt_cli.bench.together import repeat, repeat_together
from omnirt_cli.checks import Check
from omnirt_cli.errors import CancelledRunError, OmniRTError
from omnirt_cli.files import storage_error, write_atomic
from omnirt_cli.report import RunReport
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.stamps import utc_now
from omnirt_cli.secrets import without_secrets

FILE_NAME = "bench.json"
ALONE = "it ran alone, before the concurrent ones"
_SAVE_EVERY_S = 2.0
_SOAK_LINE_EVERY_S = 5.0

Tell = Callable[[str], None]
"""Shows a line to the person."""


class Session:
    """One benchmark under way.

    Attributes:
        report: What is known so far.
        errors: Of the requests that failed, in their order.
        tell: Shows a line to the person.
    """

    def __init__(self, order: Order, planned: Sequence[Planned], cancel: CancelToken, tell: Tell) -> None:
        self.order = order
        self.cancel = cancel
        self.errors: list[OmniRTError] = []
        self.report = BenchReport(
            bench_id=str(uuid.uuid4()), started_at=utc_now(), folder=str(order.folder), asked=_asked(order)
        )
        self._planned = planned
        self.tell = tell
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._saved_at = 0.0
        self._shown_at = 0.0
        self._last: dict[tuple[str, Heat], RunReport] = {}

    def run(self, runner: Runner) -> None:
        """Send every request; return when none is left or the benchmark was cancelled.

        Raises:
            OutputUncreatableError, IOFailureError: The results cannot be stored.
        """
        for planned in self._planned:
            if self.cancel.asked:
                break
            self._run_row(planned, runner)

    def finish(self) -> None:
        """Make the figures of the samples."""
        report = self.report
        report.rows = [self._row(planned) for planned in self._planned if self._samples(planned)]
        report.cold = _last_figures(report.rows, "cold")
        report.hot = _last_figures(report.rows, "hot")

    def quantized(self) -> list[Check]:
        """Whether what was to be quantized was, row by row."""
        asked = [(planned, fallback.quantization(planned.plan)) for planned in self._planned]
        return [
            fallback.judge(planned.case.name, planned.heat, what, samples)
            for planned, what in asked
            if what is not None and (samples := self._samples(planned))
        ]

    def save(self) -> None:
        """Put what is known on disk.

        Raises:
            OutputUncreatableError, IOFailureError: The results cannot be stored.
        """
        try:
            write_atomic(self.order.folder / FILE_NAME, (self.report.model_dump_json(indent=2) + "\n").encode())
        except OSError as error:
            raise storage_error(error, "the benchmark's results cannot be written") from error
        self._saved_at = time.monotonic()

    def open(self) -> None:
        """Make the folder, with the document that says that a benchmark runs.

        Raises:
            OutputUncreatableError, IOFailureError: It cannot be written.
        """
        try:
            self.order.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, "the folder for the results cannot be made") from error
        self.save()

    # Rows

    def _run_row(self, planned: Planned, runner: Runner) -> None:
        wanted = None if self.order.duration_s else self.order.requests[planned.heat]
        deadline = time.monotonic() + self.order.duration_s if self.order.duration_s else None
        quota = Quota(wanted, deadline)
        self.tell(f"{planned.title}: {f'for {self.order.duration_s:.0f} s' if wanted is None else wanted} ...")
        work = _Work(self, planned, runner, quota)
        if planned.heat == "hot" and self.order.concurrency > 1:
            # Nobody gains by several requests waiting for one model to load.
            self.send_uncounted(planned, runner, ALONE)
            repeat_together(work, self.order.concurrency, self.cancel)
        else:
            repeat(work, self.cancel)
        if quota.left_out > 1:
            self.warn(f"{planned.title}: {quota.left_out} requests had to load the model: its worker does not stay")

    def send_uncounted(self, planned: Planned, runner: Runner, why: str) -> None:
        """One request that only prepares what comes; where it fails, that is told all the same."""
        sample = self.send(planned, runner, self.cancel)
        if sample.succeeded:
            sample.measured, sample.left_out = False, sample.left_out or why
        self.keep(sample)

    def send(self, planned: Planned, runner: Runner, cancel: CancelToken) -> Sample:
        """One request; what it gave is not kept yet."""
        output = self.output(planned.case, planned.heat)
        request = self.order.request_of(planned.case, planned.heat, output)
        began = time.monotonic()
        outcome = runner.run(request, cancel)
        began_ms = round((began - self._began) * 1000, 3)
        self.note(planned, outcome)
        sample = sample_of(outcome, request, heat=planned.heat, case=planned.case.name, began_ms=began_ms)
        if sample.log_path is not None and fallback.quantization(planned.plan) is not None:
            sample.fell_back = fallback.fallback_line(planned.plan, Path(sample.log_path))
        return sample

    def note(self, planned: Planned, outcome: Outcome) -> None:
        """Remember an outcome's error, its warnings, and the report that tells the row's conditions."""
        with self._lock:
            if outcome.error is not None and not isinstance(outcome.error, CancelledRunError):
                self.errors.append(outcome.error)
            if outcome.report is None:
                return
            for warning in outcome.report.warnings:
                self.warn(warning)
            if outcome.error is None or (planned.case.name, planned.heat) not in self._last:
                self._last[planned.case.name, planned.heat] = outcome.report

    def keep(self, sample: Sample) -> None:
        """Number a sample, store it, and tell of it."""
        with self._lock:
            sample.number = len(self.report.samples) + 1
            self.report.samples.append(sample)
            if self.order.duration_s:
                self._clear_away(sample)
            if time.monotonic() - self._saved_at > _SAVE_EVERY_S:
                self.save()
            self._show(sample)

    def _show(self, sample: Sample) -> None:
        """A line for each request; in a soak only now and then, and for each that failed."""
        if self.order.duration_s is None:
            self.tell(sample_line(sample))
            return
        now = time.monotonic()
        if not sample.succeeded:
            self.tell(sample_line(sample))
        elif now - self._shown_at > _SOAK_LINE_EVERY_S:
            self._shown_at = now
            self.tell(soak_line(self.report.samples, now - self._began, self.order.duration_s))

    def _clear_away(self, sample: Sample) -> None:
        """A soak's videos would fill the disk: of its good requests only the figures are kept."""
        if not sample.succeeded:
            return
        for path in (sample.output, sample.report_path, sample.log_path):
            if path is not None:
                with contextlib.suppress(OSError):
                    Path(path).unlink()
        sample.output = sample.report_path = sample.log_path = None

    def output(self, case: Case, what: str) -> Path:
        """A name of its own for every request."""
        words = [case.slug, what, uuid.uuid4().hex[:8]]
        return self.order.folder / ("-".join(word for word in words if word) + ".mp4")

    def warn(self, warning: str) -> None:
        """Note something once, however many requests say it."""
        if warning not in self.report.warnings:
            self.report.warnings.append(warning)
            self.tell(f"warning: {warning}")

    def _samples(self, planned: Planned) -> list[Sample]:
        return [
            sample for sample in self.report.samples if sample.case == planned.case.name and sample.heat == planned.heat
        ]

    def _row(self, planned: Planned) -> Row:
        last = self._last.get((planned.case.name, planned.heat))
        return finished_row(
            planned.plan,
            self._samples(planned),
            last,
            case=planned.case.name,
            heat=planned.heat,
            warmup_chunks=self.order.warmup_chunks,
            folder=self.order.folder,
        )


@dataclass(frozen=True)
class _Work:
    """What every sender repeats: take a request from the quota, send it, keep its sample."""

    session: Session
    planned: Planned
    runner: Runner
    quota: Quota

    def __call__(self, cancel: CancelToken) -> bool:
        if not self.quota.take():
            return False
        sample = self.session.send(self.planned, self.runner, cancel)
        self.quota.give_back(sample)
        self.session.keep(sample)
        return True


def sample_line(sample: Sample) -> str:
    """A sample in one line."""
    parts = [f"{sample.number}. {sample.heat}" + (f", {sample.case}" if sample.case else "")]
    if sample.end_to_end_ms is not None:
        parts.append(f"{sample.end_to_end_ms / 1000:.2f} s")
    steady = sample.timings.get("steady_chunk_interval_ms_avg")
    if steady is not None:
        parts.append(f"{steady / 1000:.3f} s a chunk")
    if sample.left_out:
        parts.append(f"not counted: {sample.left_out}")
    if sample.error is not None:
        parts.append(f"{sample.status.value}: {sample.error.message}")
    return "  ".join(parts)


def soak_line(samples: Sequence[Sample], spent_s: float, whole_s: float) -> str:
    """Where a soak stands, in one line."""
    failed = sum(not sample.succeeded for sample in samples)
    parts = [f"{spent_s:.0f} of {whole_s:.0f} s", f"{len(samples)} requests, {failed} failed"]
    last = samples[-1]
    if last.end_to_end_ms is not None:
        parts.append(f"the last {last.end_to_end_ms / 1000:.2f} s")
    if "host_peak_gib" in last.memory:
        parts.append(f"model {last.memory['host_peak_gib']:.2f} GiB")
    if "device_peak_gib" in last.memory:
        parts.append(f"device {last.memory['device_peak_gib']:.2f} GiB")
    return "  ".join(parts)


def _last_figures(rows: Sequence[Row], heat: Heat) -> dict[str, float] | None:
    found = [row.figures for row in rows if row.heat == heat]
    return found[-1] if found else None


def _asked(order: Order) -> Asked:
    request = order.request.model_dump(mode="json", exclude_none=True)
    if "env" in request["config"]:
        request["config"]["env"] = without_secrets(request["config"]["env"])
    return Asked(
        scenario=order.scenario,
        harness="checkout" if order.harness else None,
        heats=list(order.heats),
        warmup_chunks=order.warmup_chunks,
        num_chunks=order.num_chunks,
        requests={} if order.duration_s else {heat: order.requests[heat] for heat in order.heats},
        concurrency=order.concurrency,
        duration_s=order.duration_s,
        against_script=order.against_script,
        request=request,
    )
