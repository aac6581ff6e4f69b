"""What goes on beside a launch: weights are read ahead, inputs hashed, the portrait's face found, the sound encoded.

That while the model loads; while a driven one computes, its picture is decoded as it grows. None of it may delay the
launch or fail a run: it begins when the child runs, in threads of low priority, and imports what it needs there. What
it found is taken over in the engine's thread, by `tick` and `stop`; what hangs is left out.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from omnirt_cli.checks import Check, CheckStatus, skipped
from omnirt_cli.errors import OmniRTError
from omnirt_cli.plan import Plan
from omnirt_cli.report import ReadAheadInfo
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.recorder import Recorder
from omnirt_cli.run.scratch import Held, Scratch

if TYPE_CHECKING:
    from omnirt_cli.run.read_ahead import ReadAhead

PATIENCE_S = 30.0
"""How long the run's end waits for what is not done yet."""

CANCELLED_PATIENCE_S = 0.5
"""The same once the run was cancelled: what does not hang is done by then."""

_NICENESS = 10
_LOOK_S = 0.1


class Beside:
    """The work beside one launch, from `start` to `stop`."""

    def __init__(
        self, plan: Plan, recorder: Recorder, scratch: Scratch, cancel: CancelToken, *, noted: bool = False
    ) -> None:
        self._plan = plan
        self._recorder = recorder
        self._scratch = scratch
        self._cancel = cancel
        self._noted = noted
        self._found: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._doing = ""
        self._given_up = False
        self._reading = threading.Lock()
        self._ahead: ReadAhead | None = None
        self._loaded = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in the background."""
        # Here, while there is one thread: where several begin with different parts of NumPy at once (OpenCV has its
        # own way in), one of them finds it half made, and it cannot be imported any more in this process.
        import numpy  # noqa: F401, ICN001

        self._thread = threading.Thread(target=self._work, name="beside", daemon=True)
        self._thread.start()

    def tick(self) -> None:
        """Put what was found meanwhile into the report."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._found.get_nowait()()

    def model_loaded(self) -> None:
        """Nothing more need be read ahead; frames will come."""
        self._end_reading()
        if self._plan.driven and self._plan.verify.mode == "full" and self._scratch.follower is None:
            from omnirt_cli.media.follow import Follower

            expected = self._plan.expected
            self._scratch.follower = Follower(self._scratch.picture, fps=expected.fps, frames=expected.frames)

    def _end_reading(self) -> None:
        with self._reading:
            self._loaded = True
            ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        facts = ahead.stop()
        self._recorder.report.read_ahead = ReadAheadInfo(
            files=facts.files,
            bytes=facts.read_bytes,
            ms=round(facts.ms, 3),
            already_cached_bytes=facts.already_cached_bytes,
            complete=facts.complete,
        )

    def stop(self) -> None:
        """Take over what is left, waiting for it only so long: a file system that hangs must not hold the run up."""
        if self._thread is None:
            return
        self._end_reading()
        self._end_following()
        began = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - began < self._patience_s():
            self._thread.join(_LOOK_S)
        self._given_up = self._thread.is_alive()
        self.tick()
        if self._given_up:
            self._recorder.warn(f"left out, for it took too long: {self._doing}")

    def _end_following(self) -> None:
        """What is written is written: the rest of it is decoded while other things are done."""
        follower = self._scratch.follower
        if follower is None:
            return
        if self._cancel.asked:
            follower.stop()
        else:
            follower.finish()

    def _patience_s(self) -> float:
        return CANCELLED_PATIENCE_S if self._cancel.asked else PATIENCE_S

    def _work(self) -> None:
        # The child and the engine come first; Linux has a priority for each thread.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        steps: tuple[tuple[str, Callable[[], None]], ...] = (
            ("reading the weights ahead", self._read_ahead),
            ("noting the run for `omnirt runs`", self._note_started),
            ("the inputs' checksums", self._hash_inputs),
            ("ffmpeg's version", self._learn_version),
            ("importing what the end needs", _preload),
            ("encoding the sound", self._encode_sound),
            ("the look for the portrait's face", self._look_at_portrait),
            ("removing old compile caches", _prune),
        )
        for self._doing, step in steps:
            if self._given_up:
                return
            try:
                step()
            except Exception as problem:  # noqa: BLE001 - the thread's edge: none of this is worth a run
                self._warn(f"left out: {self._doing} ({type(problem).__name__}: {problem})")

    def _warn(self, message: str) -> None:
        self._found.put(partial(self._recorder.warn, message))

    # The steps

    def _read_ahead(self) -> None:
        if not (self._plan.read_ahead and self._plan.weights):
            return
        from omnirt_cli import host_memory
        from omnirt_cli.run.read_ahead import ReadAhead, WeightFolder, plan_read_ahead

        free = host_memory.available().bytes or 0
        stretches = plan_read_ahead(map(WeightFolder.of, self._plan.weights), free)
        with self._reading:
            if not self._loaded:
                self._ahead = ReadAhead.start(stretches)

    def _note_started(self) -> None:
        if self._noted:
            return
        from omnirt_cli.runs.notes import note_started

        outputs = self._plan.outputs
        warning = note_started(self._recorder.report, outputs.report, outputs.log)
        if warning:
            self._warn(warning)

    def _hash_inputs(self) -> None:
        for key, held in (("image", self._scratch.portrait), ("audio", self._scratch.recording)):
            if held is not None:
                self._hash(key, held)

    def _hash(self, key: str, held: Held) -> None:
        from omnirt_cli.media.files import sha256_of

        try:
            digest = sha256_of(held.path)
        except OSError as error:
            self._warn(f"left out: the checksum of {held.source}: {error.strerror}")
            return
        if held.changed:
            self._warn(f"left out: the checksum of {held.source}, which changed after the run had begun")
            return
        self._found.put(partial(setattr, self._recorder.report.inputs[key], "sha256", digest))

    def _learn_version(self) -> None:
        from omnirt_cli.media.tool_versions import known_version
        from omnirt_cli.media.tools import preload

        with contextlib.suppress(OmniRTError):
            version = known_version("ffmpeg")
            self._found.put(partial(self._recorder.report.versions.__setitem__, "ffmpeg", version))
        preload()

    def _encode_sound(self) -> None:
        """Encode the sound for a picture that is complete with its last chunk.

        Not for a script: it saves for longer than this takes, and its own mux needs the disk's room first.
        """
        recording = self._scratch.recording
        if not self._plan.driven or recording is None or recording.changed:
            return
        from omnirt_cli.media.deliver import encode_sound

        sound = encode_sound(
            recording.path,
            frames=self._plan.expected.frames,
            fps=self._plan.geometry.fps,
            duration_s=self._plan.speech.duration_s,
            cut=self._plan.audio.cut,
            speech=self._plan.speech,
            destination=self._scratch.sound_place,
        )
        if not recording.changed:
            self._found.put(partial(setattr, self._scratch, "sound", sound))

    def _look_at_portrait(self) -> None:
        self._found.put(partial(self._take_over, self._check_portrait()))

    def _take_over(self, portrait: Check) -> None:
        self._recorder.report.checks.append(portrait)
        if portrait.status is CheckStatus.WARNED:
            self._recorder.warn(f"portrait: {portrait.detail}")

    def _check_portrait(self) -> Check:
        from omnirt_cli.portrait_check import NAME, check_faces, framing

        if NAME in self._plan.skipped_checks:
            return skipped(NAME, "left out by --skip-check")
        try:
            return check_faces(self._plan.portrait, framing(self._plan.geometry, self._plan.config.get("face_crop")))
        except (OmniRTError, OSError, _opencv_error()) as error:
            return skipped(NAME, f"faces could not be looked for: {error}")


def _opencv_error() -> type[Exception]:
    """OpenCV's own error; it is known only once OpenCV was imported, and derives from nothing more special."""
    found = getattr(sys.modules.get("cv2"), "error", None)
    return found if isinstance(found, type) and issubclass(found, Exception) else OSError


def _preload() -> None:
    """Import what the run's end needs, while there is time to spare."""
    import omnirt_cli.media.judge
    import omnirt_cli.run.diagnosis
    import omnirt_cli.run.publish
    import omnirt_cli.runs.history  # noqa: F401


def _prune() -> None:
    from omnirt_cli.run.compile_cache import default_root, prune_compile_caches

    prune_compile_caches(default_root())
