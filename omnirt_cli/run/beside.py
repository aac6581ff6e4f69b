"""What goes on beside a launch while the model loads: weights are read ahead, inputs hashed, the portrait's face found.

None of it may delay the launch or fail a run: it begins when the child runs, in a thread of low priority, and imports
what it needs there. What it found is taken over in the engine's thread, by `tick` and `stop`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from omnirt_cli.checks import Check, CheckStatus, skipped
from omnirt_cli.errors import OmniRTError
from omnirt_cli.plan import Plan
from omnirt_cli.report import ReadAheadInfo
from omnirt_cli.run.recorder import Recorder

if TYPE_CHECKING:
    from omnirt_cli.run.read_ahead import ReadAhead

_NICENESS = 10


class Beside:
    """The work beside one launch, from `start` to `stop`."""

    def __init__(self, plan: Plan, recorder: Recorder) -> None:
        self._plan = plan
        self._recorder = recorder
        self._found: list[str] = []
        self._portrait: Check | None = None
        self._reading = threading.Lock()
        self._ahead: ReadAhead | None = None
        self._loaded = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in the background."""
        self._thread = threading.Thread(target=self._work, name="beside", daemon=True)
        self._thread.start()

    def tick(self) -> None:
        """Tell what was found meanwhile."""
        while self._found:
            self._recorder.warn(self._found.pop(0))
        portrait, self._portrait = self._portrait, None
        if portrait is None:
            return
        self._recorder.report.checks.append(portrait)
        if portrait.status is CheckStatus.WARNED:
            self._recorder.warn(f"portrait: {portrait.detail}")

    def model_loaded(self) -> None:
        """Nothing more need be read ahead."""
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
        """Wait for the end of it, and take over what is left."""
        if self._thread is None:
            return
        self.model_loaded()
        self._thread.join()
        self.tick()

    def _work(self) -> None:
        # The child and the engine come first; Linux has a priority for each thread.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        self._read_ahead()
        from omnirt_cli.run import reporting
        from omnirt_cli.run.compile_cache import default_root, prune_compile_caches
        from omnirt_cli.runs.notes import note_started

        plan, report = self._plan, self._recorder.report
        warning = note_started(report, plan.outputs.report, plan.outputs.log)
        if warning:
            self._found.append(warning)
        reporting.add_slow_facts(report, plan)
        _preload()
        self._portrait = self._look_at_portrait()
        prune_compile_caches(default_root())

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

    def _look_at_portrait(self) -> Check:
        from omnirt_cli.portrait_check import NAME, check_faces, framing

        if NAME in self._plan.skipped_checks:
            return skipped(NAME, "left out by --skip-check")
        try:
            return check_faces(self._plan.portrait, framing(self._plan.geometry, self._plan.config.get("face_crop")))
        except (OmniRTError, OSError) as error:
            return skipped(NAME, f"faces could not be looked for: {error}")


def _preload() -> None:
    """Import what the run's end needs, while there is time to spare."""
    import omnirt_cli.run.diagnosis
    import omnirt_cli.run.publish
    import omnirt_cli.runs.history  # noqa: F401
