"""The frame arithmetic of the SoulX scripts: what a loop makes of n samples, and which audio loses nothing.

Pure functions over a `Geometry`; nothing here knows a model or a file. The scripts' own expressions are kept,
floating point included, because `int(n / 16000 * 25)` is one short for about one in twenty exact lengths.
Sources: FlashTalk's generate_video.py at 688982e (dropping) and f54dc79 (padding), FlashHead's before and at
6907de1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from omnirt_cli.models.base import Geometry

AAC_SURPLUS_SAMPLES = 1600
"""An AAC file may read back this much longer than what was put in (priming, padding), never shorter."""

_ROUNDING = 1e-6
"""A float duration times the rate may land this far above a whole frame without meaning another one."""


class Loop(str, Enum):
    """How a script cuts its audio into chunks.

    `dropping` scripts drop the audio after the last whole slice, and their pipeline cuts the repeated frames
    off every chunk. `padding` scripts fill the last slice with silence and cut those frames themselves.
    """

    DROPPING = "dropping"
    PADDING = "padding"


class Mode(str, Enum):
    """`stream` encodes the audio slice by slice, `once` all of it before the first chunk."""

    STREAM = "stream"
    ONCE = "once"


@dataclass(frozen=True)
class LoopPlan:
    """Prepared audio, and what the script makes of it.

    Attributes:
        lead_samples: Silence before the speech.
        total_samples: Length with lead and trailing silence; shorter than the speech where chunks are capped.
        chunks: Generation steps.
        generated_frames: Frames before the script's mux.
        needed_frames: Frames that cover the whole speech.
    """

    lead_samples: int
    total_samples: int
    chunks: int
    generated_frames: int
    needed_frames: int

    @property
    def frames(self) -> int:
        """Frames of the delivered video."""
        return min(self.needed_frames, self.generated_frames)


def chunk_count(loop: Loop, mode: Mode, geometry: Geometry, samples: int) -> int:
    """Generation steps that the script runs for this many samples at the geometry's rate."""
    if mode is Mode.STREAM:
        whole, rest = divmod(samples, geometry.slice_samples)
        return whole + (1 if rest and loop is Loop.PADDING else 0)
    embedded = _embedded_frames(loop, geometry, samples)
    return max(0, (embedded - geometry.frame_num) // geometry.slice_frames)


def _embedded_frames(loop: Loop, geometry: Geometry, samples: int) -> int:
    """Length of the audio embedding in `once` mode: the scripts' two ways to write one product."""
    if loop is Loop.DROPPING:
        return int(samples / geometry.sample_rate * geometry.fps)
    rest = (samples - geometry.first_samples) % geometry.slice_samples
    padded = samples + (geometry.slice_samples - rest if rest else 0)
    return int(padded * geometry.fps / geometry.sample_rate)


def frame_count(loop: Loop, mode: Mode, geometry: Geometry, chunks: int) -> int:
    """Frames that so many chunks leave before the script's mux."""
    if chunks <= 0:
        return 0
    if loop is Loop.PADDING and mode is Mode.ONCE:
        return geometry.frame_num + (chunks - 1) * geometry.slice_frames
    return chunks * geometry.slice_frames


def lead_samples(loop: Loop, mode: Mode, geometry: Geometry) -> int:
    """Silence that brings picture and sound together.

    The dropping `once` loop cuts the repeated frames off the first chunk too, so its picture shows the sound
    that comes `motion_frames_num` frames later.
    """
    if loop is Loop.DROPPING and mode is Mode.ONCE:
        return round(geometry.motion_frames_num * geometry.sample_rate / geometry.fps)
    return 0


def frames_for(duration_s: float, fps: int) -> int:
    """Frames that show every instant of this duration."""
    return math.ceil(duration_s * fps - _ROUNDING)


def plan(
    loop: Loop,
    mode: Mode,
    geometry: Geometry,
    *,
    samples: int,
    duration_s: float,
    max_chunks: int | None = None,
    surplus: int = 0,
) -> LoopPlan:
    """The shortest prepared audio for which no spoken sample is left without frames.

    It lasts a frame longer than the delivered picture where the chunks allow it, for the script's own mux
    ends its result with the sound.

    Args:
        loop: The script's loop.
        mode: How it encodes audio.
        geometry: Its frame counts.
        samples: Speech, at the geometry's sample rate; at least 1.
        duration_s: Length of the user's own audio.
        max_chunks: Stop after so many chunks; at least 1.
        surplus: Samples by which the prepared file may read back longer; they change no count.
    """
    # Resampling rounds up to a whole sample; that one must not ask for a frame of its own.
    needed = frames_for(max(duration_s, (samples - 1) / geometry.sample_rate), geometry.fps)
    complete = _chunks_that_cover(loop, mode, geometry, samples=samples, frames=needed)
    chunks = min(complete, max_chunks) if max_chunks else complete
    lead = lead_samples(loop, mode, geometry)
    generated = frame_count(loop, mode, geometry, chunks)
    heard = math.ceil(min(needed + 1, generated) * geometry.sample_rate / geometry.fps)
    wanted = max(lead + samples, heard)
    return LoopPlan(
        lead_samples=lead,
        total_samples=_audio_length(loop, mode, geometry, wanted=wanted, chunks=chunks, surplus=surplus),
        chunks=chunks,
        generated_frames=generated,
        needed_frames=needed,
    )


def _chunks_that_cover(loop: Loop, mode: Mode, geometry: Geometry, *, samples: int, frames: int) -> int:
    by_frames = _first(lambda count: frame_count(loop, mode, geometry, count) >= frames, at_least=1)
    by_samples = math.ceil(samples / geometry.slice_samples) if mode is Mode.STREAM else 1
    return max(by_frames, by_samples)


def _audio_length(loop: Loop, mode: Mode, geometry: Geometry, *, wanted: int, chunks: int, surplus: int) -> int:
    """The length nearest to `wanted` that makes the script run exactly `chunks` chunks."""
    shortest = _first(lambda length: chunk_count(loop, mode, geometry, length) >= chunks, at_least=1)
    longest = _first(lambda length: chunk_count(loop, mode, geometry, length) > chunks, at_least=shortest) - 1
    return max(shortest, min(wanted, longest - surplus))


def _first(holds: Callable[[int], bool], *, at_least: int) -> int:
    """The smallest integer for which a condition holds that, once true, stays true."""
    low, high = at_least, max(1, at_least)
    while not holds(high):
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
