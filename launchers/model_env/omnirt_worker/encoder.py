"""An ffmpeg process that is fed while the next chunk is computed.

The file is a fragmented MP4: one piece a second, each playable as soon as it is on disk, whatever becomes of the
programs that write it. A thread hands chunks over from a short queue; who computes faster than ffmpeg encodes waits,
so that memory stays the same however long the video. The encoder's settings are those of the scripts' save routines
(H.264 at its default quality, no B-frames).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import IO

from .requests import PictureRequest

QUEUE_CHUNKS = 2
"""Chunks that wait at most, beside the one that is being written."""

PIPE_BYTES = 1 << 20
"""Of ffmpeg's input. What is in it is safe should this process die, and it takes fewer turns than the usual 64 KiB."""

_F_SETPIPE_SZ = 1031
"""Linux's number; Python names it since 3.10."""

WORDS_LINES = 3
"""Of ffmpeg's last words in an error."""

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_inputs: set[int] = set()
"""Descriptors of every ffmpeg's input."""


def _forget_inputs() -> None:
    """A fork of this process (torch.compile makes some) must not keep ffmpeg waiting for the end of its input."""
    for descriptor in _inputs:
        os.close(descriptor)


os.register_at_fork(after_in_child=_forget_inputs)


class EncoderError(RuntimeError):
    """ffmpeg ended before its work was done."""


class Encoder:
    """One video being written. `put` and `close` may be called from different threads."""

    def __init__(self, request: PictureRequest) -> None:
        """Start ffmpeg.

        Raises:
            OSError: It cannot be started.
        """
        self._ffmpeg = _start(request)
        _inputs.add(self._pipe.fileno())
        with contextlib.suppress(OSError):  # a system may allow less
            fcntl.fcntl(self._pipe.fileno(), _F_SETPIPE_SZ, PIPE_BYTES)
        self._queue: queue.Queue[memoryview | None] = queue.Queue(QUEUE_CHUNKS)
        self._broken = threading.Event()
        self._closing = threading.Lock()
        self._closed = False
        self._said: deque[str] = deque(maxlen=WORDS_LINES)
        self._thread = threading.Thread(target=self._feed, name="encoder", daemon=True)
        self._listener = threading.Thread(target=self._listen, name="encoder's words", daemon=True)
        self._thread.start()
        self._listener.start()

    def put(self, pixels: memoryview) -> None:
        """Hand a chunk over; waits while the queue is full.

        Raises:
            EncoderError: ffmpeg is gone.
        """
        if not self._broken.is_set():
            self._queue.put(pixels)
        if self._broken.is_set():
            self.close()

    def close(self) -> None:
        """Write what was handed over, and end ffmpeg.

        Raises:
            EncoderError: It did not end well.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
            self._thread.join()
            code = self._ffmpeg.wait()
            self._listener.join()
        # ffmpeg ends with 0 where only its last bytes found no room, and says so. It is not told to stop at an error:
        # cut off within a frame it must still encode those before.
        if code != 0 or self._said or self._broken.is_set():
            words = "".join(f"; {line}" for line in self._said)
            raise EncoderError(f"ffmpeg, which writes the video, {_ending(code)}{words}")

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.close()
        except EncoderError:
            if error is None:
                raise
            # What came first tells more.

    def _feed(self) -> None:
        """Write chunks until the mark of the end; after a fault, take them away so that nobody waits."""
        while (pixels := self._queue.get()) is not None:
            if not self._broken.is_set():
                self._do(self._pipe.write, pixels)
        _inputs.discard(self._pipe.fileno())
        self._do(self._pipe.close)

    def _do(self, action: Callable[..., object], *values: memoryview) -> None:
        try:
            action(*values)
        except OSError:  # the other end is closed: ffmpeg is gone, or will be
            self._broken.set()

    def _listen(self) -> None:
        """Pass on what ffmpeg says, and remember the last of it."""
        assert self._ffmpeg.stderr is not None
        with self._ffmpeg.stderr as words:
            for line in words:
                text = line.decode("utf-8", "replace").rstrip()
                self._said.append(text)
                sys.stderr.write(text + "\n")
                sys.stderr.flush()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._ffmpeg.stdin is not None
        return self._ffmpeg.stdin


def _start(request: PictureRequest) -> subprocess.Popen[bytes]:
    """Start ffmpeg with the signals that stop a run blocked: it ends when its input does, and loses nothing before.

    It stays in this process's session and carries the run's mark, so that SIGKILL reaches it as everything else.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        return subprocess.Popen(_argv(request), stdin=pipe, stdout=nowhere, stderr=pipe)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _argv(request: PictureRequest) -> list[str]:
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{request.width}x{request.height}"]
    coding = ["-c:v", "h264", "-pix_fmt", "yuv420p", "-bf", "0"]
    pieces = ["-movflags", "+empty_moov+default_base_moof", "-frag_duration", "1000000", "-flush_packets", "1"]
    quiet = ["-hide_banner", "-nostats", "-v", "repeat+error"]
    target = [*coding, *pieces, "-f", "mp4", "-y", f"file:{request.path}"]
    return [request.ffmpeg, *quiet, *source, "-r", str(request.fps), "-i", "pipe:0", *target]


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    return f"was killed by {signal.Signals(-code).name}"
