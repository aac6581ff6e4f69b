"""LiveAct's way through a video, shared by its variants: blocks of 21 and then 32 frames, each with a bar of its own.

A block hears the frames that it makes and, from the second on, the 21 before them. The numbers are those of
``generate.py`` at ac8579b: blocks of 6 and then 8 latent frames, 4 frames to each, the first of all alone.
"""

import time
from pathlib import Path

import numpy as np
from PIL import Image

from engine import audio, bars, knobs
from engine.pipeline import Pipeline

FIRST_FRAMES = 21
LATER_FRAMES = 32

_SAMPLE_RATE = 16000
_LATENT_FRAMES = (6, 8)
_FRAMES_OF_LATENT = 4
_PATCH = 16
_AHEAD = 2  # frames of sound that a streamed block hears beyond its own


def count(duration_s: float, fps: int) -> int:
    """How many blocks a sound takes: at least one, and the last one seldom reaches its end."""
    return int(duration_s / (LATER_FRAMES / fps)) + 1


def nominal_ms(block: int, fps: int) -> float:
    """The duration that the script states for a block: 3 frames too much for the first."""
    return _LATENT_FRAMES[min(block, 1)] * _FRAMES_OF_LATENT / fps * 1000


def shape_of(size: str) -> tuple[int, int]:
    """(height, width) of a ``width*height`` text."""
    width, height = (int(part) for part in size.split("*"))
    return height, width


class Sound:
    """The driving sound: how many blocks it takes, and what each of them hears. Only its first channel counts."""

    def __init__(self, path: str, fps: int, streaming: bool) -> None:
        self.blocks = count(audio.duration_s(path), fps)
        self._fps = fps
        self._samples = _levelled(audio.load_first_channel(path, _SAMPLE_RATE))
        frames = FIRST_FRAMES + LATER_FRAMES * (self.blocks - 1)
        self._whole = None if streaming else self._embedding(self._samples, frames)

    def heard(self, block: int) -> np.ndarray:
        """What the block hears: (1, frames, context, features)."""
        start = max(0, block - 1) * LATER_FRAMES
        end = start + FIRST_FRAMES + (LATER_FRAMES if block else 0)
        if self._whole is not None:
            return self._whole[:, start:end]
        part = slice(int(start / self._fps * _SAMPLE_RATE), int((end + _AHEAD) / self._fps * _SAMPLE_RATE))
        return self._embedding(self._samples[part], end - start + _AHEAD)[:, : end - start]

    def _embedding(self, samples: np.ndarray, frames: int) -> np.ndarray:
        """Features of ``frames`` frames; beyond the end of the sound the last ones stay."""
        hop = _SAMPLE_RATE // self._fps
        samples = np.pad(samples, (0, max(0, hop - len(samples))))
        known = min(frames, max(1, int(len(samples) * self._fps / _SAMPLE_RATE)))
        per_frame = audio.features(samples, _SAMPLE_RATE, self._fps, known)
        return audio.embedding(np.pad(per_frame, ((0, frames - known), (0, 0)), mode="edge"), 0, frames)


def _levelled(samples: np.ndarray) -> np.ndarray:
    if len(samples) < audio.MIN_LOUDNESS_S * _SAMPLE_RATE:
        return samples
    return audio.loudness_norm(samples, _SAMPLE_RATE)


class BlockPipeline(Pipeline):
    """LiveAct's pipeline: the shared one, with LiveAct's bars instead of the ``[generate]`` lines.

    ``forward_s`` and ``decode_s`` are the seconds that the steps and the drawing of this video have taken.
    """

    debug_timing = False

    def __init__(self, checkpoint_dir: str, wav2vec_dir: str) -> None:
        super().__init__(checkpoint_dir, wav2vec_dir, "cpu")
        # Neither directory is asserted: a forgotten one is a TypeError here, after the model's weights.
        self.weights = [Path(checkpoint_dir) / "Wan2.1_VAE.pth", Path(wav2vec_dir) / "config.json"]

    def begin(self, portrait: Image.Image, shape: tuple[int, int], steps: int, fps: int, seed: int) -> None:
        """Begin a video of this (height, width)."""
        self.forward_s = self.decode_s = 0.0
        later = FIRST_FRAMES + LATER_FRAMES
        self.start(portrait, shape, later, FIRST_FRAMES, steps, fps, seed)

    def generate(self, embedding: np.ndarray) -> np.ndarray:
        """One block's new frames: (frames, height, width, 3), float32 in 0..255."""
        repeated = FIRST_FRAMES if self._chunk else 0
        return super().generate(embedding)[repeated:].copy()

    def forward(self) -> None:
        """One call of the model, which dies of a picture that its patches do not fill."""
        for axis, length in ((2, self.target_h), (3, self.target_w)):
            if length % _PATCH:
                raise RuntimeError(
                    f"The size of tensor a ({-(-length // 8)}) must match the size of tensor b "
                    f"({length // _PATCH * 2}) at non-singleton dimension {axis}"
                )

    def _denoise(self, embedding: np.ndarray) -> list:
        began = time.time()
        poses = self._animator.chunk(embedding)
        for _ in bars.step_bar(self.steps):
            self.forward()
            knobs.spend(knobs.seconds("MINIATURE_CHUNK_S") / self.steps)
        self.forward_s += time.time() - began
        return poses

    def _drawn(self, poses: list) -> np.ndarray:
        began = time.time()
        frames = super()._drawn(poses)
        self.decode_s += time.time() - began
        return frames
