"""`measure(...)`: the whole of a benchmark, from decided order to saved document."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnirt_cli.bench import baseline, growth
from omnirt_cli.bench.document import BenchReport, Sample
from omnirt_cli.bench.gates import Requirement, judge
from omnirt_cli.bench.harness import HarnessRunner
from omnirt_cli.bench.order import Order
from omnirt_cli.bench.overhead import Pairs
from omnirt_cli.bench.plain import run_plain
from omnirt_cli.bench.planned import Planned, plan_rows
from omnirt_cli.bench.runner import EngineRunner, Runner
from omnirt_cli.bench.session import Session
from omnirt_cli.bench.verdict import note_end, verdict
from omnirt_cli.bench.workers import stop_own_workers
from omnirt_cli.errors import OmniRTError, OutputUncreatableError
from omnirt_cli.files import storage_error, write_atomic
from omnirt_cli.models.base import Backend
from omnirt_cli.output_paths import existing_folder
from omnirt_cli.planner import draft_plan
from omnirt_cli.request import ExecutorChoice
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.stamps import utc_now

WARM_UP = "it warmed the machine up before the pairs"


@dataclass(frozen=True)
class Judgement:
    """What becomes of the figures.

    Attributes:
        required: Gates.
        baseline: An earlier document to compare with.
        save: Where the document goes besides the results' folder.
    """

    required: tuple[Requirement, ...] = ()
    baseline: Path | None = None
    save: Path | None = None


def measure(
    order: Order,
    judgement: Judgement,
    *,
    cancel: CancelToken,
    tell: Callable[[str], None],
    runner: Runner | None = None,
) -> tuple[BenchReport, OmniRTError | None]:
    """Measure, judge and save.

    Args:
        order: What is measured.
        judgement: What becomes of it.
        cancel: Ends it; what was measured until then is kept.
        tell: Shows the person a line.
        runner: Who carries requests out; the engine by default.

    Returns:
        The document, and what its exit code stands for.

    Raises:
        OmniRTError: It could not begin: a request that cannot work, a baseline that is none, a place that cannot be
            written.
    """
    before = baseline.read_baseline(judgement.baseline) if judgement.baseline else None
    if judgement.save is not None:
        _refuse_unwritable(judgement.save)
    warnings: list[str] = []
    order, rows = plan_rows(order, warnings.append)
    session = Session(order, rows, cancel, tell)
    for warning in warnings:
        session.warn(warning)
    session.open()
    _carry_out(session, order, rows, runner or EngineRunner(order.layer))
    report = session.report
    report.gates = [*session.quantized(), *judge(judgement.required, report.rows)]
    if order.duration_s:
        report.growth = growth.measure(report.samples)
        report.gates += growth.judge(report.samples, report.growth, has_devices=rows[0].plan.backend is not Backend.CPU)
    if before is not None:
        report.baseline = str(judgement.baseline)
        report.comparisons = baseline.compare(before, report.rows)
    error = verdict(report, session.errors, cancel)
    note_end(report, error)
    report.finished_at = utc_now()
    session.save()
    if judgement.save is not None:
        _save(report, judgement.save)
    return report, error


def _carry_out(session: Session, order: Order, rows: Sequence[Planned], runner: Runner) -> None:
    """Send the requests, in the way that was asked for, and make figures of them."""
    if order.harness:
        harness = HarnessRunner(order.layer, order.warmup_chunks, order.num_chunks or 1)
        session.run(harness)
        session.finish()
        _take_over(session.report, harness)
        return
    if order.against_script:
        _run_pairs(session, order, rows[0], runner)
    else:
        session.run(runner)
    stop_own_workers(session.report.samples, os.environ, session.warn)
    session.finish()


def _run_pairs(session: Session, order: Order, planned: Planned, runner: Runner) -> None:
    """The plain script and OmniRT's run of it, in turns."""

    def plain() -> dict[str, float]:
        session.tell("the plain script ...")
        request = order.plain_request(planned.case, session.output(planned.case, "plain"))
        return run_plain(draft_plan(request, request_file=order.layer).require(), session.cancel)

    def ours() -> Sample:
        sample = session.send(planned, runner, session.cancel)
        session.keep(sample)
        return sample

    session.send_uncounted(planned, runner, WARM_UP)
    pairs = Pairs()
    pairs.run(order.requests["cold"], plain, ours, lambda: session.cancel.asked)
    session.report.overhead = pairs.overhead(same_core=planned.plan.executor is ExecutorChoice.SCRIPT)
    session.errors += pairs.errors


def _take_over(report: BenchReport, harness: HarnessRunner) -> None:
    """The figures that the checkout's own benchmark printed."""
    for row in report.rows:
        row.figures = harness.figures(row)
        report.cold = row.figures
    report.harness = [info for row in report.rows if (info := harness.info(row)) is not None]


def _refuse_unwritable(place: Path) -> None:
    """See beforehand that the results can be saved: nobody wants to learn it after half an hour.

    Raises:
        OutputUncreatableError: They cannot.
    """
    folder = existing_folder(place.parent)
    if place.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputUncreatableError(f"--save {place} cannot be written", hint="name a file in a folder of yours")


def _save(report: BenchReport, place: Path) -> None:
    """Put the document where the user wants it.

    Raises:
        OutputUncreatableError, IOFailureError: It cannot be stored there.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, (report.model_dump_json(indent=2) + "\n").encode())
    except OSError as error:
        raise storage_error(error, "the results cannot be saved") from error
