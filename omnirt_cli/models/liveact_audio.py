"""LiveAct's block arithmetic: what its loop makes of a recording, and which length of it loses nothing.

Pure functions over a `Geometry`; nothing here knows a flag or a file. Source: generate.py at ac8579b. It renders one
more block than whole blocks fit into the sound, and the first block is 11 frames shorter than the others, so that the
picture of an unprepared recording may end up to 11 frames before the sound does.
"""

from __future__ import annotations

import math

from omnirt_cli.errors import InputInvalidError
from omnirt_cli.models import frames
from omnirt_cli.models.base import AudioForm, AudioPlan, Geometry

_TIME_STRIDE = 4
LATENTS = (6, 8)
"""Latent frames of the first block and of every later one; the VAE makes four frames of each but the very first."""

FIRST_FRAMES = (LATENTS[0] - 1) * _TIME_STRIDE + 1
BLOCK_FRAMES = LATENTS[1] * _TIME_STRIDE
WINDOW_FRAMES = (sum(LATENTS) - 1) * _TIME_STRIDE + 1
"""Frames of sound that the model hears with each block."""

_LOOK_AHEAD = 2
"""Frames of sound behind the window that its embedding takes in, too."""


def block_count(seconds: float, fps: int) -> int:
    """Blocks that the script renders for so much sound; its own expression, floating point included."""
    return int(seconds / (_TIME_STRIDE * LATENTS[-1] / fps)) + 1


def frame_count(blocks: int) -> int:
    """Frames that so many blocks leave before the script's mux."""
    return FIRST_FRAMES + (blocks - 1) * BLOCK_FRAMES


def prepared_samples(blocks: int, geometry: Geometry) -> int:
    """Samples of sound for which the script renders exactly so many blocks, and hears every one to its end.

    The sound outlasts the picture by the look-ahead, which is also why the mux (`-shortest`) cuts no frame; up to nine
    frames more would change no count.
    """
    return math.ceil((frame_count(blocks) + _LOOK_AHEAD) * geometry.sample_rate / geometry.fps)


def plan(geometry: Geometry, *, samples: int, duration_s: float, max_chunks: int | None) -> AudioPlan:
    """The fewest blocks for which no spoken sample is left without frames.

    The form is WAV: torchaudio loads it with every one of its back ends, and the script's mux names no audio codec, so
    that ffmpeg encodes the sound for MP4.

    Args:
        geometry: Sizes, rates and frame counts.
        samples: Speech, at the geometry's sample rate.
        duration_s: Length of the user's own audio.
        max_chunks: Stop after so many blocks; at least 1.

    Raises:
        InputInvalidError: There is no sound.
    """
    if samples <= 0:
        raise InputInvalidError("The audio holds no samples.", hint="Give a recording with sound in it.")
    # Resampling rounds up to a whole sample; that one must not ask for a frame of its own.
    needed = frames.frames_for(max(duration_s, (samples - 1) / geometry.sample_rate), geometry.fps)
    complete = max(0, math.ceil((needed - FIRST_FRAMES) / BLOCK_FRAMES)) + 1
    blocks = min(complete, max_chunks) if max_chunks else complete
    generated = frame_count(blocks)
    delivered = min(needed, generated)
    return AudioPlan(
        form=AudioForm.WAV,
        lead_samples=0,
        total_samples=prepared_samples(blocks, geometry),
        chunks=blocks,
        generated_frames=generated,
        frames=delivered,
        speech_samples=min(samples, round(delivered * geometry.sample_rate / geometry.fps)),
        cut=delivered < needed,
    )
