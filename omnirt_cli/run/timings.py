"""Turns marks and process stamps into the report's `timings` and `chunks`.

A key is there only where its phase was seen, never zero. Knows no log line's text and starts no process. All
stamps handed in are monotonic seconds of one clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from omnirt_cli.models.base import MarkKind
from omnirt_cli.report import ChunkInfo
from omnirt_cli.run.log_scanner import LogMark

CLOCK_TOLERANCE_MS = 2000.0
"""How far a line's own stamp may be from its arrival before it is taken for a clock that was set."""

_STAGE_FIELDS = {
    MarkKind.VAE_DECODE: "vae_decode_ms",
    MarkKind.COLOR_CORRECTION: "color_correction_ms",
    MarkKind.MOTION_ENCODE: "motion_encode_ms",
    MarkKind.AUDIO_EMBEDDING: "audio_embedding_ms",
    MarkKind.COPY: "chunk_copy_ms",
    MarkKind.ENCODE_WAIT: "encode_wait_ms",
}


@dataclass(frozen=True)
class Timings:
    """What is known of a run's times.

    Attributes:
        values: The report's `timings`, milliseconds (ratios as ratios), three decimals.
    """

    values: Mapping[str, float]
    chunks: tuple[ChunkInfo, ...]


@dataclass
class _Chunk:
    """A chunk and what was printed since the one before it."""

    end: LogMark
    steps_ms: list[float]
    stages_ms: dict[str, float]


@dataclass(frozen=True)
class _Waited:
    """What a request to a worker spent before its turn."""

    queue_ms: float
    load_ms: float | None


@dataclass
class TimingBuilder:
    """Collects a run's moments as they come; `build` may be called at any time, for a failed run too."""

    _at_s: dict[str, float] = field(default_factory=dict)
    _earlier_ms: dict[str, float] = field(default_factory=dict)
    _waited: _Waited | None = None
    _first: dict[MarkKind, LogMark] = field(default_factory=dict)
    _chunks: list[_Chunk] = field(default_factory=list)
    _steps_ms: list[float] = field(default_factory=list)
    _stages_ms: dict[str, float] = field(default_factory=dict)

    def started(self, at_s: float) -> None:
        """The request came in."""
        self._at_s["started"] = at_s

    def earlier(self, name: str, began_s: float, ended_s: float) -> None:
        """A step before the script was done, e.g. `text context`."""
        self._earlier_ms[f"{name.replace(' ', '_')}_ms"] = (ended_s - began_s) * 1000

    def waited(self, *, queue_ms: float, load_ms: float | None) -> None:
        """The run was a worker's, and waited so long for other requests and for the model to load."""
        self._waited = _Waited(queue_ms, load_ms)

    def spawned(self, at_s: float) -> None:
        """The child process was started, or the worker was asked."""
        self._at_s["spawned"] = at_s

    def first_output(self, at_s: float) -> None:
        """The first byte of the child came."""
        self._at_s.setdefault("first_output", at_s)

    def exited(self, at_s: float) -> None:
        """The child process was gone."""
        self._at_s["exited"] = at_s

    def published(self, at_s: float) -> None:
        """The verified video was in its place."""
        self._at_s["published"] = at_s

    def finished(self, at_s: float) -> None:
        """The run was over."""
        self._at_s["finished"] = at_s

    def mark(self, mark: LogMark) -> ChunkInfo | None:
        """Take a mark in.

        Returns:
            The chunk that this mark ended, or None.
        """
        mark = self._as_far_as_believed(mark)
        self._first.setdefault(mark.kind, mark)
        if mark.kind is MarkKind.CHUNK:
            return self._end_chunk(mark)
        if mark.value_ms is None:
            return None
        if mark.kind is MarkKind.DENOISE_STEP:
            self._steps_ms.append(mark.value_ms)
        elif mark.kind in _STAGE_FIELDS:
            self._stages_ms[_STAGE_FIELDS[mark.kind]] = mark.value_ms
        return None

    def build(
        self,
        *,
        media_duration_s: float | None = None,
        frames_per_chunk: int | None = None,
        generated_frames: int | None = None,
        fps: float | None = None,
        core_scope: str | None = None,
    ) -> Timings:
        """The report's numbers from what was seen so far.

        Args:
            media_duration_s: Length of the delivered video.
            frames_per_chunk: New frames that a chunk adds; the first may have more or fewer.
            generated_frames: Of the whole run, where it came to its end.
            fps: Of the delivered video.
            core_scope: What the script's chunk time covers.
        """
        chunks = tuple(self._chunk_info(number, core_scope) for number in range(len(self._chunks)))
        values = self._phases() | self._earlier_ms | _chunk_values(chunks)
        frames = generated_frames or (frames_per_chunk or 0) * len(chunks)
        values |= _rates(values, frames, media_duration_s, frames_per_chunk, fps)
        return Timings({key: round(value, 3) for key, value in values.items()}, chunks)

    def _as_far_as_believed(self, mark: LogMark) -> LogMark:
        """The mark without a duration that cannot be: scripts measure with the wall clock, which may be set."""
        spawned = self._at_s.get("spawned")
        if mark.value_ms is None or spawned is None:
            return mark
        most_ms = (mark.at_s - spawned) * 1000 + CLOCK_TOLERANCE_MS
        return mark if 0 <= mark.value_ms <= most_ms else mark._replace(value_ms=None)

    def _end_chunk(self, mark: LogMark) -> ChunkInfo | None:
        if self._is_repeat(mark):
            return None
        self._chunks.append(_Chunk(mark, self._steps_ms, self._stages_ms))
        self._steps_ms, self._stages_ms = [], {}
        return self._chunk_info(len(self._chunks) - 1, None)

    def _is_repeat(self, mark: LogMark) -> bool:
        """Whether another rank told of this chunk already. A count that starts over is no repeat."""
        if mark.index is None or not self._chunks:
            return False
        last = self._chunks[-1].end.index
        restarted = mark.index == 0 and last != 0
        return not restarted and last is not None and mark.index <= last

    def _chunk_info(self, number: int, core_scope: str | None) -> ChunkInfo:
        """A chunk as the report has it; numbered through, even where the script counts from 0 again."""
        chunk = self._chunks[number]
        before = self._chunks[number - 1].end if number else self._first.get(MarkKind.READY)
        started = self._at_s.get("started")
        return ChunkInfo(
            index=number,
            core_ms=_rounded(chunk.end.value_ms),
            core_scope=core_scope if chunk.end.value_ms is not None else None,
            interval_ms=_rounded(_elapsed_ms(before, chunk.end)),
            at_ms=None if started is None else _rounded((chunk.end.at_s - started) * 1000),
            denoise_steps_ms=[round(step, 3) for step in chunk.steps_ms],
            chunk_total_ms=_rounded(_total_ms(chunk)),
            **{name: round(value, 3) for name, value in chunk.stages_ms.items()},
        )

    def _phases(self) -> dict[str, float]:
        """The phases of the whole run that were seen."""
        spans = self._cold_phases() if self._waited is None else self._hot_phases(self._waited)
        spans["total_ms"] = self._span_ms("started", "finished")
        return {key: value for key, value in spans.items() if value is not None and value > 0}

    def _cold_phases(self) -> dict[str, float | None]:
        """Of a launch of its own.

        The load phase begins with the child's first line, whoever wrote it (under torchrun that is the
        launcher's banner), so that `launch_ms` and `model_load_ms` together are the time from spawn to ready.
        """
        return {
            "prepare_conditions_ms": self._span_ms("started", "spawned"),
            "launch_ms": self._span_ms("spawned", "first_output"),
            "model_load_ms": self._load_ms(self._first.get(MarkKind.READY)),
            "denoise_loop_ms": self._span_ms("spawned", "exited"),
            **self._loop_phases(),
        }

    def _hot_phases(self, waited: _Waited) -> dict[str, float | None]:
        """Of a worker's run: nothing is launched, and what was waited for is no part of the preparation."""
        loop = self._loop_phases()
        return {
            "prepare_conditions_ms": self._conditions_ms(waited),
            "model_load_ms": waited.load_ms,
            "denoise_loop_ms": loop["generation_ms"],
            **loop,
        }

    def _loop_phases(self) -> dict[str, float | None]:
        ready = self._first.get(MarkKind.READY)
        end = self._chunks[-1].end if self._chunks else None
        return {
            "generation_ms": _elapsed_ms(ready, end),
            "save_ms": _elapsed_ms(end, self._first.get(MarkKind.FINISHED)),
            "export_ms": self._span_ms("exited", "published"),
        }

    def _conditions_ms(self, waited: _Waited) -> float | None:
        ready, started = self._first.get(MarkKind.READY), self._at_s.get("started")
        if ready is None or started is None:
            return None
        return (ready.at_s - started) * 1000 - waited.queue_ms - (waited.load_ms or 0.0)

    def _load_ms(self, ready: LogMark | None) -> float | None:
        first = self._at_s.get("first_output")
        return None if first is None or ready is None else (ready.at_s - first) * 1000

    def _span_ms(self, start: str, end: str) -> float | None:
        if start not in self._at_s or end not in self._at_s:
            return None
        return (self._at_s[end] - self._at_s[start]) * 1000


def _total_ms(chunk: _Chunk) -> float | None:
    """What a chunk cost in all its phases; None where its copy was not seen, as with the scripts."""
    if chunk.end.value_ms is None or "chunk_copy_ms" not in chunk.stages_ms:
        return None
    return chunk.end.value_ms + chunk.stages_ms["chunk_copy_ms"] + chunk.stages_ms.get("audio_embedding_ms", 0.0)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that really occurred."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _chunk_values(chunks: Sequence[ChunkInfo]) -> dict[str, float]:
    if not chunks:
        return {}
    values = {"chunk_count": float(len(chunks))}
    values |= _core_values([chunk.core_ms for chunk in chunks if chunk.core_ms is not None])
    intervals = [chunk.interval_ms for chunk in chunks]
    if intervals[0] is not None:
        values["first_chunk_ms"] = intervals[0]
    values |= _mean_of("steady_chunk_interval_ms_avg", [span for span in intervals[1:] if span is not None])
    values |= _mean_of("denoise_step_ms_avg", [step for chunk in chunks for step in chunk.denoise_steps_ms])
    totals = [chunk.chunk_total_ms for chunk in chunks if chunk.chunk_total_ms is not None]
    values |= _mean_of("chunk_total_ms_avg", totals)
    values |= _mean_of("steady_chunk_total_ms_avg", totals[1:])
    for name in _STAGE_FIELDS.values():
        seen = [getattr(chunk, name) for chunk in chunks]
        values |= _mean_of(f"{name}_avg", [value for value in seen if value is not None])
    return values


def _core_values(core_ms: Sequence[float]) -> dict[str, float]:
    if not core_ms:
        return {}
    return {
        **_mean_of("chunk_core_ms_avg", core_ms),
        **_mean_of("steady_chunk_core_ms_avg", core_ms[1:]),
        "chunk_core_ms_p50": percentile(core_ms, 50),
        "chunk_core_ms_p95": percentile(core_ms, 95),
        "chunk_core_ms_max": max(core_ms),
    }


def _rates(
    values: Mapping[str, float],
    frames: int,
    media_duration_s: float | None,
    frames_per_chunk: int | None,
    fps: float | None,
) -> dict[str, float]:
    """Ratios of times to media; RTF under 1 is faster than real time."""
    rates: dict[str, float] = {}
    generation, total = values.get("generation_ms"), values.get("total_ms")
    if media_duration_s and generation:
        rates["rtf"] = generation / (media_duration_s * 1000)
    if media_duration_s and total:
        rates["wall_rtf"] = total / (media_duration_s * 1000)
    if not frames_per_chunk:
        return rates
    if generation:
        rates["frames_per_second"] = frames / (generation / 1000)
    steady = values.get("steady_chunk_interval_ms_avg")
    if steady and fps:
        rates["steady_rtf"] = steady / (frames_per_chunk / fps * 1000)
    return rates


def _elapsed_ms(start: LogMark | None, end: LogMark | None) -> float | None:
    """Time between two marks.

    The lines' own stamps are better than their arrival, which a full pipe delays; but they follow the wall
    clock, so that a difference no pipe explains means that the clock was set.
    """
    if start is None or end is None:
        return None
    arrival = (end.at_s - start.at_s) * 1000
    if start.stamp_ms is None or end.stamp_ms is None:
        return max(arrival, 0.0)
    stamped = end.stamp_ms - start.stamp_ms
    return stamped if stamped >= 0 and abs(stamped - arrival) <= CLOCK_TOLERANCE_MS else max(arrival, 0.0)


def _mean_of(key: str, values: Sequence[float]) -> dict[str, float]:
    return {key: sum(values) / len(values)} if values else {}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
