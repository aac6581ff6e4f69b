"""Decodes: every frame and every sample of a video is looked at once, none is kept.

A finished file is decoded whole, by `decode`. Where its picture was decoded while it was made (`PictureDecode`), the
finished file is only read for its packets, which must be those that were decoded, and for its sound.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ffmpeg

from omnirt_cli.media import tools
from omnirt_cli.media.audio import SAMPLE_RATE
from omnirt_cli.media.motion import FRAME_BYTES, SIDE, Floats, PictureTrack, PowerMeter
from omnirt_cli.media.packets import PacketSum, list_packets

_FRAMES_AT_ONCE = 32
_PIPE_SIZE = 1 << 20
_BLOCK = 1 << 16
_FIXED_TIMEOUT_S = 120.0
_LONGEST_MAKING_S = 7 * 24 * 3600.0
"""A picture that is being made is decoded for as long as that takes: who makes it has limits of its own."""


@dataclass(frozen=True)
class Decoded:
    """What a decode found.

    Attributes:
        fault: ffmpeg's words where the file did not decode to its end; the rest then stands for what came
            before.
        power: Of the sound, `motion.POWER_RATE` values a second; None where there is no sound.
        peak: Loudest sample, full scale is 1.
        sound_s: Length of the decoded sound.
        ahead: Whether the picture was decoded while it was made.
    """

    picture: PictureTrack
    power: Floats | None
    peak: float
    sound_s: float
    fault: str | None
    ahead: bool = False


@dataclass(frozen=True)
class Seen:
    """A picture that was decoded while it was made.

    Attributes:
        packets: `PacketSum.digest` of the packets that it was decoded from.
    """

    picture: PictureTrack
    packets: str


def decode(path: Path, *, fps: float, duration_s: float, with_sound: bool = True) -> Decoded:
    """Decode the whole file, and stop at the first error.

    ffmpeg scales the frames down and mixes the sound; both come through pipes of their own and are read at
    the same time.

    Raises:
        InputMissingError: ffmpeg is not there.
    """
    picture, meter = PictureTrack(fps), PowerMeter(SAMPLE_RATE)
    source, sound = _file(path), _SidePipe(meter.add)
    outputs = [_small_frames(source)]
    if with_sound:
        outputs.append(_samples(source, sound))
    with _start(outputs, sound, timeout_s=_timeout_s(duration_s)) as tool:
        _measure(tool, picture)
        outcome = tool.wait()
    sound.join()
    return Decoded(
        picture=picture,
        power=meter.finish() if with_sound else None,
        peak=meter.peak,
        sound_s=meter.samples / SAMPLE_RATE,
        fault=None if outcome.ok else outcome.last_words(1),
    )


def decode_rest(path: Path, seen: Seen, *, duration_s: float) -> Decoded | None:
    """Decode the sound of a finished file, and see that its picture is the one that was decoded before.

    Returns:
        What `decode` would have found; None where the picture is another one, there is no sound, or the file cannot be
        read to its end: `decode` then has the word.

    Raises:
        InputMissingError: ffmpeg is not there.
    """
    packets, meter = PacketSum(), PowerMeter(SAMPLE_RATE)
    source, sound = _file(path), _SidePipe(meter.add)
    outputs = [list_packets(source, "pipe:1"), _samples(source, sound)]
    with _start(outputs, sound, timeout_s=_timeout_s(duration_s)) as tool:
        while text := tool.stdout.read(_BLOCK):
            packets.add(text)
        outcome = tool.wait()
    sound.join()
    if not outcome.ok or packets.digest != seen.packets:
        return None
    return Decoded(seen.picture, meter.finish(), meter.peak, meter.samples / SAMPLE_RATE, fault=None, ahead=True)


class PictureDecode:
    """The decode of a picture that comes through a pipe, without sound, as it is made."""

    def __init__(self, source: IO[bytes], *, fps: float, frames: int) -> None:
        """Start ffmpeg on it.

        Args:
            source: The pipe's end; the caller closes its own.
            fps: Of the picture.
            frames: How many to decode; more may come.

        Raises:
            InputMissingError: ffmpeg is not there.
        """
        self._picture, self._packets = PictureTrack(fps), PacketSum()
        self._list = _SidePipe(self._packets.add)
        stream = ffmpeg.input("pipe:0", **tools.input_guard())
        outputs = [_small_frames(stream, frames), list_packets(stream, self._list.url, frames)]
        self._tool = _start(outputs, self._list, timeout_s=_LONGEST_MAKING_S, stdin=source)

    def run(self) -> Seen | None:
        """Measure the frames as they come; None where anything went wrong, whatever it was."""
        with self._tool as tool:
            _measure(tool, self._picture)
            outcome = tool.wait()
        self._list.join()
        if not outcome.ok or not 0 < self._picture.count == self._packets.count:
            return None
        return Seen(self._picture, self._packets.digest)

    def kill(self) -> None:
        """End it now: `run` finds nothing."""
        self._tool.kill()


class _SidePipe:
    """A pipe for what ffmpeg writes beside its standard output, read in a thread of its own."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        end, self.fd = os.pipe()
        self.url = f"pipe:{self.fd}"
        self._thread = threading.Thread(target=_read, args=(end, take), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The writer has its own end, or there is none."""
        os.close(self.fd)

    def join(self) -> None:
        """Wait for its end, which is the writer's."""
        self._thread.join()


def _read(end: int, take: Callable[[bytes], object]) -> None:
    with os.fdopen(end, "rb") as stream:
        while raw := stream.read(_BLOCK):
            take(raw)


def _start(
    outputs: Sequence[Any], beside: _SidePipe, *, timeout_s: float, stdin: IO[bytes] | None = None
) -> tools.Tool:
    """Set ffmpeg to work on these outputs; it stops at the first error."""
    quiet = ("-hide_banner", "-nostdin", "-nostats", "-v", "error", "-xerror")
    try:
        argv = ffmpeg.merge_outputs(*outputs).global_args(*quiet).compile(cmd=tools.find_tool("ffmpeg"))
        return tools.Tool(argv, timeout_s=timeout_s, stdin=stdin, pass_fds=(beside.fd,))
    finally:
        beside.close()


def _file(path: Path) -> Any:
    return ffmpeg.input(tools.file_url(path), **tools.input_guard())


def _small_frames(source: Any, frames: int | None = None) -> Any:
    """New time stamps, one per decoded frame: none is repeated or left out to keep the rate."""
    scaled = f"setpts=N/FRAME_RATE/TB,scale={SIDE}:{SIDE}:flags=area,format=yuv420p"
    limit = {} if frames is None else {"frames:v": frames}
    return ffmpeg.output(source["v:0"], "pipe:1", format="rawvideo", vf=scaled, **limit)


def _samples(source: Any, pipe: _SidePipe) -> Any:
    form = {"af": f"aresample={SAMPLE_RATE}:first_pts=0", "ac": 1, "c:a": "pcm_s16le", "format": "s16le"}
    return ffmpeg.output(source["a:0"], pipe.url, **form)


def _timeout_s(duration_s: float) -> float:
    return _FIXED_TIMEOUT_S + 2 * duration_s


def _measure(tool: tools.Tool, picture: PictureTrack) -> None:
    """Look at all frames that come."""
    _widen(tool.stdout)
    while raw := tool.stdout.read(_FRAMES_AT_ONCE * FRAME_BYTES):
        picture.add(raw[: len(raw) // FRAME_BYTES * FRAME_BYTES])


def _widen(stream: IO[bytes]) -> None:
    """Let ffmpeg work on while frames are measured: a pipe of 64 KiB holds five of them. Linux only."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
