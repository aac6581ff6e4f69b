"""ffmpeg and ffprobe: where they are, and the bounded ways to run them, at once or as a stream.

Every call has a deadline, a limit on what is read from it, no standard input and no shell. Files that users
give are opened with a whitelist of protocols and of container formats, so that a playlist under another name
opens nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import IO

from omnirt_cli import bounded
from omnirt_cli.bounded import STDERR_LIMIT, STDOUT_LIMIT, Outcome
from omnirt_cli.errors import InputMissingError

__all__ = ["Outcome", "Tool", "ffmpeg_version", "file_url", "find_tool", "input_argv", "input_guard", "preload", "run"]

PROTOCOLS = "file,pipe"

CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,mpc,mpc8,ogg,tak,tta,voc,w64,"
    "wav,webm,wv"
)
"""Demuxers that hold media themselves. Those that name other files (concat, hls, dash, sdp, playlists, image
sequences) or that take anything for media (raw PCM) are left out."""

PROBE_TIMEOUT_S = 30.0
VERSION_TIMEOUT_S = 10.0
"""How long a tool may take to say its version: the first start from a network disk takes seconds, a hang for ever."""

INSTALL_HINT = "install ffmpeg (Debian, Ubuntu: `apt-get install ffmpeg`; macOS: `brew install ffmpeg`) and check PATH"


def find_tool(name: str) -> str:
    """Absolute path of `ffmpeg` or `ffprobe`.

    Raises:
        InputMissingError: It is not on PATH.
    """
    found = shutil.which(name)
    if found is None:
        raise InputMissingError(f"{name} is not on PATH", hint=INSTALL_HINT)
    return os.path.abspath(found)  # noqa: PTH100  # Path.resolve would follow the link and change the program's name


def ffmpeg_version() -> str:
    """The version that ffmpeg names itself by, e.g. `5.1.9-0+deb12u1`.

    Raises:
        InputMissingError: ffmpeg is not there, or does not run.
    """
    return tool_version("ffmpeg")


def tool_version(name: str) -> str:
    """The version that `ffmpeg` or `ffprobe` names itself by.

    Raises:
        InputMissingError: It is not there, or does not run.
    """
    tool = find_tool(name)
    try:
        outcome = run([tool, "-version"], timeout_s=VERSION_TIMEOUT_S)
    except OSError as error:
        raise InputMissingError(f"{tool} cannot be started: {error.strerror}", hint=INSTALL_HINT) from error
    found = re.match(rb"%b version (\S+)" % name.encode(), outcome.stdout)
    if found is None:
        raise InputMissingError(f"{tool} does not run: {outcome.last_words()}", hint=INSTALL_HINT)
    return found[1].decode("utf-8", "replace")


def require_h264_encoder() -> None:
    """See that ffmpeg can encode H.264 without any device; some distributions leave that out.

    Raises:
        InputMissingError: It cannot, or is not there.
    """
    outcome = run([find_tool("ffmpeg"), "-hide_banner", "-encoders"], timeout_s=PROBE_TIMEOUT_S)
    if not re.search(rb"\blib(?:x264|openh264)\b", outcome.stdout):
        raise InputMissingError(
            f"{find_tool('ffmpeg')} has no H.264 encoder",
            hint="install an ffmpeg with libx264, or leave out --executor driver: the scripts bring an encoder along",
        )


def preload() -> None:
    """Import what delivery and verification need, while there is time to spare: during the render."""
    import ffmpeg  # noqa: F401

    # NumPy leaves these to whoever uses them first.
    import numpy.fft
    import numpy.ma
    import numpy.random  # noqa: F401
    import PIL.ImageStat  # noqa: F401


def file_url(path: Path) -> str:
    """A path as ffmpeg must be given it: a leading `-` or a `:` in it means nothing any more."""
    return f"file:{os.fspath(path)}"


def input_guard() -> dict[str, str]:
    """Input options that keep a file from opening anything but itself."""
    return {"protocol_whitelist": PROTOCOLS, "format_whitelist": CONTAINERS}


def input_argv(path: Path) -> list[str]:
    """The guarded input as arguments, for `-i`-style programs.

    ffprobe's and the decoder's short command lines are written with this: importing ffmpeg-python takes as
    long as the probe itself, and both are on the way to the launch.
    """
    options = [text for key, value in input_guard().items() for text in (f"-{key}", value)]
    return [*options, "-i", file_url(path)]


class Tool:
    """One running ffmpeg or ffprobe; as a context manager it never outlives its block.

    It is a session of its own: Ctrl-C in the terminal is the caller's to handle, and does not turn a good
    file into one that "cannot be decoded".

    Attributes:
        stdout: The stream, for a caller that reads it itself instead of calling `collect`.
    """

    def __init__(
        self,
        argv: list[str],
        *,
        timeout_s: float,
        stdin: IO[bytes] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self._process = subprocess.Popen(
            argv,
            stdin=stdin if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            pass_fds=pass_fds,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._left = contextlib.ExitStack()
        self._left.enter_context(bounded.ending_with_us(self._process))
        self.stdout: IO[bytes] = self._process.stdout
        self._said = _Tail(self._process.stderr)
        self._timed_out = False
        self._deadline = threading.Timer(timeout_s, self._expire)
        self._deadline.daemon = True
        self._deadline.start()

    def collect(self, limit: int = STDOUT_LIMIT) -> Outcome:
        """Read standard output to its end and wait; a tool that writes more than `limit` bytes is killed."""
        collected = self.stdout.read(limit + 1)
        if len(collected) > limit:
            self.kill()
            return self._outcome(b"", overflowed=True)
        return self._outcome(collected)

    def wait(self) -> Outcome:
        """How it ended, once the caller has read the stream to its end."""
        return self._outcome(b"")

    def kill(self) -> None:
        """End it now, and its children with it; harmless when it has ended already."""
        bounded.kill(self._process)

    def __enter__(self) -> Tool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadline.cancel()
        if self._process.poll() is None:
            self.kill()
        self._process.wait()
        self._left.close()
        self._said.join()
        self.stdout.close()

    def _expire(self) -> None:
        self._timed_out = True
        self.kill()

    def _outcome(self, stdout: bytes, *, overflowed: bool = False) -> Outcome:
        returncode = self._process.wait()
        self._deadline.cancel()
        return Outcome(returncode, stdout, self._said.text(), self._timed_out, overflowed)


class _Tail:
    """Reads a stream to its end, so that its writer never blocks, and keeps the last of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._blocks: deque[bytes] = deque(maxlen=STDERR_LIMIT // 1024)
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def text(self) -> str:
        self.join()
        return b"".join(self._blocks).decode("utf-8", "replace")

    def _drain(self) -> None:
        with self._stream as stream:
            while block := stream.read1(1024):  # type: ignore[attr-defined]
                self._blocks.append(block)


def run(argv: list[str], *, timeout_s: float, stdin: IO[bytes] | None = None, limit: int = STDOUT_LIMIT) -> Outcome:
    """Run a tool to its end and collect what it says."""
    return bounded.run(argv, timeout_s=timeout_s, env=_environment(), stdin=stdin, limit=limit)


def _environment() -> dict[str, str]:
    """The caller's environment without what makes ffmpeg write reports or colours."""
    dropped = {"FFREPORT", "AV_LOG_FORCE_COLOR"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "AV_LOG_FORCE_NOCOLOR": "1"}
