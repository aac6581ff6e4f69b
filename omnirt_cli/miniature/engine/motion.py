"""From sound features to poses: the state that one chunk hands to the next.

A pose is what the renderer draws: mouth, eyelids, head. Everything random comes from one generator seeded per run,
and everything smooth is a filter whose state is carried, so that chunks join without a jump.
"""

from dataclasses import dataclass

import numpy as np

from engine import faults

_CONTEXT_WEIGHTS = np.array([0.05, 0.18, 0.44, 0.25, 0.08])
_BLINK = (0.35, 0.8, 1.0, 0.85, 0.55, 0.25)  # how closed, by frame
_REST_AFTER_BLINK_S = 1.3
_BLINKS_PER_S = 0.38


@dataclass(frozen=True)
class Pose:
    """One frame: mouth opening 0..1, its width -1 (round) to 1 (spread), lids 0 (open) to 1 (closed).

    The head's offsets are in eye distances, its roll in radians.
    """

    opening: float = 0.0
    width: float = 0.0
    lids: float = 0.0
    head_x: float = 0.0
    head_y: float = 0.0
    roll: float = 0.0


class Animator:
    """Poses chunk by chunk; the last ``motion_frames`` of a chunk are the first of the next."""

    def __init__(self, seed: int, fps: int, motion_frames: int) -> None:
        self._random = np.random.default_rng(seed)
        self._fps = fps
        self._motion_frames = motion_frames
        self._sway = self._random.uniform((0.07, 0.0), (0.24, 2 * np.pi), size=(6, 2))
        self._clock = 0
        self._blink: list[float] = []
        self._awake_frames = 0
        self._opening = self._width = self._effort = 0.0
        self._late: list[np.ndarray] = []
        self._carried: list[Pose] = []
        self._held: Pose | None = None
        self._chunk = 0

    def chunk(self, embedding: np.ndarray) -> list[Pose]:
        """The poses of the frames that ``embedding`` (frames, context, features) describes."""
        heard = np.tensordot(embedding, _CONTEXT_WEIGHTS, axes=(1, 0))
        carried = len(self._carried)
        poses = self._carried + [self._next(features) for features in heard[carried:]]
        self._carried = poses[-self._motion_frames :]
        self._chunk += 1
        return self._spoiled(poses)

    def _next(self, features: np.ndarray) -> Pose:
        opening, brightness = self._delayed(features)
        self._opening += (opening - self._opening) * (0.7 if opening > self._opening else 0.5)
        self._width += ((2 * brightness - 1) * 0.9 * min(1.0, 2 * opening) - self._width) * 0.45
        self._effort += (opening - self._effort) * 0.12
        self._clock += 1
        x, y, roll = self._head()
        lids = self._lids()
        return Pose(float(self._opening), float(self._width), lids, x, y - 0.05 * float(self._effort), roll)

    def _delayed(self, features: np.ndarray) -> np.ndarray:
        if faults.picture("dead_mouth", self._chunk):
            # Deaf: the mouth stays shut and the head no longer nods with the voice; it sways and blinks on.
            return np.zeros_like(features)
        fault = faults.picture("shift", self._chunk)
        frames = round(fault.value * self._fps) if fault else 0
        self._late.append(features)
        return self._late.pop(0) if len(self._late) > frames else np.zeros_like(features)

    def _head(self) -> tuple[float, float, float]:
        t = self._clock / self._fps
        waves = np.sin(2 * np.pi * self._sway[:, 0] * t + self._sway[:, 1]) - np.sin(self._sway[:, 1])
        fade = min(1.0, t / 1.5)
        x, y, roll = fade * (waves[0::2] + 0.6 * waves[1::2])
        return float(0.030 * x), float(0.022 * y), float(0.014 * roll)

    def _lids(self) -> float:
        rested = not self._blink and self._awake_frames > _REST_AFTER_BLINK_S * self._fps
        if rested and self._random.random() < _BLINKS_PER_S / self._fps:
            self._blink = list(_BLINK)
        self._awake_frames = 0 if self._blink else self._awake_frames + 1
        return self._blink.pop(0) if self._blink else 0.0

    def _spoiled(self, poses: list[Pose]) -> list[Pose]:
        chunk = self._chunk - 1
        if faults.picture("frozen", chunk):
            self._held = self._held or poses[0]
            poses = [self._held] * len(poses)
        return poses
