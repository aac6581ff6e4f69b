"""A whole benchmark with made-up requests: what counts, what fails, what is on disk, how it ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from omnirt_cli.bench.document import BenchReport, BenchStatus
from omnirt_cli.bench.gates import parse_requirement
from omnirt_cli.bench.measure import Judgement, measure
from omnirt_cli.bench.order import Options, Order, decide
from omnirt_cli.bench.quota import FAILURES_IN_A_ROW
from omnirt_cli.bench.runner import Outcome
from omnirt_cli.bench.scenarios import with_scenario
from omnirt_cli.errors import (
    DevicesUnavailableError,
    ExitCode,
    InputInvalidError,
    ModelFailedError,
    OmniRTError,
    OutputUncreatableError,
    UsageError,
)
from omnirt_cli.report import ChunkInfo, RunStatus
from omnirt_cli.request import Audio2VideoRequest, BackendChoice, Config
from omnirt_cli.run.cancel import CancelToken
from tests.run import run_reports

Answer = Callable[[int, Audio2VideoRequest], Outcome]


def good(number: int, request: Audio2VideoRequest) -> Outcome:
    """A request that went well; the first hot one had to load."""
    hot = request.config.executor == "resident"
    timings = {"total_ms": 2000.0 + number, "denoise_loop_ms": 1500.0, "rtf": 0.9}
    if not hot or number == 0:
        timings["model_load_ms"] = 800.0
    chunks = [ChunkInfo(index=index, core_ms=900.0, core_scope="core", interval_ms=950.0) for index in range(3)]
    return Outcome(
        run_reports.report(
            run_id=f"00000000-0000-4000-8000-{number:012d}",
            execution_mode="persistent_worker" if hot else "subprocess",
            timings=timings,
            chunks=chunks,
        )
    )


def bad(error: OmniRTError) -> Outcome:
    return Outcome(run_reports.report(status=RunStatus.FAILED, timings={"total_ms": 10.0}, chunks=[]), error)


@dataclass
class Made:
    """A runner whose requests are made up."""

    answer: Answer = good
    asked: list[Audio2VideoRequest] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, request: Audio2VideoRequest, cancel: CancelToken) -> Outcome:
        with self.lock:
            number = len(self.asked)
            self.asked.append(request)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.01)
        outcome = self.answer(number, request)
        with self.lock:
            self.at_once -= 1
        return outcome


@pytest.fixture
def token() -> Iterator[CancelToken]:
    made = CancelToken()
    yield made
    made.close()


def order_of(tmp_path: Path, **said: Any) -> Order:
    config = Config(size="128*128", output_dir=str(tmp_path / "out"))
    request = Audio2VideoRequest(model="soulx-flashtalk-14b", backend=BackendChoice.CPU, config=config)
    heats = frozenset(said.pop("heats", ()))
    return decide(Options(heats=heats, **said), *with_scenario(None, request, None), cwd=tmp_path)


def run(
    tmp_path: Path, token: CancelToken, runner: Made, judgement: Judgement | None = None, **said: Any
) -> tuple[BenchReport, OmniRTError | None, list[str]]:
    told: list[str] = []
    order = order_of(tmp_path, **said)
    report, error = measure(order, judgement or Judgement(), cancel=token, tell=told.append, runner=runner)
    return report, error, told


def saved(tmp_path: Path) -> BenchReport:
    return BenchReport.model_validate_json((tmp_path / "out" / "bench.json").read_bytes())


def test_cold_and_hot_are_measured_apart(tmp_path: Path, token: CancelToken) -> None:
    runner = Made()

    report, error, _ = run(tmp_path, token, runner, heats=["cold", "hot"], requests=2)

    assert error is None
    assert [sample.heat for sample in report.samples] == ["cold", "cold", "hot", "hot"]
    assert [request.config.executor for request in runner.asked] == ["script", "script", "resident", "resident"]
    assert report.cold is not None
    assert report.hot is not None
    assert report.cold["end_to_end_ms_max"] == 2001.0
    assert report.hot["end_to_end_ms_min"] == 2002.0
    assert report.status is BenchStatus.SUCCEEDED


def test_what_is_printed_is_what_is_on_disk(tmp_path: Path, token: CancelToken) -> None:
    place = tmp_path / "deep" / "r.json"

    report, _, _ = run(tmp_path, token, Made(), Judgement(save=place), heats=["cold"])

    assert saved(tmp_path) == report
    assert BenchReport.model_validate_json(place.read_bytes()) == report


def test_the_first_hot_request_that_had_to_load_does_not_count(tmp_path: Path, token: CancelToken) -> None:
    report, _, _ = run(tmp_path, token, Made(), heats=["hot"], requests=2)

    assert [sample.measured for sample in report.samples] == [False, True, True]
    assert report.samples[0].left_out == "it had to load the model"
    assert report.hot is not None
    assert report.hot["requests"] == 2
    assert report.hot["load_ms_p50"] == 800.0


def test_a_worker_that_never_stays_ends_it_with_a_word(tmp_path: Path, token: CancelToken) -> None:
    def loads(number: int, request: Audio2VideoRequest) -> Outcome:
        return good(0, request)

    report, _, told = run(tmp_path, token, Made(loads), heats=["hot"], requests=5)

    assert len(report.samples) == 4
    assert any("its worker does not stay" in line for line in told)


def test_concurrent_requests_run_together_after_one_alone(tmp_path: Path, token: CancelToken) -> None:
    runner = Made()

    report, error, _ = run(tmp_path, token, runner, heats=["hot"], requests=8, concurrency=4)

    assert error is None
    assert runner.most_at_once == 4
    assert [sample.measured for sample in report.samples] == [False, *[True] * 8]
    assert len({request.config.output for request in runner.asked}) == 9
    assert [sample.number for sample in report.samples] == list(range(1, 10))


def test_the_one_that_ran_alone_does_not_count_even_where_it_was_hot(tmp_path: Path, token: CancelToken) -> None:
    runner = Made(lambda number, request: good(number + 1, request))

    report, _, _ = run(tmp_path, token, runner, heats=["hot"], requests=2, concurrency=2)

    assert report.samples[0].left_out == "it ran alone, before the concurrent ones"


def test_a_request_that_fails_is_a_sample_and_the_rest_goes_on(tmp_path: Path, token: CancelToken) -> None:
    def second_fails(number: int, request: Audio2VideoRequest) -> Outcome:
        return bad(ModelFailedError("the script failed")) if number == 1 else good(number, request)

    report, error, _ = run(tmp_path, token, Made(second_fails), heats=["cold"], requests=3)

    assert [sample.status.value for sample in report.samples] == ["succeeded", "failed", "succeeded"]
    assert error is not None
    assert error.exit_code is ExitCode.PARTIAL
    assert error.message == "1 of 3 requests failed"
    assert report.samples[1].error is not None
    assert report.samples[1].error.message == "the script failed"


def test_where_every_request_fails_its_own_code_is_the_end(tmp_path: Path, token: CancelToken) -> None:
    runner = Made(lambda number, request: bad(DevicesUnavailableError("no device")))

    report, error, _ = run(tmp_path, token, runner, heats=["cold"], requests=2)

    assert error is not None
    assert error.exit_code is ExitCode.DEVICES_UNAVAILABLE
    assert len(report.samples) == 2
    assert saved(tmp_path).status is BenchStatus.FAILED


def test_a_missed_gate_is_partial(tmp_path: Path, token: CancelToken) -> None:
    wanted = Judgement((parse_requirement("steady_rtf<=0.5"), parse_requirement("end_to_end_ms_p50<=9999")))

    report, error, _ = run(tmp_path, token, Made(), wanted, heats=["cold"])

    assert error is not None
    assert error.exit_code is ExitCode.PARTIAL
    assert error.message == "1 of 2 gates missed: cold.steady_rtf"
    assert [check.status.value for check in report.gates] == ["failed", "passed"]


def test_a_stop_keeps_what_was_measured(tmp_path: Path, token: CancelToken) -> None:
    def then_stop(number: int, request: Audio2VideoRequest) -> Outcome:
        if number == 1:
            token.cancel(15)
        return good(number, request)

    report, error, _ = run(tmp_path, token, Made(then_stop), heats=["cold"], requests=5)

    assert error is not None
    assert error.exit_status == 143
    assert len(report.samples) == 2
    assert report.cold is not None
    assert saved(tmp_path).status is BenchStatus.CANCELLED


def test_a_stop_reaches_requests_that_run_together(tmp_path: Path, token: CancelToken) -> None:
    asks: list[int] = []

    class Waits(Made):
        def run(self, request: Audio2VideoRequest, cancel: CancelToken) -> Outcome:
            if self.asked:
                token.cancel()
                while not cancel.asked:
                    time.sleep(0.01)
                asks.append(cancel.asks)
            return super().run(request, cancel)

    _, error, _ = run(tmp_path, token, Waits(), heats=["hot"], requests=50, concurrency=2)

    assert error is not None
    assert error.exit_status == 130
    assert len(asks) == 2


def test_a_bug_in_a_thread_is_not_swallowed(tmp_path: Path, token: CancelToken) -> None:
    def breaks(number: int, request: Audio2VideoRequest) -> Outcome:
        if number > 0:
            raise ZeroDivisionError
        return good(number, request)

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, token, Made(breaks), heats=["hot"], requests=4, concurrency=2)


def test_a_sweep_has_its_figures_row_by_row(tmp_path: Path, token: CancelToken) -> None:
    runner = Made()

    report, _, _ = run(tmp_path, token, runner, heats=["cold"], max_chunks="1,3,full")

    assert [row.case for row in report.rows] == ["max_chunks=1", "max_chunks=3", "max_chunks=full"]
    assert [request.config.max_chunks for request in runner.asked] == [1, 3, None]
    assert report.cold == report.rows[-1].figures
    assert all(row.conditions is not None and row.run_ids for row in report.rows)


def test_what_it_was_measured_under_is_recorded(tmp_path: Path, token: CancelToken) -> None:
    report, _, _ = run(tmp_path, token, Made(), heats=["cold"], warmup_chunks=2)

    found = report.rows[0].conditions
    assert found is not None
    assert found.devices == ["910B2", "910B2"]
    assert found.knobs["sample_steps"] == 2
    assert found.versions == {"ffmpeg": "5.1.9"}
    assert (found.warmup_chunks, found.chunk_frames, found.chunk_media_ms) == (2, 28, 1120.0)


def test_a_soak_goes_on_until_its_time_is_over_and_is_judged(tmp_path: Path, token: CancelToken) -> None:
    runner = Made(lambda number, request: good(number + 1, request))

    report, error, _ = run(tmp_path, token, runner, heats=["hot"], duration="1s")

    assert len(report.samples) > 5
    names = {check.name: check.status.value for check in report.gates}
    assert names["failures"] == "passed"
    assert names["growth of memory of the model's processes"] == "passed"
    assert error is None, error


def test_a_soak_in_which_nothing_works_stops_soon(tmp_path: Path, token: CancelToken) -> None:
    runner = Made(lambda number, request: bad(ModelFailedError("no")))

    report, error, _ = run(tmp_path, token, runner, heats=["hot"], duration="1h")

    assert len(report.samples) == FAILURES_IN_A_ROW
    assert error is not None
    assert error.exit_code is ExitCode.MODEL_FAILED


def test_a_soak_clears_its_good_videos_away_and_keeps_the_others(tmp_path: Path, token: CancelToken) -> None:
    def writes(number: int, request: Audio2VideoRequest) -> Outcome:
        log = Path(str(request.config.output)).with_suffix(".log")
        log.write_text("log")
        outcome = bad(ModelFailedError("no")) if number == 1 else good(number + 1, request)
        assert outcome.report is not None
        outcome.report.log_path = str(log)
        if number == 3:
            token.cancel()
        return outcome

    report, _, _ = run(tmp_path, token, Made(writes), heats=["hot"], duration="1h")

    (kept,) = (tmp_path / "out").glob("*.log")
    assert [sample.log_path for sample in report.samples] == [None, str(kept), None, None]


def test_a_baseline_is_compared_with(tmp_path: Path, token: CancelToken) -> None:
    run(tmp_path, token, Made(), heats=["cold"])
    before = tmp_path / "before.json"
    (tmp_path / "out" / "bench.json").rename(before)

    report, _, _ = run(tmp_path, token, Made(), Judgement(baseline=before), heats=["cold"])

    (found,) = report.comparisons
    assert found.comparable
    assert {pair.name: pair.ratio for pair in found.pairs}["end_to_end_ms_p50"] == 1.0


def test_a_bad_baseline_is_refused_before_anything_runs(tmp_path: Path, token: CancelToken) -> None:
    place = tmp_path / "before.json"
    place.write_text("{}")
    runner = Made()

    with pytest.raises(InputInvalidError):
        run(tmp_path, token, runner, Judgement(baseline=place), heats=["cold"])

    assert runner.asked == []


def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path, token: CancelToken) -> None:
    runner = Made()

    with pytest.raises(OutputUncreatableError, match="--save"):
        run(tmp_path, token, runner, Judgement(save=tmp_path), heats=["cold"])

    assert runner.asked == []


def test_a_request_that_cannot_work_is_refused_before_anything_runs(tmp_path: Path, token: CancelToken) -> None:
    runner = Made()
    order = order_of(tmp_path, heats=["cold"])
    config = order.request.config.model_copy(update={"t5_quant": "int8"})
    order = order.with_request(order.request.model_copy(update={"config": config}))

    with pytest.raises(UsageError, match="t5"):
        measure(order, Judgement(), cancel=token, tell=lambda _: None, runner=runner)

    assert runner.asked == []
    assert not (tmp_path / "out").exists()


def test_the_shipped_recording_is_repeated_where_it_is_too_short(tmp_path: Path, token: CancelToken) -> None:
    runner = Made()

    run(tmp_path, token, runner, heats=["cold"], num_chunks=20)

    assert runner.asked[0].inputs.audio == str(tmp_path / "out" / "speech-looped.wav")
    assert runner.asked[0].config.max_chunks == 21


def test_the_document_is_there_while_it_runs(tmp_path: Path, token: CancelToken) -> None:
    seen: list[dict[str, Any]] = []

    def looks(number: int, request: Audio2VideoRequest) -> Outcome:
        seen.append(json.loads((tmp_path / "out" / "bench.json").read_text()))
        return good(number, request)

    run(tmp_path, token, Made(looks), heats=["cold"])

    assert seen[0]["status"] == "running"
