"""One full decode of a finished video: every frame and every sample is looked at once, none is kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from omnirt_cli.media import tools
from omnirt_cli.media.audio import SAMPLE_RATE
from omnirt_cli.media.motion import FRAME_BYTES, SIDE, Floats, PictureTrack, PowerMeter

_FRAMES_AT_ONCE = 32
_PIPE_SIZE = 1 << 20
_SAMPLES_AT_ONCE = 1 << 16
_FIXED_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Decoded:
    """What a decode found.

    Attributes:
        fault: ffmpeg's words where the file did not decode to its end; the rest then stands for what came
            before.
        power: Of the sound, `motion.POWER_RATE` values a second; None where there is no sound.
        peak: Loudest sample, full scale is 1.
        sound_s: Length of the decoded sound.
    """

    picture: PictureTrack
    power: Floats | None
    peak: float
    sound_s: float
    fault: str | None


def decode(path: Path, *, fps: float, duration_s: float, with_sound: bool = True) -> Decoded:
    """Decode the whole file, and stop at the first error.

    ffmpeg scales the frames down and mixes the sound; both come through pipes of their own and are read at
    the same time.

    Raises:
        InputMissingError: ffmpeg is not there.
    """
    picture, meter = PictureTrack(fps), PowerMeter(SAMPLE_RATE)
    sound_end, sound_start = os.pipe()
    reader = threading.Thread(target=_read_sound, args=(sound_end, meter), daemon=True)
    argv = _argv(path, sound_start if with_sound else None)
    timeout_s = _FIXED_TIMEOUT_S + 2 * duration_s
    reader.start()
    try:
        tool = tools.Tool(argv, timeout_s=timeout_s, pass_fds=(sound_start,))
    finally:
        os.close(sound_start)
    with tool:
        _widen(tool.stdout)
        while raw := tool.stdout.read(_FRAMES_AT_ONCE * FRAME_BYTES):
            picture.add(raw[: len(raw) // FRAME_BYTES * FRAME_BYTES])
        outcome = tool.wait()
    reader.join()
    return Decoded(
        picture=picture,
        power=meter.finish() if with_sound else None,
        peak=meter.peak,
        sound_s=meter.samples / SAMPLE_RATE,
        fault=None if outcome.ok else outcome.last_words(1),
    )


def _widen(stream: IO[bytes]) -> None:
    """Let ffmpeg work on while frames are measured: a pipe of 64 KiB holds five of them. Linux only."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


def _argv(path: Path, sound_fd: int | None) -> list[str]:
    import ffmpeg

    source = ffmpeg.input(tools.file_url(path), **tools.input_guard())
    # New time stamps, one per decoded frame: none is repeated or left out to keep the rate.
    scaled = f"setpts=N/FRAME_RATE/TB,scale={SIDE}:{SIDE}:flags=area,format=yuv420p"
    outputs = [ffmpeg.output(source["v:0"], "pipe:1", format="rawvideo", vf=scaled)]
    if sound_fd is not None:
        sound = {"af": f"aresample={SAMPLE_RATE}:first_pts=0", "ac": 1, "c:a": "pcm_s16le", "format": "s16le"}
        outputs.append(ffmpeg.output(source["a:0"], f"pipe:{sound_fd}", **sound))
    quiet = ("-hide_banner", "-nostdin", "-nostats", "-v", "error", "-xerror")
    argv: list[str] = ffmpeg.merge_outputs(*outputs).global_args(*quiet).compile(cmd=tools.find_tool("ffmpeg"))
    return argv


def _read_sound(end: int, meter: PowerMeter) -> None:
    with os.fdopen(end, "rb") as stream:
        while raw := stream.read(_SAMPLES_AT_ONCE):
            meter.add(raw)
