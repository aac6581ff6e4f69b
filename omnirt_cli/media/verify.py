"""Is the video right? One ffprobe and one full decode, judged as named checks, expected against actual.

The picture may have been decoded already, while it was made (`follow`); a file that holds another one is decoded anew.
A check that could not run is `skipped`, never `passed`. What a model is, or how the video came to be, is not
known here; what it must be is an `Expectation`.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from omnirt_cli.checks import Check, CheckStatus, failed, passed, skipped
from omnirt_cli.errors import InputMissingError
from omnirt_cli.media.expectation import Expectation
from omnirt_cli.media.streams import PictureStream, SoundStream, Streams, read_streams, start_probe

if TYPE_CHECKING:
    from omnirt_cli.media.decode import Decoded, Seen

__all__ = ["Expectation", "Verification", "VideoFacts", "verify_video"]

MACRO_BLOCK = 16
"""imageio, which the public scripts encode with, enlarges odd sizes to a multiple of this."""

FPS_TOLERANCE = 0.005
"""Share. The container's average counts the last frame's duration, which muxers round."""
SOUND_TOLERANCE_S = 0.25
"""Copied sound ends with a packet: at most 0.13 s (1024 samples of AAC at 8 kHz), twice that with the
encoder's delay."""

IN_THE_DECODE = ("decode", "frame_count", "black", "frozen", "silent_audio", "av_sync", "drift")
"""Checks that need the decode; `fast` counts frames by the header."""


@dataclass(frozen=True)
class VideoFacts:
    """What is known of the file afterwards; None where it could not be read."""

    width: int | None = None
    height: int | None = None
    num_frames: int | None = None
    fps: float | None = None
    duration_s: float | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class Verification:
    """The verdict."""

    checks: tuple[Check, ...]
    facts: VideoFacts

    @property
    def ok(self) -> bool:
        """No check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status is CheckStatus.FAILED)


def verify_video(
    path: Path, expectation: Expectation, *, mode: Literal["full", "fast"] = "full", seen: Seen | None = None
) -> Verification:
    """Judge a finished video.

    Args:
        path: The video.
        expectation: What it must be.
        mode: `fast` leaves out the decode; the checks that need it are skipped.
        seen: A picture that was decoded already. Where the video has the same packets, it is not decoded again.

    Returns:
        The checks, in a fixed order, and the file's facts. A bad or missing file is a failed check, not an
        exception.
    """
    file = _check_file(path)
    if file.status is CheckStatus.FAILED:
        return Verification((file, *_skip(_WITHOUT_FILE, "there is no file to look at")), VideoFacts())
    size_bytes = path.stat().st_size
    try:
        streams, decoded = _look(path, expectation, mode, seen)
    except InputMissingError as error:
        return Verification((file, *_skip(_WITHOUT_FILE, error.message)), VideoFacts(size_bytes=size_bytes))
    if streams.picture is None:
        reason = streams.fault or "the file has no video stream"
        found = failed("video_stream", expected="h264", actual=None, detail=reason)
        rest = _skip(_WITHOUT_FILE[1:], "there is no picture")
        return Verification((file, found, *rest), VideoFacts(size_bytes=size_bytes))
    checks = (file, *_header_checks(streams, streams.picture, expectation))
    if decoded is None:
        checks = (*checks, *_fast_checks(streams.picture, expectation))
    else:
        checks = (*checks, *_decoded_checks(decoded, streams.picture, expectation))
    return Verification(checks, _facts(streams, streams.picture, decoded, size_bytes))


def _look(path: Path, expected: Expectation, mode: str, seen: Seen | None) -> tuple[Streams, Decoded | None]:
    """Probe, and decode meanwhile: sound is taken for granted, and done without only where there is none."""
    with start_probe(path) as probe:
        if mode == "fast":
            return read_streams(probe), None
        from omnirt_cli.media.decode import decode, decode_rest

        decoded = decode_rest(path, seen, duration_s=expected.duration_s) if seen else None
        if decoded is None:
            decoded = decode(path, fps=expected.fps, duration_s=expected.duration_s)
        streams = read_streams(probe)
    if streams.sound is None and streams.picture is not None:
        decoded = decode(path, fps=expected.fps, duration_s=expected.duration_s, with_sound=False)
    return streams, decoded


def _facts(streams: Streams, picture: PictureStream, decoded: Decoded | None, size_bytes: int) -> VideoFacts:
    return VideoFacts(
        width=picture.width,
        height=picture.height,
        num_frames=picture.frames if decoded is None else decoded.picture.count,
        fps=round(picture.fps, 3),
        duration_s=streams.duration_s,
        size_bytes=size_bytes,
    )


_WITHOUT_FILE = ("video_stream", "audio_stream", "fps", "duration", "size", *IN_THE_DECODE)


def _skip(names: tuple[str, ...], reason: str) -> Iterator[Check]:
    return (skipped(name, reason) for name in names)


def _check_file(path: Path) -> Check:
    try:
        found = path.stat()
    except OSError as error:
        return failed("file", expected="a video file", detail=f"{path}: {error.strerror}")
    if not stat.S_ISREG(found.st_mode):
        return failed("file", expected="a video file", detail=f"{path} is not a regular file")
    if found.st_size == 0:
        return failed("file", expected="a video file", actual=0, detail=f"{path} has 0 bytes")
    return passed("file", actual=found.st_size)


def _header_checks(streams: Streams, picture: PictureStream, expected: Expectation) -> Iterator[Check]:
    yield passed("video_stream", actual=picture.codec)
    yield _check_sound_stream(streams.sound, expected)
    near = abs(picture.fps - expected.fps) <= FPS_TOLERANCE * expected.fps
    yield (passed if near else failed)("fps", expected=expected.fps, actual=round(picture.fps, 3))
    yield _check_duration(streams, picture, expected)
    yield _check_size(picture, expected)


def _check_sound_stream(sound: SoundStream | None, expected: Expectation) -> Check:
    if sound is None:
        return failed("audio_stream", expected="sound", actual=None, detail="the video has no sound")
    heard_s = expected.duration_s
    if expected.speech is not None:
        heard_s = min(heard_s, expected.speech.duration_s)
    if sound.duration_s is not None and sound.duration_s < heard_s - SOUND_TOLERANCE_S:
        missing = f"the sound ends {heard_s - sound.duration_s:.2f} s early"
        return failed("audio_stream", expected=round(heard_s, 3), actual=sound.duration_s, detail=missing)
    return passed("audio_stream", actual=sound.codec)


def _check_duration(streams: Streams, picture: PictureStream, expected: Expectation) -> Check:
    """The longer of picture and sound is the file's duration; the sound may end with its last packet."""
    slack = 1 / expected.fps + SOUND_TOLERANCE_S + expected.frame_tolerance / expected.fps
    actual = streams.duration_s if streams.duration_s is not None else picture.duration_s
    if actual is None:
        return skipped("duration", "the file does not say", expected=round(expected.duration_s, 3))
    near = abs(actual - expected.duration_s) <= slack
    return (passed if near else failed)("duration", expected=round(expected.duration_s, 3), actual=actual)


def _check_size(picture: PictureStream, expected: Expectation) -> Check:
    actual = f"{picture.width}x{picture.height}"
    wanted = f"{expected.width}x{expected.height}"
    enlarged = tuple(math.ceil(side / MACRO_BLOCK) * MACRO_BLOCK for side in (expected.width, expected.height))
    if (picture.width, picture.height) == (expected.width, expected.height):
        return passed("size", expected=wanted, actual=actual)
    if (picture.width, picture.height) == enlarged:
        return passed("size", expected=wanted, actual=actual, detail="enlarged to a multiple of 16 by the encoder")
    return failed("size", expected=wanted, actual=actual)


def _fast_checks(picture: PictureStream, expected: Expectation) -> Iterator[Check]:
    reason = "--verify fast leaves out the decode"
    yield skipped("decode", reason)
    yield _check_count(picture.frames, expected, "as the header states; not decoded")
    yield from _skip(IN_THE_DECODE[2:], reason)


def _decoded_checks(decoded: Decoded, picture: PictureStream, expected: Expectation) -> Iterator[Check]:
    fault = _decode_fault(decoded, picture)
    actual = decoded.picture.count
    yield _check_decode(decoded, picture, fault)
    yield _check_count(actual, expected, None)
    if fault:
        yield from _skip(IN_THE_DECODE[2:], "the video does not decode to its end")
        return
    from omnirt_cli.media.judge import content_checks

    yield from content_checks(decoded, expected)


def _check_decode(decoded: Decoded, picture: PictureStream, fault: str | None) -> Check:
    if fault:
        return failed("decode", expected=picture.frames, actual=decoded.picture.count, detail=fault)
    return passed("decode", detail="decoded while it was made" if decoded.ahead else None)


def _decode_fault(decoded: Decoded, picture: PictureStream) -> str | None:
    if decoded.fault:
        return decoded.fault
    if decoded.picture.count == 0:
        return "no frame can be decoded"
    if picture.frames is not None and decoded.picture.count < picture.frames:
        return f"the header states {picture.frames} frames, {decoded.picture.count} can be decoded"
    return None


def _check_count(actual: int | None, expected: Expectation, detail: str | None) -> Check:
    if actual is None:
        return skipped("frame_count", "the header does not say, and nothing was decoded", expected=expected.frames)
    near = abs(actual - expected.frames) <= expected.frame_tolerance
    return (passed if near else failed)("frame_count", expected=expected.frames, actual=actual, detail=detail)
