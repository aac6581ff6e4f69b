"""Whether a run was slow, by this machine's own earlier runs, and never by what is unlike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from run_reports import FLASHHEAD, failed, report, timings

from omnirt_cli.finding import Finding
from omnirt_cli.models.card import ModelCard, model_card
from omnirt_cli.report import ExpectedInfo, RunReport
from omnirt_cli.run.slowness import RUNS_AT_LEAST, slow_findings
from omnirt_cli.runs.past import PastRun

USUAL = PastRun(
    run_id="earlier",
    total_ms=124_000.0,
    model_load_ms=32_000.0,
    first_chunk_ms=2_500.0,
    steady_chunk_ms=1_380.0,
    rtf=1.2,
    steady_rtf=1.2,
    save_ms=5_000.0,
    chunk_count=54,
    started_at="2026-11-10T12:00:00.000Z",
)


def runs(*changes: dict[str, Any]) -> list[PastRun]:
    return [replace(USUAL, run_id=f"earlier-{number}", **change) for number, change in enumerate(changes)]


def slow(made: RunReport, past: list[PastRun], card: ModelCard | None = None) -> Finding | None:
    found = slow_findings(made, past, card)
    assert len(found) <= 1
    return found[0] if found else None


GROWN = [
    (
        {"model_load_ms": 160_000.0},
        "loading the model took 160 s instead of 32.0 s (5.0 times; 3 earlier runs",
        "iostat",
    ),
    ({"first_chunk_ms": 39_000.0}, "the first chunk took 39.0 s instead of 2.5 s", "versions"),
    ({"steady_chunk_core_ms_avg": 2_000.0}, "a steady chunk took 2.0 s instead of 1.4 s (1.4 times", "nvidia-smi"),
    ({"save_ms": 20_000.0}, "saving the video took 20.0 s instead of 5.0 s", "local disk"),
]


@pytest.mark.parametrize(("changes", "says", "do"), GROWN, ids=["load", "first", "steady", "save"])
def test_the_phase_that_grew_is_named(changes: dict[str, float], says: str, do: str) -> None:
    found = slow(report(timings=timings(**changes)), runs({}, {}, {}))

    assert found is not None
    assert found.code == "slower_than_before"
    assert says in found.what
    assert do in found.do
    assert found.what.count(" instead of ") == 1


def test_of_several_the_costliest_comes_first_and_gives_the_advice() -> None:
    grown = timings(model_load_ms=60_000.0, steady_chunk_core_ms_avg=2_760.0)

    found = slow(report(timings=grown), runs({}, {}, {}))

    assert found is not None
    assert found.what.index("a steady chunk") < found.what.index("loading the model")
    assert "throttled" in found.why


def test_a_run_as_fast_as_ever_is_not_slow() -> None:
    assert slow(report(), runs({}, {}, {})) is None


def test_a_little_slower_is_not_slow() -> None:
    assert slow(report(timings=timings(model_load_ms=32_000.0 * 1.29)), runs({}, {}, {})) is None


def test_two_earlier_runs_are_too_few() -> None:
    assert RUNS_AT_LEAST == 3
    assert slow(report(timings=timings(model_load_ms=160_000.0)), runs({}, {})) is None


def test_a_machine_whose_times_vary_that_much_is_not_slow() -> None:
    varied = [{"model_load_ms": load} for load in (20_000.0, 26_000.0, 32_000.0, 40_000.0, 47_000.0)]

    assert slow(report(timings=timings(model_load_ms=45_000.0)), runs(*varied)) is None
    assert slow(report(timings=timings(model_load_ms=80_000.0)), runs(*varied)) is not None


def test_what_nobody_notices_is_not_told() -> None:
    quick = [{"model_load_ms": 200.0, "first_chunk_ms": 50.0, "steady_chunk_ms": 10.0, "save_ms": 30.0}] * 3
    own = timings(model_load_ms=400.0, first_chunk_ms=100.0, steady_chunk_core_ms_avg=20.0, save_ms=60.0)

    assert slow(report(timings=own), runs(*quick)) is None


def test_a_steady_chunk_is_judged_by_what_all_of_them_cost() -> None:
    quick = runs(*[{"steady_chunk_ms": 100.0}] * 3)
    twice = {"steady_chunk_core_ms_avg": 200.0}

    assert slow(report(timings=timings(**twice, chunk_count=54.0)), quick) is not None
    assert slow(report(timings=timings(**twice, chunk_count=3.0)), quick) is None


def test_a_run_is_not_compared_with_itself() -> None:
    made = report(timings=timings(model_load_ms=160_000.0))
    past = [*runs({}, {}), replace(USUAL, run_id=made.run_id)]

    assert slow(made, past) is None


def test_cold_is_not_compared_with_hot() -> None:
    hot = runs(*[{"model_load_ms": None, "first_chunk_ms": 700.0, "steady_chunk_ms": 700.0}] * 4)

    assert slow(report(), hot) is None


def test_the_first_chunk_is_not_compared_with_steady_ones() -> None:
    one = runs(*[{"first_chunk_ms": None}] * 4)

    assert slow(report(timings=timings(first_chunk_ms=39_000.0)), one) is None


def test_saving_is_compared_only_among_videos_of_one_length() -> None:
    short = runs(*[{"chunk_count": 9, "save_ms": 800.0}] * 4)

    assert slow(report(), short) is None


def test_only_the_latest_runs_count() -> None:
    long_ago = runs(*[{"started_at": "2025-01-01T00:00:00.000Z"}] * 30)
    now = runs(*[{"model_load_ms": 160_000.0, "started_at": "2026-11-19T00:00:00.000Z"}] * 20)

    assert slow(report(timings=timings(model_load_ms=160_000.0)), [*now, *long_ago]) is None


def test_a_failed_run_is_compared_with_nothing() -> None:
    made = report(**{**failed("model_failed", "it failed"), "timings": timings(model_load_ms=160_000.0)})

    assert slow(made, runs({}, {}, {}), model_card(FLASHHEAD)) is None


def test_own_runs_speak_instead_of_published_figures() -> None:
    ten_seconds = ExpectedInfo(chunks=9, frames=250, fps=25, duration_s=10, width=512, height=512)
    made = report(expected=ten_seconds, timings=timings(total_ms=180_000.0, denoise_loop_ms=69_501.0))

    found = slow(made, [], model_card(FLASHHEAD))

    assert found is not None
    assert found.code == "slower_than_published"
    assert slow(made, runs({}, {}, {}), model_card(FLASHHEAD)) is None
