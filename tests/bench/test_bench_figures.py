"""Figures from samples: what counts, what does not, and what is absent."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirt_cli.bench.figures import METRICS, SPREAD, ChunkFacts, spread, summarise
from omnirt_cli.run.timings import percentile
from tests.bench.bench_samples import FRAMES, MEDIA_MS, chunk, failure, sample

FACTS = ChunkFacts(warmup=1, media_ms=MEDIA_MS, frames=FRAMES)


def test_the_spread_of_known_values() -> None:
    values = spread("x_ms", [1.0, 2.0, 3.0, 4.0, 100.0])

    assert values["x_ms_mean"] == 22.0
    assert values["x_ms_std"] == pytest.approx(statistics.pstdev([1, 2, 3, 4, 100]))
    assert (values["x_ms_min"], values["x_ms_max"]) == (1.0, 100.0)
    assert (values["x_ms_p50"], values["x_ms_p95"], values["x_ms_p99"]) == (3.0, 100.0, 100.0)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_percentiles_are_values_that_occurred_and_in_order(values: list[float]) -> None:
    found = spread("x", values)

    assert all(found[f"x_{part}"] in values for part in ("min", "p50", "p95", "p99", "max"))
    assert found["x_min"] <= found["x_p50"] <= found["x_p95"] <= found["x_p99"] <= found["x_max"]
    assert found["x_p95"] == percentile(values, 95)


def test_nothing_measured_gives_no_figure_rather_than_zero() -> None:
    values = summarise([sample(chunks=[], end_to_end_ms=None)], FACTS)

    assert values == {"requests": 1, "failed_requests": 0, "left_out_requests": 0}


def test_the_warm_up_chunk_is_no_steady_one() -> None:
    values = summarise([sample(chunk(0, 6590.0), chunk(1, 890.0), chunk(2, 900.0))], FACTS)

    assert values["steady_chunk_core_ms_mean"] == 895.0
    assert values["steady_chunk_ms_max"] == 960.0
    assert values["steady_rtf"] == pytest.approx(955 / MEDIA_MS, abs=1e-3)
    assert values["steady_frames_per_second"] == pytest.approx(FRAMES / 0.955, abs=1e-3)


@pytest.mark.parametrize(("warmup", "timed"), [(0, 3), (1, 2), (2, 1), (3, None)])
def test_as_many_chunks_are_left_out_as_was_said(warmup: int, timed: int | None) -> None:
    values = summarise([sample()], ChunkFacts(warmup, MEDIA_MS, FRAMES))

    assert values.get("chunks_timed") == timed


def test_what_is_beside_the_model_is_told_as_a_ratio() -> None:
    values = summarise([sample(chunk(0, 1000.0), chunk(1, 1000.0), end_to_end_ms=2100.0)], FACTS)

    assert values["end_to_end_over_core"] == 1.05


def test_goodput_is_the_share_of_chunks_that_came_in_time() -> None:
    late = [chunk(0, 900.0), chunk(1, 900.0, 1000.0), chunk(2, 900.0, MEDIA_MS), chunk(3, 900.0, MEDIA_MS + 1)]

    values = summarise([sample(*late)], FACTS)

    assert (values["chunks_in_time"], values["chunks_timed"]) == (2, 3)
    assert values["goodput"] == pytest.approx(2 / 3, abs=1e-3)


def test_a_request_that_had_to_load_gives_its_load_and_nothing_else() -> None:
    opening = sample(measured=False, left_out="it had to load the model", end_to_end_ms=91000.0,
                     timings={"model_load_ms": 83000.0, "rtf": 3.0})  # fmt: skip

    values = summarise([opening, sample(timings={"rtf": 0.9}), sample(timings={"rtf": 0.7})], FACTS)

    assert values["load_ms_p50"] == 83000.0
    assert values["end_to_end_ms_max"] == 5514.0
    assert values["rtf"] == pytest.approx(0.8)
    assert (values["requests"], values["left_out_requests"]) == (2, 1)


def test_a_failed_request_is_counted_and_its_times_are_not() -> None:
    values = summarise([sample(), failure()], FACTS)

    assert (values["requests"], values["failed_requests"]) == (2, 1)
    assert values["end_to_end_ms_min"] == 5514.0


def test_the_seeds_keys_come_from_the_reports() -> None:
    keys = {
        "audio_embedding_ms_avg": 21.259,
        "chunk_core_ms_avg": 894.051,
        "steady_chunk_core_ms_avg": 891.002,
        "chunk_copy_ms_avg": 33.339,
        "chunk_total_ms_avg": 957.137,
        "steady_chunk_total_ms_avg": 953.662,
        "denoise_loop_ms": 69501.215,
        "export_ms": 264.686,
    }

    values = summarise([sample(timings=keys)], FACTS)

    assert {name: values[name] for name in keys} == keys


def test_memory_is_the_most_of_any_request() -> None:
    values = summarise([sample(memory={"device_peak_gib": 20.5}), sample(memory={"device_peak_gib": 21.0})], FACTS)

    assert values["memory_peak_gib"] == 21.0
    assert "host_memory_peak_gib" not in values


def test_memory_while_the_model_was_loaded_counts() -> None:
    opening = sample(measured=False, left_out="it had to load the model", memory={"device_peak_gib": 30.0})

    assert summarise([opening, sample(memory={"device_peak_gib": 21.0})], FACTS)["memory_peak_gib"] == 30.0


def test_throughput_is_over_the_time_in_which_the_requests_ran() -> None:
    together = [sample(began_ms=0.0, end_to_end_ms=4000.0), sample(began_ms=1000.0, end_to_end_ms=4000.0)]

    assert summarise(together, FACTS)["requests_per_second"] == pytest.approx(2 / 5)


def test_every_figure_is_a_known_name() -> None:
    every = sample(
        timings={"rtf": 1.0, "first_chunk_ms": 1.0, "model_load_ms": 2.0},
        memory={"device_peak_gib": 1.0, "host_peak_gib": 1.0},
        queue_wait_ms=1.0,
    )

    assert set(summarise([every], FACTS)) <= METRICS
    assert {f"end_to_end_ms_{part}" for part in SPREAD} <= METRICS
