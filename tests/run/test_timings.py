"""Timings: hand-computed from a recorded run, and robust against what logs do."""

from __future__ import annotations

import re

import pytest
from recordings import recording

from omnirt_cli.models.base import LogRule, MarkKind, Variant
from omnirt_cli.models.registry import adapter
from omnirt_cli.run.log_scanner import LogMark, LogScanner
from omnirt_cli.run.timings import TimingBuilder, Timings, percentile

FLASHTALK_RULES = adapter("flashtalk").log_rules(Variant("public-old"))


def replay(name: str, rules: tuple[LogRule, ...] = FLASHTALK_RULES) -> TimingBuilder:
    """A recorded run as the engine sees it: asked for at -0.5 s, spawned at 0."""
    builder = TimingBuilder()
    builder.started(-0.5)
    builder.spawned(0.0)
    scanner = LogScanner(rules)
    for seconds, line in recording(name).lines:
        builder.first_output(seconds)
        for mark in scanner.feed(line, seconds):
            builder.mark(mark)
    return builder


def mark(kind: MarkKind, at_s: float, **values: float | int | None) -> LogMark:
    return LogMark(kind=kind, at_s=at_s, line=b"", **values)  # type: ignore[arg-type]


def chunks_at(*ends: tuple[int | None, float]) -> TimingBuilder:
    builder = TimingBuilder()
    builder.mark(mark(MarkKind.READY, 0.0))
    for index, at_s in ends:
        builder.mark(mark(MarkKind.CHUNK, at_s, index=index, value_ms=100.0))
    return builder


def flashtalk_run() -> Timings:
    builder = replay("flashtalk_old.ok.2p")
    builder.exited(13.0)
    builder.published(13.5)
    builder.finished(13.6)
    return builder.build(media_duration_s=8.96, frames_per_chunk=28, fps=25, core_scope="core")


def test_a_recorded_flashtalk_run_has_the_phases_computed_by_hand() -> None:
    values = flashtalk_run().values
    assert {key: values[key] for key in ("prepare_conditions_ms", "launch_ms", "model_load_ms")} == {
        "prepare_conditions_ms": 500.0,
        "launch_ms": 764.0,  # the launcher's banner
        "model_load_ms": 3405.0,  # 0.764 s to 4.169 s
    }
    assert values["denoise_loop_ms"] == 13000.0
    assert values["generation_ms"] == 6024.0  # 10:14:29.336 to 10:14:35.360
    assert values["save_ms"] == 1369.0  # 10:14:35.360 to 10:14:36.729
    assert values["export_ms"] == 500.0
    assert values["total_ms"] == 14100.0


def test_a_recorded_flashtalk_run_has_the_chunk_times_computed_by_hand() -> None:
    values = flashtalk_run().values
    expected = {
        "chunk_count": 8.0,
        "chunk_core_ms_avg": 745.0,
        "steady_chunk_core_ms_avg": 714.286,
        "chunk_core_ms_p50": 570.0,
        "chunk_core_ms_p95": 1180.0,
        "chunk_core_ms_max": 1180.0,
        "first_chunk_ms": 972.0,
        "steady_chunk_interval_ms_avg": 721.714,
        "color_correction_ms_avg": 7.7,
        "rtf": 0.672,
        "wall_rtf": 1.574,
        "steady_rtf": 0.644,
        "frames_per_second": 37.185,
    }
    assert {key: values[key] for key in expected} == expected


def test_each_chunk_has_its_sub_stages_and_its_scope() -> None:
    chunks = flashtalk_run().chunks
    first, second = chunks[:2]
    assert [chunk.index for chunk in chunks] == list(range(8))
    assert (first.core_ms, first.core_scope, first.interval_ms, first.at_ms) == (960.0, "core", 972.0, 5641.0)
    assert first.denoise_steps_ms == [120.027] * 4
    assert (first.vae_decode_ms, first.color_correction_ms, first.motion_encode_ms) == (50.011, 7.7, 6.001)
    assert second.denoise_steps_ms == [40.023] * 4
    assert second.interval_ms == 600.0


def test_a_recorded_flashhead_run_is_read_with_three_decimals() -> None:
    rules = adapter("flashhead").log_rules(Variant("public"))
    timings = replay("flashhead.ok_pro.2p", rules).build(core_scope="audio_encoding+core")
    assert timings.chunks[0].core_ms == 969.0
    assert timings.chunks[1].interval_ms == 529.0
    assert timings.chunks[0].core_scope == "audio_encoding+core"


def test_a_run_that_never_got_ready_has_only_the_phases_it_had() -> None:
    builder = replay("flashtalk_old.missing_ckpt.2p")
    builder.exited(4.0)
    builder.finished(4.1)
    assert set(builder.build(media_duration_s=8.96, frames_per_chunk=28, fps=25).values) == {
        "prepare_conditions_ms",
        "launch_ms",
        "denoise_loop_ms",
        "total_ms",
        "wall_rtf",
    }


def test_nothing_seen_gives_no_keys() -> None:
    assert TimingBuilder().build() == Timings({}, ())


def test_one_chunk_has_no_steady_values() -> None:
    values = chunks_at((0, 1.0)).build(media_duration_s=1.12, frames_per_chunk=28, fps=25).values
    assert values["first_chunk_ms"] == 1000.0
    assert not [key for key in values if key.startswith("steady")]


def test_a_chunk_told_by_two_ranks_counts_once() -> None:
    timings = chunks_at((0, 1.0), (0, 1.1), (1, 2.0), (1, 2.1)).build()
    assert [chunk.interval_ms for chunk in timings.chunks] == [1000.0, 1000.0]


def test_a_count_that_starts_over_goes_on() -> None:
    chunks = chunks_at((0, 1.0), (1, 2.0), (0, 3.0), (1, 4.0)).build().chunks
    assert [chunk.index for chunk in chunks] == [0, 1, 2, 3]


def test_chunks_without_a_number_are_counted() -> None:
    assert chunks_at((None, 1.0), (None, 2.0)).build().values["chunk_count"] == 2.0


def stamped_pair(stamps: tuple[float, float], arrivals: tuple[float, float]) -> float | None:
    builder = TimingBuilder()
    builder.mark(mark(MarkKind.READY, arrivals[0], stamp_ms=stamps[0]))
    builder.mark(mark(MarkKind.CHUNK, arrivals[1], index=0, stamp_ms=stamps[1]))
    return builder.build().chunks[0].interval_ms


def test_the_lines_own_stamps_are_preferred_to_a_delayed_arrival() -> None:
    assert stamped_pair((1000.0, 1890.0), (5.0, 6.7)) == 890.0


@pytest.mark.parametrize("jump_ms", [86_400_000.0, -86_400_000.0, 3_600_000.0])
def test_a_clock_that_was_set_gives_way_to_the_arrival(jump_ms: float) -> None:
    assert stamped_pair((1000.0, 1890.0 + jump_ms), (5.0, 5.9)) == 900.0


def test_mark_returns_the_chunk_it_ended() -> None:
    builder = TimingBuilder()
    assert builder.mark(mark(MarkKind.DENOISE_STEP, 0.5, value_ms=420.39)) is None
    chunk = builder.mark(mark(MarkKind.CHUNK, 1.0, index=0, value_ms=890.0))
    assert chunk is not None
    assert (chunk.core_ms, chunk.denoise_steps_ms) == (890.0, [420.39])


@pytest.mark.parametrize(("percent", "value"), [(50, 2.0), (95, 4.0), (0, 1.0), (100, 4.0)])
def test_percentiles_are_values_that_occurred(percent: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == value


def test_every_key_is_rounded_to_three_decimals() -> None:
    for value in flashtalk_run().values.values():
        assert re.fullmatch(r"-?\d+\.\d{1,3}", repr(value))


@pytest.mark.parametrize("value_ms", [-86_400_000.0, 86_400_000.0], ids=["set back", "set ahead"])
def test_a_duration_that_cannot_be_is_not_believed_and_its_chunk_still_counts(value_ms: float) -> None:
    builder = TimingBuilder()
    builder.started(0.0)
    builder.spawned(1.0)

    chunk = builder.mark(mark(MarkKind.CHUNK, 3.0, index=0, value_ms=value_ms))

    assert chunk is not None
    assert chunk.core_ms is None
    assert builder.build().values["chunk_count"] == 1.0
