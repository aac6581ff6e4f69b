"""What ffprobe says of a finished video: one call, no decoding."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from omnirt_cli.media import tools


@dataclass(frozen=True)
class PictureStream:
    """The video stream's header.

    Attributes:
        fps: Frames over duration, as the container has it.
        frames: As the header states; None where it does not.
    """

    codec: str
    width: int
    height: int
    fps: float
    frames: int | None
    duration_s: float | None


@dataclass(frozen=True)
class SoundStream:
    """The audio stream's header."""

    codec: str
    sample_rate: int
    channels: int
    duration_s: float | None


@dataclass(frozen=True)
class Streams:
    """A file's first picture and its first sound; `fault` is why it cannot be read at all."""

    picture: PictureStream | None = None
    sound: SoundStream | None = None
    duration_s: float | None = None
    fault: str | None = None


def start_probe(path: Path) -> tools.Tool:
    """Start ffprobe; `read_streams` takes its answer, so that a decode can run meanwhile.

    Raises:
        InputMissingError: ffprobe is not there.
    """
    shown = ["-show_streams", "-show_format", "-of", "json"]
    argv = [tools.find_tool("ffprobe"), "-v", "error", "-hide_banner", *shown, *tools.input_argv(path)]
    return tools.Tool(argv, timeout_s=tools.PROBE_TIMEOUT_S)


def count_packets(path: Path) -> int:
    """Whole frames of the first picture, counted in the file: a fragmented MP4 has no sum of them in its header.

    A last frame that is cut off is not counted.
    """
    shown = ["-count_packets", "-fflags", "discardcorrupt", "-select_streams", "v:0"]
    shown += ["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"]
    argv = [tools.find_tool("ffprobe"), "-v", "error", "-hide_banner", *shown, *tools.input_argv(path)]
    outcome = tools.run(argv, timeout_s=tools.PROBE_TIMEOUT_S)
    text = outcome.stdout.decode("ascii", "replace").strip().strip(",")
    return int(text) if outcome.ok and text.isdigit() else 0


def read_streams(probe: tools.Tool) -> Streams:
    """Wait for ffprobe and take its answer."""
    outcome = probe.collect()
    if not outcome.ok:
        return Streams(fault=outcome.last_words(1))
    document = json.loads(outcome.stdout)
    found = {stream["codec_type"]: stream for stream in reversed(document.get("streams", []))}
    picture, sound = found.get("video"), found.get("audio")
    return Streams(
        picture=_picture(picture) if picture else None,
        sound=_sound(sound) if sound else None,
        duration_s=_seconds(document.get("format", {})),
    )


def _picture(stream: dict[str, Any]) -> PictureStream:
    return PictureStream(
        codec=stream.get("codec_name", "unknown"),
        width=int(stream.get("width", 0)),
        height=int(stream.get("height", 0)),
        fps=_rate(stream.get("avg_frame_rate", "0/0")) or _rate(stream.get("r_frame_rate", "0/0")),
        frames=int(stream["nb_frames"]) if stream.get("nb_frames", "").isdigit() else None,
        duration_s=_seconds(stream),
    )


def _sound(stream: dict[str, Any]) -> SoundStream:
    return SoundStream(
        codec=stream.get("codec_name", "unknown"),
        sample_rate=int(stream.get("sample_rate", 0)),
        channels=int(stream.get("channels", 0)),
        duration_s=_seconds(stream),
    )


def _rate(text: str) -> float:
    numerator, _, denominator = text.partition("/")
    return float(Fraction(int(numerator), int(denominator))) if denominator not in {"", "0"} else 0.0


def _seconds(section: dict[str, Any]) -> float | None:
    return float(section["duration"]) if "duration" in section else None
