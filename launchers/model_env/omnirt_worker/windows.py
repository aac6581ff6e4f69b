"""The loop's arithmetic: which stretch of sound each chunk hears, as the scripts themselves cut it.

FlashTalk's and FlashHead's `generate_video.py` (at 688982e, f54dc79, 12467ce) move a window of some seconds over the
sound in `stream`, and cut one embedding of everything into overlapping pieces in `once`. The same floats come out
here, held in arrays of fixed size. What is different: as many chunks are made as were asked for; the scripts' last
chunk of `once` is not lost.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Slices:
    """The numbers of the loop.

    Attributes:
        frame_num: Frames that a chunk computes.
        new_frames: Those that the chunk before did not show.
        samples: Of sound for the new frames.
        first_samples: Of sound under the first `frame_num` frames.
        window_frames: Frames of sound that a streamed chunk hears, its own at the end.
        window_samples: The same in samples.
    """

    frame_num: int
    new_frames: int
    samples: int
    first_samples: int
    window_frames: int
    window_samples: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Slices:
        """From the checkout's `infer_params`."""
        rate, fps, frame_num = params["sample_rate"], params["tgt_fps"], params["frame_num"]
        new = frame_num - params["motion_frames_num"]
        kept_s = params["cached_audio_duration"]
        return cls(
            frame_num=frame_num,
            new_frames=new,
            samples=new * rate // fps,
            first_samples=frame_num * rate // fps,
            window_frames=kept_s * fps,
            window_samples=kept_s * rate,
        )


def read_wav(path: str, sample_rate: int) -> np.ndarray[Any, Any]:
    """A prepared sound as the scripts' `librosa.load` gives it: float32 in -1..1.

    Raises:
        OSError, wave.Error: It cannot be read.
        ValueError: It is not 16 bit mono at this rate.
    """
    with wave.open(path, "rb") as file:
        form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
        if form != (sample_rate, 1, 2):
            raise ValueError(f"{path} is not 16 bit mono at {sample_rate} Hz but {form}")
        data = file.readframes(file.getnframes())
    return samples_of(data)


def samples_of(data: bytes) -> np.ndarray[Any, Any]:
    """16 bit samples, little-endian, as float32 in -1..1."""
    sound: np.ndarray[Any, Any] = np.frombuffer(data, dtype="<i2").astype(np.float32)
    return sound / 32768


class Window:
    """The last seconds of a sound that is heard slice by slice."""

    def __init__(self, slices: Slices) -> None:
        """Silence was before."""
        self._slices = slices
        self._heard = np.zeros(slices.window_samples)

    def hear(self, sound: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What a chunk of `stream` hears whose own slice this is, float64 as from a list; silence fills a short one."""
        new = sound.astype(np.float64)
        new = np.pad(new, (0, self._slices.samples - len(new)))
        self._heard = np.concatenate([self._heard, new])[-self._slices.window_samples :]
        return self._heard


def stream_windows(sound: np.ndarray[Any, Any], slices: Slices, chunks: int) -> Iterator[np.ndarray[Any, Any]]:
    """What each chunk of `stream` hears."""
    window = Window(slices)
    for number in range(chunks):
        yield window.hear(sound[number * slices.samples : (number + 1) * slices.samples])


def once_sound(sound: np.ndarray[Any, Any], slices: Slices, *, pads: bool, chunks: int) -> np.ndarray[Any, Any]:
    """What `once` encodes: the sound, with silence up to whole slices where the script does so, enough for all chunks.

    Loudness is levelled over the whole of it, so that its length must be the script's own.
    """
    silence = -(len(sound) - slices.first_samples) % slices.samples if pads else 0
    least = slices.first_samples + (chunks - 1) * slices.samples
    return np.pad(sound, (0, max(silence, least - len(sound))))


def once_pieces(slices: Slices, chunks: int) -> Iterator[slice]:
    """Where each chunk's frames stand in the embedding of everything."""
    for number in range(chunks):
        start = number * slices.new_frames
        yield slice(start, start + slices.frame_num)
