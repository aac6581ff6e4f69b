"""Numbers about pictures and sound: blocks of a frame, still intervals, and whether lips follow speech.

Everything here works on arrays and knows neither files nor ffmpeg nor models. Luma is in grey levels, 0 to
255 (full range). A frame is a grid of `GRID` x `GRID` blocks: the mean of a block is hardly touched by
compression noise, which a single pixel is not, and a mouth spans several blocks even where the face is a
fifth of the picture's width.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int_]

GRID = 24
SIDE = 4 * GRID
"""Pixels of the square that frames are scaled to; the picture's own proportions do not matter here."""
FRAME_BYTES = SIDE * SIDE * 3 // 2
"""One `yuv420p` frame of that size."""

STILL_LEVELS = 1.0
"""A block that moves by less is at rest: between key frames H.264 repeats a still picture to within a few tenths of a
level, while a mouth drawn only two levels darker than the face moves its blocks by more. A key frame may shift a block
by a few levels, which splits a rest in two."""
DARK_LEVEL = 25.5
DARK_SHARE = 0.98
"""As ffmpeg's blackdetect has it: black is 98 % of the picture under a tenth of full brightness."""

KEPT_FRAMES = 3000
"""Frames whose blocks are kept for the judgement of lips: two minutes at 25 fps, 4 MB. Later ones are judged for
darkness, stillness and drift only."""

POWER_RATE = 100
"""Values of sound power per second."""

_FIRST_S, _LAST_S = 1.0, 5.0
_SPEECH_RANGE_DB = 25.0
_SPEECH_FLOOR_DB = -55.0
_SYNC_REACH_S = 0.5
_SLOW_S = 1.0
_FAR_S = 1.0
_SURROGATES = 19
_ACTIVE_LEVELS = 0.15
_FAR_SHIFTS = 200


@dataclass(frozen=True)
class Look:
    """A mean picture: what drift is measured on."""

    blocks: Floats
    blue: float
    red: float

    @property
    def luma(self) -> float:
        """Mean grey level."""
        return float(self.blocks.mean())


@dataclass(frozen=True)
class Run:
    """An interval of frames, `first` to `last` inclusive."""

    first: int
    last: int

    @property
    def frames(self) -> int:
        """Its length."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Sync:
    """Where the best match of lips and speech lies.

    Attributes:
        lag_s: Positive where the sound comes after the picture.
        strength: Correlation there, 0 to 1.
        across: Where in the picture, 0 (left) to 1.
        down: Where in the picture, 0 (top) to 1.
    """

    lag_s: float
    strength: float
    across: float
    down: float


class PictureTrack:
    """What is remembered of a video's frames, in memory that hardly grows with its length.

    Attributes:
        count: Frames seen.
    """

    def __init__(self, fps: float) -> None:
        self.count = 0
        self._blocks: list[npt.NDArray[np.float16]] = []
        self._dark: list[Bools] = []
        self._runs: list[Run] = []
        self._anchor: Floats | None = None
        self._rest_since = 0
        self._first_frames = max(1, round(_FIRST_S * fps))
        self._first: list[tuple[Floats, float, float]] = []
        self._last: deque[tuple[Floats, float, float]] = deque(maxlen=max(1, round(_LAST_S * fps)))

    def add(self, raw: bytes) -> None:
        """Take whole `yuv420p` frames of `SIDE` x `SIDE` pixels."""
        frames = np.frombuffer(raw, dtype=np.uint8).reshape(-1, FRAME_BYTES)
        blocks = _block_means(frames)
        chroma = frames[:, SIDE * SIDE :].reshape(len(frames), 2, -1).mean(axis=2)
        if self.count < KEPT_FRAMES:
            self._blocks.append(blocks.astype(np.float16))
        flat = blocks.reshape(len(blocks), -1)
        self._dark.append((flat < DARK_LEVEL).mean(axis=1) >= DARK_SHARE)
        for frame, (blue, red) in zip(blocks, chroma, strict=True):
            self._follow(frame)
            self._remember(frame, float(blue), float(red))
            self.count += 1

    def _follow(self, frame: Floats) -> None:
        """Extend the present rest, or end it; compared with the frame that began it, slow movement counts too."""
        if self._anchor is not None and float(np.abs(frame - self._anchor).max()) < STILL_LEVELS:
            return
        if self.count > self._rest_since:
            self._runs.append(Run(self._rest_since, self.count - 1))
        self._anchor, self._rest_since = frame, self.count

    def _remember(self, frame: Floats, blue: float, red: float) -> None:
        if len(self._first) < self._first_frames:
            self._first.append((frame, blue, red))
        self._last.append((frame, blue, red))

    def blocks(self) -> Floats:
        """Block means of the frames kept: frames x GRID x GRID."""
        return np.concatenate(self._blocks).astype(np.float32)

    def dark(self) -> Bools:
        """Which frames are black."""
        return np.concatenate(self._dark)

    def still_runs(self, frames: int) -> list[Run]:
        """Intervals of at least `frames` frames in which no block moved."""
        last = Run(self._rest_since, self.count - 1)
        return [run for run in [*self._runs, last] if run.frames >= frames]

    def first_look(self) -> Look:
        """The mean picture of the first second."""
        return _mean_look(self._first)

    def last_look(self) -> Look:
        """The mean picture of the last five seconds."""
        return _mean_look(self._last)


def _block_means(frames: npt.NDArray[np.uint8]) -> Floats:
    cell = SIDE // GRID
    lines = frames[:, : SIDE * SIDE].reshape(-1, GRID, cell, SIDE).sum(axis=2, dtype=np.uint16)
    sums = lines.reshape(-1, GRID, GRID, cell).sum(axis=3, dtype=np.uint16)
    full_range = (sums.astype(np.float32) / (cell * cell) - 16.0) * (255.0 / 219.0)
    return np.asarray(full_range, dtype=np.float32)


def _mean_look(frames: Iterable[tuple[Floats, float, float]]) -> Look:
    kept = list(frames)
    blue, red = (float(np.mean([frame[which] for frame in kept])) for which in (1, 2))
    return Look(np.mean([frame[0] for frame in kept], axis=0, dtype=np.float32), blue, red)


def background_change(before: Look, after: Look) -> float:
    """Median change, in grey levels, of the blocks along the top and both sides: where no face is."""
    edge = np.zeros((GRID, GRID), dtype=bool)
    edge[:3, :] = edge[:, :2] = edge[:, -2:] = True
    return float(np.median(np.abs(after.blocks - before.blocks)[edge]))


def colour_change(before: Look, after: Look) -> float:
    """Distance of the mean chroma, in levels of 0 to 255."""
    return float(np.hypot(after.blue - before.blue, after.red - before.red))


class PowerMeter:
    """Mean power of a sound, `POWER_RATE` values a second, taken in piece by piece; full scale is 1."""

    def __init__(self, sample_rate: int) -> None:
        self._step = sample_rate // POWER_RATE
        self._rest = b""
        self._values: list[Floats] = []
        self.samples = 0
        self.peak = 0.0

    def add(self, raw: bytes) -> None:
        """Take signed 16-bit little-endian mono samples."""
        data = self._rest + raw
        whole = len(data) // (2 * self._step) * 2 * self._step
        self._rest = data[whole:]
        self._measure(np.frombuffer(data[:whole], dtype="<i2"))

    def finish(self) -> Floats:
        """All values; the last one may stand for less than a step."""
        samples = np.frombuffer(self._rest[: len(self._rest) // 2 * 2], dtype="<i2")
        if len(samples):
            self._measure(np.pad(samples, (0, self._step - len(samples))), counted=len(samples))
        self._rest = b""
        return np.concatenate(self._values) if self._values else np.zeros(0, np.float32)

    def _measure(self, samples: npt.NDArray[np.int16], counted: int | None = None) -> None:
        if not len(samples):
            return
        scaled = samples.reshape(-1, self._step).astype(np.float32) / np.float32(32768.0)
        self._values.append((scaled * scaled).mean(axis=1, dtype=np.float32))
        self.samples += len(samples) if counted is None else counted
        self.peak = max(self.peak, float(np.abs(scaled).max()))


def frame_power(power: Floats, fps: float, frames: int) -> Floats:
    """Mean power of the sound under each frame; zero behind the sound's end."""
    total = np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])
    edges = np.arange(frames + 1) * (POWER_RATE / fps)
    share = np.diff(np.interp(edges, np.arange(len(total)), total))
    return np.asarray(share * (fps / POWER_RATE), dtype=np.float32)


def audible(power: Floats) -> Bools:
    """Which values are speech: within 25 dB of the loud parts, and above the noise of a quiet room."""
    if not len(power):
        return np.zeros(0, dtype=bool)
    level = 10.0 * np.log10(power + 1e-12)
    return np.asarray(level > max(_SPEECH_FLOOR_DB, float(np.percentile(level, 95)) - _SPEECH_RANGE_DB))


def lip_sync(blocks: Floats, power: Floats, fps: float) -> Sync | None:
    """The lag at which some block's look, or its movement, follows the loudness of the speech best.

    Chance finds a block for any sound, so the match must be better than chance: better than at every far-off
    shift of the same sound, and better than that of each of 19 surrogates of it (same spectrum, random
    phases; the usual test of Theiler et al., 1992, at 5 %). Blinking eyes and a swaying head match the
    surrogates as well as the sound.

    Args:
        blocks: frames x GRID x GRID.
        power: One value per frame.
        fps: Frames per second.

    Returns:
        None where nothing in the picture follows the sound.
    """
    frames = min(len(blocks), len(power))
    loudness = np.sqrt(np.sqrt(power[:frames]))
    where = _plausible()
    looks = _without_slow(blocks[:frames, where], fps)
    lively = looks.std(axis=0) > _ACTIVE_LEVELS
    if frames < 3 * _FAR_S * fps or not lively.any():
        return None
    reach, apart = round(_SYNC_REACH_S * fps), round(_FAR_S * fps)
    near = np.arange(-reach - 1, reach + 2)
    far = np.linspace(apart, frames - apart, _FAR_SHIFTS).astype(int)
    rivals = [(rival, near) for rival in _surrogates(loudness)]
    scores, owners = _best_blocks(looks[:, lively], [(loudness, near), *rivals, (loudness, far)], fps)
    found, by_chance = scores[: len(near)], scores[len(near) :]
    best = int(found[1:-1].argmax()) + 1
    if found[best] <= by_chance.max():
        return None
    row, column = np.argwhere(where)[lively][owners[best]]
    lag = near[best] + _vertex(found[best - 1 : best + 2])
    return Sync(float(lag) / fps, float(found[best]), (float(column) + 0.5) / GRID, (float(row) + 0.5) / GRID)


def _best_blocks(looks: Floats, sounds: list[tuple[Floats, Integers]], fps: float) -> tuple[Floats, Integers]:
    """For each sound and each shift of it: the best block's correlation, and which block that is.

    A block's look may follow the loudness with either sign (a mouth opens dark, or shows teeth); its movement follows
    the change of loudness with one.

    Args:
        looks: frames x blocks.
        sounds: Loudness by frame, and the shifts (in frames that the sound comes later) to try.
        fps: Frames per second.
    """
    look = [_shifted(loudness, shifts, fps) for loudness, shifts in sounds]
    move = [_shifted(_steps(loudness), shifts, fps) for loudness, shifts in sounds]
    by_look = np.abs(_unit(looks).T @ np.concatenate(look, axis=1))
    by_move = _unit(_without_slow(_steps(looks), fps)).T @ np.concatenate(move, axis=1)
    both = np.maximum(by_look, by_move)
    return both.max(axis=0), both.argmax(axis=0)


def _shifted(sound: Floats, shifts: Integers, fps: float) -> Floats:
    """A unit vector for each circular shift: frames x shifts."""
    fast = _unit(_without_slow(sound, fps))
    moments = np.arange(len(fast))[:, None] + shifts
    return np.asarray(fast[moments % len(fast)], dtype=np.float32)


def _unit(signals: Floats) -> Floats:
    norm = np.sqrt((signals * signals).sum(axis=0))
    return np.asarray(signals / np.maximum(norm, 1e-9), dtype=np.float32)


def _steps(signals: Floats) -> Floats:
    """Size of the change from one frame to the next."""
    return np.abs(np.diff(signals, axis=0, prepend=signals[:1]))


def _without_slow(signals: Floats, fps: float) -> Floats:
    """The signal less its mean over a second around: head sway and light changes are slower than syllables."""
    half = max(1, round(_SLOW_S * fps / 2))
    around = [(half, half)] + [(0, 0)] * (signals.ndim - 1)
    before = [(1, 0)] + [(0, 0)] * (signals.ndim - 1)
    total = np.cumsum(np.pad(np.pad(signals, around, mode="edge"), before), axis=0, dtype=np.float64)
    mean = (total[2 * half :] - total[: -2 * half])[: len(signals)] / (2 * half)
    fast = signals - mean
    return np.asarray(fast - fast.mean(axis=0), dtype=np.float32)


def _surrogates(loudness: Floats) -> Iterable[Floats]:
    """Sounds with the same spectrum whose syllables come at other times; the same ones in every run."""
    chance = np.random.default_rng(1992)
    spectrum = np.fft.rfft(loudness)
    for _ in range(_SURROGATES):
        turned = spectrum * np.exp(2j * np.pi * chance.random(len(spectrum)))
        turned[0] = spectrum[0]
        yield np.fft.irfft(turned, n=len(loudness)).astype(np.float32)


def _plausible() -> Bools:
    """Blocks that may hold a mouth: not along the edges, not in the uppermost fifth."""
    where = np.zeros((GRID, GRID), dtype=bool)
    where[GRID // 5 : GRID - GRID // 12, GRID // 10 : GRID - GRID // 10] = True
    return where


def _vertex(around: Floats) -> float:
    """Where between the frames the peak lies: the vertex of the parabola through three values."""
    before, peak, after = (float(value) for value in around)
    bend = before - 2 * peak + after
    return 0.0 if bend >= 0 else max(-0.5, min(0.5, 0.5 * (before - after) / bend))
