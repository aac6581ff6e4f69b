"""Comparing with a baseline: ratios where both measured alike, and names where they did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from omnirt_cli.bench.baseline import compare, read_baseline
from omnirt_cli.bench.document import Asked, BenchReport, Row
from omnirt_cli.errors import InputInvalidError, InputMissingError
from tests.bench.bench_samples import conditions, row


def bench(*rows: Row) -> BenchReport:
    return BenchReport(
        bench_id="b",
        started_at="2026-11-20T12:16:55.973Z",
        folder="/out",
        asked=Asked(heats=["hot"], warmup_chunks=1),
        rows=list(rows),
    )


def test_figures_are_compared_with_ratios() -> None:
    now = row(figures={"end_to_end_ms_p50": 1336.0, "steady_rtf": 0.85, "requests": 5})

    (found,) = compare(bench(row()), [now])

    assert found.comparable
    ratios = {pair.name: pair.ratio for pair in found.pairs}
    assert ratios["end_to_end_ms_p50"] == 0.5
    assert ratios["steady_rtf"] == 1.0
    assert "requests" not in ratios
    assert ratios["steady_chunk_core_ms_mean"] is None  # this one did not measure it


def test_cold_is_never_compared_with_hot() -> None:
    (found,) = compare(bench(row("cold")), [row("hot")])

    assert not found.comparable
    assert found.notes == ["the baseline has no such row"]


def test_rows_of_a_sweep_find_their_own() -> None:
    before = bench(row(case="max_chunks=1", figures={"rtf": 2.0}), row(case="max_chunks=3", figures={"rtf": 1.0}))

    (found,) = compare(before, [row(case="max_chunks=3", figures={"rtf": 0.5})])

    assert [(pair.a, pair.b) for pair in found.pairs] == [(1.0, 0.5)]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("devices", {"devices": ["910B2C"] * 8}),
        ("devices", {"devices": ["910B2"] * 4}),
        ("sample_steps", {"knobs": {"sample_steps": 4}}),
        ("model", {"model": "soulx-flashhead-1.3b"}),
        ("picture", {"picture": "448*768, 25 FPS, 937 frames"}),
        ("warmup_chunks", {"warmup_chunks": 2}),
        ("cpus", {"backend": "cpu", "host": {"cpus": 2}}),
    ],
)
def test_unlike_conditions_are_named_and_nothing_is_compared(name: str, change: dict[str, Any]) -> None:
    before = conditions(**({"backend": "cpu"} if name == "cpus" else {}))

    (found,) = compare(bench(row(conditions=before)), [row(conditions=conditions(**change))])

    assert not found.comparable
    assert found.pairs == []
    assert name in found.notes[0]


def test_a_seed_does_not_matter() -> None:
    other = conditions(knobs={"sample_steps": 2, "seed": 1})

    (found,) = compare(bench(row()), [row(conditions=other)])

    assert found.comparable


def test_a_new_revision_is_told_and_compared() -> None:
    other = conditions(revision="688982e", versions={"omnirt": "0.2.0"}, host={"name": "b", "cpus": 64})

    (found,) = compare(bench(row()), [row(conditions=other)])

    assert found.comparable
    assert {one.name for one in found.conditions} == {"revision", "omnirt", "host"}


def test_core_times_of_unlike_scopes_are_left_out() -> None:
    other = conditions(core_scope="audio_encoding+core")

    (found,) = compare(bench(row()), [row(conditions=other)])

    assert "steady_chunk_core_ms_mean" not in {pair.name for pair in found.pairs}
    assert "end_to_end_ms_p50" in {pair.name for pair in found.pairs}
    assert "cover unlike things" in found.notes[0]


def test_a_row_without_a_finished_request_is_not_compared() -> None:
    (found,) = compare(bench(row(conditions=None)), [row()])

    assert found.notes == ["one of them has no finished request"]


def test_a_baseline_is_read_as_it_was_saved(tmp_path: Path) -> None:
    place = tmp_path / "before.json"
    place.write_text(bench(row()).model_dump_json())

    assert read_baseline(place) == bench(row())


@pytest.mark.parametrize("content", ["", "{}", "[]", "not json", '{"outputs": [], "metadata": {}}'])
def test_what_is_no_baseline_is_refused(content: str, tmp_path: Path) -> None:
    place = tmp_path / "before.json"
    place.write_text(content)

    with pytest.raises(InputInvalidError, match="not a benchmark's results"):
        read_baseline(place)


def test_a_baseline_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="No such file"):
        read_baseline(tmp_path / "none.json")
