"""Sounds and talking heads made for the tests: small, drawn with numpy, encoded by the real ffmpeg."""

from __future__ import annotations

import subprocess
import wave
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

RATE = 16000
FPS = 25


def ffmpeg(*args: object) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, args)], check=True)


def syllables(seconds: float, seed: int = 7) -> np.ndarray:
    """Loudness, one value a sample: syllables of 0.12 to 0.26 s, with a pause after every few."""
    chance = np.random.default_rng(seed)
    loudness = np.zeros(int(seconds * RATE))
    at = 0.15
    while at < seconds - 0.3:
        for _ in range(int(chance.integers(3, 7))):
            length = chance.uniform(0.12, 0.26)
            first, last = int(at * RATE), min(len(loudness), int((at + length) * RATE))
            if last > first:
                loudness[first:last] = chance.uniform(0.35, 1.0) * np.hanning(last - first)
            at += length
        at += chance.uniform(0.15, 0.5)
    return loudness


def voice(loudness: np.ndarray, seed: int = 3) -> np.ndarray:
    """Noise with the given loudness, -1 to 1."""
    noise = np.random.default_rng(seed).standard_normal(len(loudness))
    return np.clip(0.25 * loudness * noise, -1, 1)


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """16-bit PCM; one column a channel."""
    columns = samples.reshape(len(samples), -1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(columns.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((columns * 32767).astype("<i2").tobytes())
    return path


@dataclass(frozen=True)
class Head:
    """A drawn talking head: what its picture does.

    Attributes:
        mouth: How far the mouth opens, in pixels; 0 is a dead mouth.
        ink: Grey level of the mouth; the face around it has about 185.
        late_s: How much later than the loudness the mouth moves.
        frozen: Seconds from and to which the picture rests; `None` ends with the video.
        light: Factor on every grey level.
        fade_to: Grey level that the last frames approach.
    """

    mouth: float = 9.0
    ink: float = 60.0
    late_s: float = 0.0
    blinks: bool = True
    sway: float = 1.5
    frozen: tuple[float, float | None] | None = None
    light: float = 1.0
    fade_to: float | None = None
    size: int = 192
    crf: int = 25
    extra: tuple[str, ...] = field(default=("-bf", "0"))

    def frames(self, loudness: np.ndarray, count: int) -> np.ndarray:
        """count x size x size grey levels."""
        step = RATE // FPS
        level = loudness[: len(loudness) // step * step].reshape(-1, step).mean(axis=1)
        level = np.pad(level, (0, max(0, count - len(level))))
        moments = np.arange(count)
        if self.frozen:
            first = int(self.frozen[0] * FPS)
            last = count if self.frozen[1] is None else int(self.frozen[1] * FPS)
            moments = np.where((moments >= first) & (moments < last), first, moments)
        opening = level[np.clip(moments - round(self.late_s * FPS), 0, len(level) - 1)]
        return np.stack([self._draw(int(m), float(o)) for m, o in zip(moments, opening, strict=True)])

    def _draw(self, moment: int, opening: float) -> np.ndarray:
        y, x = np.mgrid[0 : self.size, 0 : self.size] * (192 / self.size)
        grey = 70 + 0.35 * x + 12 * np.sin(y / 9)
        x = x - self.sway * np.sin(moment / 19) * 2
        y = y - self.sway * np.sin(moment / 31)
        grey = np.where(_ellipse(x, y, 96, 100, 55, 75), 185 + 8 * np.sin(x / 5), grey)
        shut = self.blinks and moment % 61 in (40, 41, 42, 43)
        for eye in (74, 118):
            grey = np.where(_ellipse(x, y, eye, 80, 9, 1 if shut else 6), 50, grey)
        grey = np.where(_ellipse(x, y, 96, 138, 17, 1.5 + self.mouth * opening), self.ink, grey)
        return grey * self.light

    def video(self, path: Path, loudness: np.ndarray, sound: Path | None, *, fps: int = FPS) -> Path:
        """An H.264 file of the whole loudness, muxed with the sound as the public scripts do."""
        count = -(-len(loudness) * FPS // RATE)
        grey = self.frames(loudness, count)
        if self.fade_to is not None:
            share = np.clip((np.arange(count) - FPS) / (count / 2), 0, 1)[:, None, None]
            grey = grey * (1 - share) + self.fade_to * share
        size = f"{self.size}x{self.size}"
        argv = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "gray", "-s", size, "-r", fps]
        argv += ["-i", "pipe:0"]
        argv += ["-i", sound, "-map", "0:v", "-map", "1:a", "-c:a", "aac"] if sound else []
        argv += ["-c:v", "libx264", "-preset", "veryfast", "-crf", self.crf, *self.extra]
        argv += ["-vf", "scale=out_range=tv", "-pix_fmt", "yuv420p", "-movflags", "+faststart", path]
        raw = np.clip(grey, 0, 255).astype(np.uint8).tobytes()
        subprocess.run([str(each) for each in argv], input=raw, check=True)
        return path


def _ellipse(x: np.ndarray, y: np.ndarray, left: float, top: float, wide: float, high: float) -> np.ndarray:
    return ((x - left) / wide) ** 2 + ((y - top) / high) ** 2 <= 1
