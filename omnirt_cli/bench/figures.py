"""From raw samples to figures: means, spread and percentiles, rates, goodput.

Only measured samples of one case and one heat come together. Means of what the reports say already keep the reports'
names; what is new here is about the chunks after the warm-up, over all requests.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from omnirt_cli.bench.document import Sample
from omnirt_cli.run.timings import percentile

SPREAD = ("mean", "std", "min", "max", "p50", "p95", "p99")

SPREADS = (
    "end_to_end_ms",
    "load_ms",
    "first_chunk_ms",
    "time_to_first_chunk_ms",
    "steady_chunk_ms",
    "steady_chunk_core_ms",
    "queue_wait_ms",
)
"""Each of them is given as `<name>_mean`, `_std`, `_min`, `_max`, `_p50`, `_p95` and `_p99`."""

REPORT_MEANS = (
    "prepare_conditions_ms",
    "launch_ms",
    "model_load_ms",
    "denoise_loop_ms",
    "generation_ms",
    "save_ms",
    "export_ms",
    "total_ms",
    "audio_embedding_ms_avg",
    "chunk_core_ms_avg",
    "steady_chunk_core_ms_avg",
    "chunk_copy_ms_avg",
    "chunk_total_ms_avg",
    "steady_chunk_total_ms_avg",
    "encode_wait_ms_avg",
    "denoise_step_ms_avg",
    "vae_decode_ms_avg",
    "color_correction_ms_avg",
    "motion_encode_ms_avg",
    "chunk_count",
    "rtf",
    "wall_rtf",
    "frames_per_second",
)
"""Figures of the run report, by its own names: the mean over the requests that have them."""

OWN_FIGURES = (
    "requests",
    "failed_requests",
    "left_out_requests",
    "requests_per_second",
    "end_to_end_over_core",
    "steady_rtf",
    "steady_frames_per_second",
    "goodput",
    "chunks_in_time",
    "chunks_timed",
    "memory_peak_gib",
    "host_memory_peak_gib",
)

METRICS = frozenset({*(f"{name}_{part}" for name in SPREADS for part in SPREAD), *REPORT_MEANS, *OWN_FIGURES})
"""Every name that a figure can have."""


@dataclass(frozen=True)
class ChunkFacts:
    """What turns chunk times into rates.

    Attributes:
        warmup: The first so many chunks of each request are no steady ones.
        media_ms: How much video a chunk adds.
        frames: The frames that a chunk adds.
    """

    warmup: int
    media_ms: float
    frames: int


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation (of these values, not of a population guessed from them), extremes and percentiles."""
    if not values:
        return {}
    parts = {
        "mean": statistics.fmean(values),
        "std": statistics.pstdev(values),
        "min": min(values),
        "max": max(values),
        "p50": percentile(values, 50),
        "p95": percentile(values, 95),
        "p99": percentile(values, 99),
    }
    return {f"{name}_{part}": value for part, value in parts.items()}


def summarise(samples: Iterable[Sample], facts: ChunkFacts) -> dict[str, float]:
    """The figures of one row.

    Args:
        samples: All samples of one case and one heat, those that do not count included.
        facts: The row's chunks.
    """
    every = list(samples)
    good = [sample for sample in every if sample.measured and sample.succeeded]
    values = {
        "requests": float(sum(sample.measured for sample in every)),
        "failed_requests": float(sum(not sample.succeeded for sample in every)),
        "left_out_requests": float(sum(not sample.measured for sample in every)),
        **spread("end_to_end_ms", _known(sample.end_to_end_ms for sample in good)),
        **spread("load_ms", _loads(every)),
        **spread("first_chunk_ms", _known(sample.timings.get("first_chunk_ms") for sample in good)),
        **spread("time_to_first_chunk_ms", _known(sample.chunks[0].at_ms for sample in good if sample.chunks)),
        **spread("queue_wait_ms", _known(sample.queue_wait_ms for sample in good)),
        **_over_core(good),
        **_steady(good, facts),
        **_report_means(good),
        **_memory([sample for sample in every if sample.succeeded]),
        **_throughput(good),
    }
    return {name: round(value, 3) for name, value in values.items()}


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _loads(samples: Iterable[Sample]) -> list[float]:
    """Also of requests that do not count as hot because they had to load: that is what they are kept for."""
    return _known(sample.timings.get("model_load_ms") for sample in samples if sample.succeeded)


def _steady(samples: Iterable[Sample], facts: ChunkFacts) -> dict[str, float]:
    """The chunks after the warm-up: wall time from chunk to chunk, and the script's own time."""
    chunks = [chunk for sample in samples for chunk in sample.chunks[facts.warmup :]]
    intervals = _known(chunk.interval_ms for chunk in chunks)
    values = spread("steady_chunk_ms", intervals)
    values |= spread("steady_chunk_core_ms", _known(chunk.core_ms for chunk in chunks))
    if not intervals:
        return values
    mean = statistics.fmean(intervals)
    in_time = sum(interval <= facts.media_ms for interval in intervals)
    values |= {
        "steady_rtf": mean / facts.media_ms,
        "goodput": in_time / len(intervals),
        "chunks_in_time": float(in_time),
        "chunks_timed": float(len(intervals)),
    }
    if mean > 0:
        values["steady_frames_per_second"] = facts.frames / (mean / 1000)
    return values


def _over_core(samples: Iterable[Sample]) -> dict[str, float]:
    """Whole requests over what the model itself computed, where every chunk's core time is known."""
    ratios = []
    for sample in samples:
        core = _known(chunk.core_ms for chunk in sample.chunks)
        if sample.end_to_end_ms is not None and core and len(core) == len(sample.chunks):
            ratios.append(sample.end_to_end_ms / sum(core))
    return {"end_to_end_over_core": statistics.median(ratios)} if ratios else {}


def _report_means(samples: Sequence[Sample]) -> dict[str, float]:
    seen = {name: _known(sample.timings.get(name) for sample in samples) for name in REPORT_MEANS}
    return {name: statistics.fmean(values) for name, values in seen.items() if values}


def _memory(samples: Sequence[Sample]) -> dict[str, float]:
    """The most that any device, and that the model's processes, held; loading the model must fit, too."""
    names = {"memory_peak_gib": "device_peak_gib", "host_memory_peak_gib": "host_peak_gib"}
    seen = {name: _known(sample.memory.get(key) for sample in samples) for name, key in names.items()}
    return {name: max(values) for name, values in seen.items() if values}


def _throughput(samples: Sequence[Sample]) -> dict[str, float]:
    """Finished requests a second, from the first one's start to the last one's end."""
    ends = [sample.began_ms + sample.end_to_end_ms for sample in samples if sample.end_to_end_ms is not None]
    if not ends:
        return {}
    span_ms = max(ends) - min(sample.began_ms for sample in samples)
    return {"requests_per_second": len(ends) / (span_ms / 1000)} if span_ms > 0 else {}
