"""The waterfall: where each phase lies, and the time that no phase accounts for."""

from __future__ import annotations

import pytest
from pictured import COLD, HOT, chunks, report

from omnirt_cli.picture.phases import Bar, BarKind, waterfall
from omnirt_cli.report import ErrorInfo, RunReport, RunStatus

Row = tuple[str, str, float, float]


def rows(of: RunReport) -> list[Row]:
    return [(bar.name, bar.kind.value, round(bar.start_ms, 3), round(bar.end_ms, 3)) for bar in waterfall(of).bars]


def test_the_phases_of_a_cold_run_follow_one_another_and_gaps_are_shown() -> None:
    fall = waterfall(report())

    assert rows(report()) == [
        ("prepare", "work", 0, 1_000),
        ("launch", "work", 1_000, 3_000),
        ("load", "work", 3_000, 60_000),
        ("generate", "work", 60_000, 70_000),
        ("save", "work", 70_000, 71_000),
        ("between", "gap", 71_000, 72_000),
        ("check and publish", "work", 72_000, 72_500),
    ]
    assert fall.bars[5].what == "after save, before check and publish"
    assert (fall.whole_ms, fall.scale.top, fall.notes) == (72_600.0, 72_600.0, ())


def test_waiting_for_devices_and_earlier_steps_are_parts_of_preparing() -> None:
    found = report(
        timings={**COLD, "prepare_conditions_ms": 31_000.0, "text_context_ms": 20_000.0, "total_ms": 102_600.0},
        queue_wait_ms=8_000.0,
        chunks=chunks(ready_ms=90_000.0),
    )

    assert rows(found)[:4] == [
        ("prepare", "work", 0, 31_000),
        ("text context", "part", 11_000, 31_000),
        ("wait", "wait", 3_000, 11_000),
        ("launch", "work", 31_000, 33_000),
    ]
    assert "where in it they lay is not recorded" in waterfall(found).notes[0]


def test_a_hot_run_has_no_launch_and_waits_for_its_turn_before_it_generates() -> None:
    found = report(
        timings=HOT,
        execution_mode="persistent_worker",
        hot=True,
        queue_wait_ms=1_200.0,
        chunks=chunks(ready_ms=1_500.0),
    )

    assert rows(found) == [
        ("prepare", "work", 0, 300),
        ("wait", "wait", 300, 1_500),
        ("generate", "work", 1_500, 11_500),
        ("save", "work", 11_500, 12_200),
        ("check and publish", "work", 12_200, 12_700),
        ("the rest", "gap", 12_700, 13_500),
    ]


def test_a_wait_never_reaches_into_the_phases_after_it() -> None:
    found = report(
        timings=HOT, execution_mode="persistent_worker", queue_wait_ms=5_000.0, chunks=chunks(ready_ms=1_500.0)
    )

    assert rows(found)[1:3] == [("wait", "wait", 300, 1_500), ("generate", "work", 1_500, 11_500)]


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (RunStatus.FAILED, "until it failed"),
        (RunStatus.CANCELLED, "until it was cancelled"),
        (RunStatus.TIMED_OUT, "until its time was up"),
    ],
)
def test_a_run_that_ended_badly_shows_how_long_it_went_on_after_its_last_phase(status: RunStatus, name: str) -> None:
    timings = {"prepare_conditions_ms": 1_000.0, "launch_ms": 2_000.0, "denoise_loop_ms": 9_000.0, "total_ms": 10_100.0}

    found = rows(report(status=status, timings=timings, chunks=[]))

    assert found[-1] == (name, "gap", 3_000, 10_100)


def test_a_run_without_timings_is_said_to_have_none() -> None:
    interrupted = report(status=RunStatus.INTERRUPTED, timings={}, chunks=[])
    running = report(status=RunStatus.RUNNING, timings={}, chunks=[], finished_at=None)
    failed = report(status=RunStatus.FAILED, timings={}, chunks=[])

    for found in (interrupted, running, failed):
        assert waterfall(found).bars == ()
        assert "the report has no phases" in waterfall(found).notes[0].lower()
    assert waterfall(failed).whole_ms == 72_600.0, "from its stamps"
    assert waterfall(interrupted).whole_ms is None, "its last stamp is when somebody noticed"
    assert waterfall(running).whole_ms is None


def test_stamps_that_cannot_be_read_are_no_times() -> None:
    found = report(timings={}, chunks=[], started_at="yesterday", finished_at="2026-11-20T10:00:00.000Z")

    assert waterfall(found).whole_ms is None


def test_a_bar_says_what_it_is_in_one_sentence() -> None:
    bar = Bar("load", BarKind.WORK, 3_000, 60_000, "until the model was ready to generate")

    assert bar.title == "load: 57.0 s, from 3.00 s to 60.0 s (until the model was ready to generate)"


def test_two_runs_can_share_an_axis() -> None:
    fall = waterfall(report()).on(145_200.0)

    assert fall.scale.at(72_600.0) == "50%"
    assert fall.bars == waterfall(report()).bars


def test_an_error_without_any_phase_is_no_obstacle() -> None:
    error = ErrorInfo(code="usage", message="m", exit_code=2)

    assert waterfall(report(timings={"total_ms": 12.0}, chunks=[], error=error, status=RunStatus.FAILED)).whole_ms == 12
