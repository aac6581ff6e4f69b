"""The stand-in for the models' pipelines: loads nothing, hears the sound, draws the portrait.

Life of one: construct (the load), ``prepare_params`` (a portrait and a seed; starts over), then per chunk
``preprocess_audio`` and ``generate``. The motion state is the animator's, carried from chunk to chunk.
"""

import time

import numpy as np
from PIL import Image

from engine import audio, bars, faults, knobs, ranks
from engine.motion import Animator, Pose
from engine.render import Renderer, cover


class Pipeline:
    """What the variants' pipelines share.

    ``debug_timing`` prints the ``[generate]`` lines on rank 0, as the public scripts do by default.
    """

    debug_timing = True

    def __init__(self, checkpoint_dir: str, wav2vec_dir: str, device: str) -> None:
        self.checkpoint_dir, self.wav2vec_dir, self.device = checkpoint_dir, wav2vec_dir, device
        self.rank = ranks.rank()
        faults.strike("load")
        bars.loading_bar("Loading checkpoint shards", 4, knobs.seconds("MINIATURE_LOAD_S"))
        ranks.meet()

    def start(
        self,
        portrait: Image.Image,
        target_size: tuple[int, int],
        frame_num: int,
        motion_frames_num: int,
        steps: int,
        fps: int,
        seed: int,
    ) -> None:
        """Begin a run: ``target_size`` is (height, width)."""
        faults.strike("prep")
        self.frame_num, self.motion_frames_num, self.steps = frame_num, motion_frames_num, steps
        self.target_h, self.target_w = target_size
        self._renderer = Renderer(cover(portrait, *target_size))
        self._carried: dict[Pose, np.ndarray] = {}
        self._animator = Animator(seed, fps, motion_frames_num)
        self._chunk = 0

    def preprocess_audio(self, samples: np.ndarray, sr: int = 16000, fps: int = 25) -> np.ndarray:
        """Features per frame of the sound."""
        return audio.features(samples, sr, fps, self.frame_count(len(samples), sr, fps))

    def frame_count(self, samples: int, sr: int, fps: int) -> int:
        """How many whole frames of sound there are."""
        return int(samples * fps / sr)

    def generate(self, embedding: np.ndarray) -> np.ndarray:
        """One chunk: (1, frames, context, features) to (frames, height, width, 3) float32 in 0..255."""
        faults.strike(f"chunk{self._chunk}")
        ranks.meet()
        poses = self._denoise(embedding[0])
        began = time.time()
        frames = self._drawn(poses)
        if faults.picture("black", self._chunk):
            frames[:] = 0
        self._say("decode video frames", time.time() - began)
        self._say("color correction", 0.0)
        self._say("encode motion frames", 0.0)
        self._chunk += 1
        return frames

    def _drawn(self, poses: list) -> np.ndarray:
        """The poses' frames; those carried over from the chunk before are not drawn again."""
        frames = np.empty((len(poses), self.target_h, self.target_w, 3), np.float32)
        for frame, pose in zip(frames, poses, strict=True):
            if pose not in self._carried:
                self._carried[pose] = self._renderer.frame(pose)
            frame[:] = self._carried[pose]
        self._carried = {pose: self._carried[pose] for pose in poses[-self.motion_frames_num :]}
        return frames

    def _denoise(self, embedding: np.ndarray) -> list:
        poses = self._animator.chunk(embedding)
        for _ in range(self.steps):
            began = time.time()
            knobs.spend(knobs.seconds("MINIATURE_CHUNK_S") / self.steps)
            self._say("model denoise per step", time.time() - began)
        return poses

    def _say(self, what: str, duration_s: float) -> None:
        if self.debug_timing and self.rank == 0:
            print(f"[generate] {what}: {duration_s}s")
