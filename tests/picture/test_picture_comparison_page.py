"""The page of two runs: common axes, ratios, what differs, and what is not compared."""

from __future__ import annotations

from typing import Any

import pytest
from pictured import COLD, HOT, Page, chunks, full_of, report

from omnirt_cli.picture.comparison_view import ComparisonView, comparison_view
from omnirt_cli.picture.document import comparison_document
from omnirt_cli.picture.video import VideoLink
from omnirt_cli.report import ErrorInfo, RunReport, RunStatus
from omnirt_cli.runs.compare import compare
from omnirt_cli.runs.entry import Origin, RunEntry

SLOW = {**COLD, "total_ms": 145_200.0, "steady_chunk_core_ms_avg": 1_800.0}


def hot(**changed: Any) -> RunReport:
    fields = {"execution_mode": "persistent_worker", "hot": True, "timings": HOT, "chunks": chunks(ready_ms=1_000)}
    return report(**{**fields, **changed})


def view_of(a: RunReport, b: RunReport) -> ComparisonView:
    found = compare(RunEntry.of(a, Origin()), RunEntry.of(b, Origin()), (a, b))
    return comparison_view(found, (a, b), (VideoLink(href="./a.mp4"), VideoLink(words="This run left no video.")))


def page_of(a: RunReport, b: RunReport) -> Page:
    return Page(comparison_document(view_of(a, b)))


def test_both_waterfalls_lie_on_one_time_axis() -> None:
    first, second = view_of(report(), report(timings=SLOW)).sides

    assert first.waterfall.scale == second.waterfall.scale
    assert first.waterfall.scale.at(72_600.0) == "50%"
    assert (first.letter, second.letter) == ("A", "B")


def test_both_charts_have_the_same_axes_and_columns_even_of_runs_of_unlike_length() -> None:
    first, second = (side.chunks for side in view_of(report(), report(chunks=chunks(5_000))).sides)

    assert first is not None
    assert second is not None
    assert first.scale == second.scale
    assert first.together == second.together > 1
    assert first.places == second.places == len(second.columns)


def test_ratios_and_what_differs_are_told() -> None:
    page = page_of(report(), report(timings=SLOW, config_resolved={"sample_steps": 2, "size": "416*704"}))

    assert "total 72.6 s 2 min 25 s 2.00" in page.text
    assert "steady_chunk_core_ms_avg 900 ms 1.80 s 2.00" in page.text
    assert "sample_steps 4 2" in page.text
    assert page.all("section", "caution") == []


def test_two_runs_alike_differ_in_nothing() -> None:
    assert "Nothing: knobs and conditions are the same." in page_of(report(), report()).text


def test_a_cold_run_against_a_hot_one_is_said_to_be_that() -> None:
    (caution,) = page_of(report(), hot()).all("section", "caution")

    assert "cold against hot: the hot run loaded no model" in caution.text


def test_chunk_times_of_unlike_scope_are_not_compared_and_it_is_said_why() -> None:
    whole = [chunk.model_copy(update={"core_scope": "whole block"}) for chunk in chunks()]
    a, b = report(), report(chunks=whole)

    view, page = view_of(a, b), page_of(a, b)

    assert view.chunk_times == "wall time since the chunk before"
    assert [side.chunks.columns[1].height_ms for side in view.sides if side.chunks] == [1_000.0, 1_000.0]
    assert "(core; whole block) and are not compared" in page.all("section", "caution")[0].text
    assert "steady_chunk_core_ms_avg" not in page.text


@pytest.mark.parametrize("timings", [{}, {"prepare_conditions_ms": 5.0, "total_ms": 20.0}])
def test_a_failed_run_can_be_compared(timings: dict[str, float]) -> None:
    error = ErrorInfo(code="model_failed", message="rank 3 ended", exit_code=10, log_tail=["oops"])
    failed = report(status=RunStatus.FAILED, timings=timings, chunks=[], error=error)

    page = page_of(report(), failed)

    assert "B ended failed: its figures are those of a part" in page.text
    assert "rank 3 ended" in page.text
    assert "No chunk was timed so." in page.text


def test_two_runs_of_which_nothing_is_known_have_a_page() -> None:
    bare = RunReport(run_id="x-1", status=RunStatus.INTERRUPTED, started_at="2026-11-20T10:00:00.000Z")

    assert "No chunk was timed so." in page_of(bare, bare).text


def test_hostile_text_is_text() -> None:
    hostile = "</script><script>alert('1')</script>\" onload=\"x"

    page = page_of(full_of(hostile), report())

    assert page.shape == page_of(full_of("word"), report()).shape
    assert page.all("script") == []
    assert hostile in page.text


def test_long_runs_make_a_page_of_bounded_size() -> None:
    assert len(comparison_document(view_of(report(chunks=chunks(10_000)), report(chunks=chunks(9_000))))) < 200_000
