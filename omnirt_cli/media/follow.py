"""A picture that is decoded and measured while it is made: its file is read as it grows.

What comes of it saves time and is never needed: whatever goes wrong here, nothing was seen, and the finished file is
decoded afterwards. It knows neither who writes the file nor what is expected of it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from omnirt_cli.media.decode import PictureDecode, Seen

LOOK_S = 0.1
"""Between two looks whether the file grew."""

PATIENCE_S = 5.0
"""How long what is left may take at the end: about the decode of five minutes of video."""

_STOPPED_S = 1.0
_BLOCK = 1 << 16
_NICENESS = 10


class Follower:
    """Reads one growing file, in the background, at a low priority."""

    def __init__(self, path: Path, *, fps: float, frames: int) -> None:
        """Begin.

        Args:
            path: The file, which is there; a fragmented MP4, or anything else that can be read from its start on.
            fps: Of the picture.
            frames: How many of its frames will be used.
        """
        self._path = path
        self._fps = fps
        self._frames = frames
        self._complete = threading.Event()
        self._stopped = threading.Event()
        self._decode: PictureDecode | None = None
        self._seen: Seen | None = None
        self._thread = threading.Thread(target=self._work, name="follower", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """The file is complete; does not wait."""
        self._complete.set()

    def result(self, patience_s: float = PATIENCE_S) -> Seen | None:
        """What was seen of the complete file; None where that failed or is not known in time."""
        self.finish()
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self.stop()
            return None
        return self._seen

    def stop(self) -> None:
        """Nobody wants the result."""
        self._stopped.set()
        self._complete.set()
        if self._decode is not None:
            self._decode.kill()
        self._thread.join(_STOPPED_S)

    def _work(self) -> None:
        # Linux has a priority for each thread; those that a thread starts, and ffmpeg, get its own.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        # The thread's edge: what is wrong with the file or with ffmpeg is told by the decode afterwards.
        with contextlib.suppress(Exception):
            self._seen = self._follow()

    def _follow(self) -> Seen | None:
        from omnirt_cli.media.decode import PictureDecode

        end, start = os.pipe()
        with self._path.open("rb", buffering=0) as file, os.fdopen(start, "wb", buffering=0) as sink:
            with os.fdopen(end, "rb", buffering=0) as source:
                self._decode = PictureDecode(source, fps=self._fps, frames=self._frames)
            if self._stopped.is_set():
                self._decode.kill()
            feeder = threading.Thread(target=self._feed, args=(file, sink), name="follower's feeder", daemon=True)
            feeder.start()
            seen = self._decode.run()
            self._complete.set()  # it may have had enough before the file's end
            feeder.join()
        return None if self._stopped.is_set() else seen

    def _feed(self, file: IO[bytes], sink: IO[bytes]) -> None:
        """Pass the file on as it grows, and close the pipe at its end, or when ffmpeg wants no more."""
        with contextlib.suppress(OSError), sink:
            while True:
                complete = self._complete.is_set()
                while block := file.read(_BLOCK):
                    sink.write(block)
                if complete:
                    return
                self._complete.wait(LOOK_S)
