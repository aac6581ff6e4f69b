"""The delivered file: the script's picture as it is, with the user's own sound.

The picture's packets are copied, never encoded again; a sound that must be encoded can be so beforehand. It knows no
model, and judges nothing: `verify` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omnirt_cli.errors import IOFailureError, OutputInvalidError
from omnirt_cli.media import tools
from omnirt_cli.media.audio import Speech

COPIED_CODECS = frozenset({"aac", "alac", "mp3", "ac3", "eac3"})
"""Codecs that MP4 holds in every ffmpeg since 4.2 and that players expect there. Opus and FLAC are allowed in
MP4 too, but Apple's players do not open the one, and ffmpeg 4.2 calls the other experimental: both become
AAC."""

_AAC_BITS_PER_CHANNEL = 96_000
_AAC_MOST_BITS = 512_000
_FIXED_TIMEOUT_S = 120.0
_NO_TITLES = {"map_metadata": "-1", "map_chapters": "-1"}
_NO_ROOM = ("No space left on device", "Disk quota exceeded", "File too large")


@dataclass(frozen=True)
class DeliveryFacts:
    """How the delivered file came to be.

    Attributes:
        frames: Frames that were copied.
        audio_codec: Codec of the delivered sound.
        audio_copied: The user's own packets, not encoded again.
        audio_cut: The sound ends with the picture, before its own end.
    """

    frames: int
    audio_codec: str
    audio_copied: bool
    audio_cut: bool


@dataclass(frozen=True)
class ReadySound:
    """The user's sound, encoded already.

    Attributes:
        frames: Of the picture that it was made for, which decide where it ends.
    """

    path: Path
    frames: int


@dataclass(frozen=True)
class _Mux:
    """One attempt.

    Attributes:
        picture_s: Where the picture's packets stop: half a frame before the first one too many, so that no
            rounding
            of time stamps decides.
        sound_s: Where the sound stops; None where it is used whole.
        sound: Output options of the sound.
        copied: The user's own packets travel as they are.
    """

    picture: Path
    audio: Path
    picture_s: float
    sound_s: float | None
    sound: Mapping[str, str]
    metadata: Mapping[str, str]
    destination: Path
    copied: bool = False


def deliver(
    picture: Path,
    audio: Path,
    *,
    frames: int,
    fps: float,
    duration_s: float,
    cut: bool,
    speech: Speech,
    metadata: Mapping[str, str],
    destination: Path,
    ready: ReadySound | None = None,
) -> DeliveryFacts:
    """Write `picture`'s first `frames` frames and the user's `audio` as an MP4.

    The limits stand on the inputs: ffmpeg 4 and 5 end *every* stream once `-frames:v` has its count, and so
    lose up to 0.1 s of sound. Copied sound keeps its own timing exactly, encoder delay included; where it is
    cut it ends with the packet that holds the end. Titles, chapters and pictures of the user's file are left
    out.

    Args:
        picture: What the script left, with or without sound; its picture must have a constant frame rate.
        audio: The user's own file.
        frames: How many frames to deliver.
        fps: Of the picture.
        duration_s: Of the user's sound.
        cut: End the sound with the picture; it does so too where the sound is the longer one.
        speech: What `inspect_audio` found about `audio`.
        metadata: Tags of the file; keys of one's own are kept.
        destination: The file to write; whatever is there is overwritten.
        ready: What `encode_sound` made of `audio` for as many frames; another one is not used.

    Raises:
        OutputInvalidError: ffmpeg cannot make the file from this picture; its last words are in the message.
        IOFailureError: There is no room for the file.
        InputMissingError: ffmpeg is not there.
    """
    sound_s = _sound_s(frames, fps, duration_s, cut=cut)
    mux = _Mux(
        picture=picture,
        audio=audio,
        picture_s=(frames - 0.5) / fps,
        sound_s=sound_s,
        sound={},
        metadata=metadata,
        destination=destination,
    )
    timeout_s = _FIXED_TIMEOUT_S + duration_s
    fitting = ready if ready is not None and ready.frames == frames else None
    done, count = _first_that_works(mux, speech, fitting, timeout_s)
    if count > frames:
        # A picture with B-frames is cut by decoding time, which runs behind: take the surplus off.
        done = replace(done, picture_s=done.picture_s - (count - frames) / fps)
        count = _frames_copied(_attempt(done, timeout_s))
    return DeliveryFacts(count, speech.codec if done.copied else "aac", done.copied, sound_s is not None)


def encode_sound(
    audio: Path, *, frames: int, fps: float, duration_s: float, cut: bool, speech: Speech, destination: Path
) -> ReadySound | None:
    """Encode a sound as `deliver` would, before there is a picture; the arguments are its.

    Returns:
        None where it is not to be encoded, and where that fails: `deliver` then says why.

    Raises:
        InputMissingError: ffmpeg is not there.
    """
    if speech.codec in COPIED_CODECS:
        return None
    sound_s = _sound_s(frames, fps, duration_s, cut=cut)
    for options in _ways(speech):
        argv = _sound_argv(audio, sound_s, options, destination)
        outcome = tools.run(argv, timeout_s=_FIXED_TIMEOUT_S + duration_s)
        if outcome.ok and not _no_room(outcome):
            return ReadySound(destination, frames)
    return None


def _sound_s(frames: int, fps: float, duration_s: float, *, cut: bool) -> float | None:
    """Where the sound stops for the picture's sake; None where it is used whole."""
    return frames / fps if cut or duration_s > frames / fps else None


def _first_that_works(mux: _Mux, speech: Speech, ready: ReadySound | None, timeout_s: float) -> tuple[_Mux, int]:
    """The first way to carry the sound that ffmpeg accepts, and the frames it copied."""
    outcome = None
    for attempt in _attempts(mux, speech, ready):
        outcome = _attempt(attempt, timeout_s)
        if outcome.ok:
            return attempt, _frames_copied(outcome)
    assert outcome is not None
    raise OutputInvalidError(
        f"ffmpeg cannot put the picture {mux.picture.name} and the sound {mux.audio} together: {outcome.last_words()}",
        hint="the script's video may be damaged; it is kept beside the report",
    )


def _attempts(mux: _Mux, speech: Speech, ready: ReadySound | None) -> Iterator[_Mux]:
    if ready is not None:
        yield replace(mux, audio=ready.path, sound_s=None, sound={"c:a": "copy"})
    for sound in _ways(speech):
        yield replace(mux, sound=sound, copied=sound["c:a"] == "copy")


def _ways(speech: Speech) -> Iterator[Mapping[str, str]]:
    """How the sound can travel, best first. A codec may still be refused for its rate or its channels."""
    if speech.codec in COPIED_CODECS:
        yield {"c:a": "copy"}
    bits = min(_AAC_MOST_BITS, _AAC_BITS_PER_CHANNEL * max(1, speech.channels))
    yield {"c:a": "aac", "b:a": str(bits)}
    if speech.channels > 2:
        yield {"c:a": "aac", "b:a": str(2 * _AAC_BITS_PER_CHANNEL), "ac": "2"}


def _attempt(mux: _Mux, timeout_s: float) -> tools.Outcome:
    outcome = tools.run(_argv(mux), timeout_s=timeout_s)
    if _no_room(outcome):
        raise IOFailureError(
            f"the video {mux.destination} cannot be written: {outcome.last_words(1)}", hint="free space there"
        )
    return outcome


def _no_room(outcome: tools.Outcome) -> bool:
    """By its words: ffmpeg 5 ends with 0 where only the last bytes of the file found no room."""
    return any(text in outcome.stderr for text in _NO_ROOM)


def _argv(mux: _Mux) -> list[str]:
    import ffmpeg

    guard = tools.input_guard()
    picture = ffmpeg.input(tools.file_url(mux.picture), t=_seconds(mux.picture_s), **guard)
    options = {
        "c:v": "copy",
        **mux.sound,
        **_NO_TITLES,
        # A number behind the specifier for the whole file: ffmpeg-python takes an option only once by one name.
        **{f"metadata:g:{n}": f"{key}={value}" for n, (key, value) in enumerate(mux.metadata.items())},
        "movflags": "+faststart+use_metadata_tags",
    }
    sound = _sound_input(mux.audio, mux.sound_s)
    target = ffmpeg.output(picture["v:0"], sound, tools.file_url(mux.destination), format="mp4", **options)
    return _compiled(target)


def _sound_argv(audio: Path, sound_s: float | None, options: Mapping[str, str], destination: Path) -> list[str]:
    import ffmpeg

    url = tools.file_url(destination)
    return _compiled(ffmpeg.output(_sound_input(audio, sound_s), url, format="mp4", **options, **_NO_TITLES))


def _sound_input(audio: Path, sound_s: float | None) -> Any:
    import ffmpeg

    limit = {} if sound_s is None else {"t": _seconds(sound_s)}
    return ffmpeg.input(tools.file_url(audio), **limit, **tools.input_guard())["a:0"]


def _compiled(target: Any) -> list[str]:
    quiet = ("-hide_banner", "-nostdin", "-nostats", "-v", "error", "-progress", "pipe:1")
    argv: list[str] = target.global_args(*quiet).compile(cmd=tools.find_tool("ffmpeg"), overwrite_output=True)
    return argv


def _frames_copied(outcome: tools.Outcome) -> int:
    """From ffmpeg's progress report, which counts copied packets too."""
    counts = re.findall(rb"^frame=\s*(\d+)", outcome.stdout, re.MULTILINE)
    return int(counts[-1]) if counts else 0


def _seconds(value: float) -> str:
    return f"{value:.6f}"
