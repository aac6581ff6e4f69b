"""The user's sound: what it is, and the form of it that drives the model.

One ffprobe and one decode, side by side, tell everything before a model is loaded; the decoded 16 kHz mono
samples are kept, so that preparing needs no second decode. Neither numpy nor ffmpeg-python is imported here:
this is on the way to the launch.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import threading
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from omnirt_cli.errors import InputInvalidError, IOFailureError
from omnirt_cli.media import tools
from omnirt_cli.media.files import FileStamp, regular_file

if TYPE_CHECKING:
    from omnirt_cli.models.base import AudioPlan

SAMPLE_RATE = 16000
"""Hz. What every SoulX model's wav2vec takes."""

MAX_DURATION_S = 6 * 3600.0
SILENT_PEAK_DBFS = -50.0
"""No sample louder than this: nothing that lips could follow. Microphone noise in a quiet room peaks near
it."""

_SAMPLE_BYTES = 2
_BLOCK = 1 << 18
_IN_MEMORY = 128 << 20
_DECODE_TIMEOUT_S = 600.0
_CONVERT = (
    f"aformat=sample_fmts=flt:sample_rates={SAMPLE_RATE}:channel_layouts=mono,"
    "astats=measure_perchannel=none:measure_overall=Peak_level+RMS_level+Number_of_NaNs+Number_of_Infs"
)
_MEASURED = re.compile(r"(Peak level dB|RMS level dB|Number of NaNs|Number of Infs): (\S+)")
_COMPLAINT = re.compile(r"\[(?:error|fatal)\] (.+)")
_LOST_S, _LOST_SHARE = 0.5, 0.02
_TAIL_S = 0.2


class Pcm:
    """Signed 16-bit little-endian mono samples at 16 kHz; in memory up to 128 MiB, in an unnamed file above.

    Readers in several threads do not disturb each other.
    """

    def __init__(self) -> None:
        self._store = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  # lives as long as its Speech
        self._lock = threading.Lock()
        self.samples = 0

    def __del__(self) -> None:
        self._store.close()

    def fill(self, stream: IO[bytes], most: int) -> None:
        """Take samples from a stream until it ends, or until more than `most` have come."""
        size = 0
        while size <= most * _SAMPLE_BYTES and (block := stream.read(_BLOCK)):
            self._store.write(block)
            size += len(block)
        self.samples = size // _SAMPLE_BYTES

    def cut(self, samples: int) -> None:
        """Forget what lies behind the first `samples` samples."""
        self.samples = min(self.samples, samples)

    def blocks(self, first: int = 0, count: int | None = None) -> Iterator[bytes]:
        """The samples from `first` on, `count` of them or all, a piece at a time."""
        end = self.samples if count is None else min(self.samples, first + count)
        while first < end:
            wanted = min(_BLOCK // _SAMPLE_BYTES, end - first)
            with self._lock:
                self._store.seek(first * _SAMPLE_BYTES)
                block = self._store.read(wanted * _SAMPLE_BYTES)
            yield block
            first += wanted


@dataclass(frozen=True)
class Speech:
    """A sound file that can drive a model.

    Attributes:
        container: ffprobe's name of the format, e.g. `mov,mp4,m4a,3gp,3g2,mj2`.
        codec: ffprobe's name of the codec, e.g. `pcm_s16le`.
        sample_rate: Of the user's file, Hz.
        channels: Of the user's file.
        duration_s: Of what was decoded; headers are not believed.
        samples: At 16 kHz, mono, after decoding.
        peak_dbfs: Loudest sample; `-inf` for digital silence.
        rms_dbfs: Mean power of the whole file.
        silent: Nothing in it is audible.
        warnings: What a person should know of it.
        pcm: The samples themselves.
        stamp: Of the file as it was inspected; None where that is not known.
    """

    path: Path
    container: str
    codec: str
    sample_rate: int
    channels: int
    duration_s: float
    samples: int
    peak_dbfs: float
    rms_dbfs: float
    silent: bool
    warnings: tuple[str, ...] = ()
    pcm: Pcm = field(default_factory=Pcm, repr=False, compare=False)
    stamp: FileStamp | None = field(default=None, repr=False, compare=False)

    def facts(self) -> dict[str, Any]:
        """What the report says of it."""
        return {
            "container": self.container,
            "codec": self.codec,
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "duration_s": round(self.duration_s, 6),
            "samples_16k": self.samples,
            "peak_dbfs": _finite(self.peak_dbfs),
            "rms_dbfs": _finite(self.rms_dbfs),
            "silent": self.silent,
        }


def inspect_audio(path: Path, *, max_duration_s: float = MAX_DURATION_S) -> Speech:
    """Decode a sound file once and say what it is.

    Containers and codecs are those ffmpeg decodes by itself (`tools.CONTAINERS`); playlists are not opened. A
    short fault inside the file is a warning, since its sound still stands for what was said; a file that ends
    more than 0.5 s and 2 % before the end its own header states is refused, for the rest of the speech is
    missing. A WAV header's size is not such a statement: recorders that stream write a placeholder there.

    Args:
        path: The user's file.
        max_duration_s: Longest sound that is accepted, seconds.

    Raises:
        InputMissingError: The file, ffmpeg or ffprobe is not there.
        InputInvalidError: It is not a sound file, has no samples, is too long or is damaged; the message says
            which.
        IOFailureError: The decoded samples could not be stored.
    """
    with AudioInspection(path, max_duration_s=max_duration_s) as inspection:
        return inspection.finish()


class AudioInspection:
    """`inspect_audio` in two steps, so that a caller can do other work while ffmpeg runs.

    Leaving its block ends both processes.
    """

    def __init__(self, path: Path, *, max_duration_s: float = MAX_DURATION_S) -> None:
        self.path = path
        self._max_duration_s = max_duration_s
        regular_file(path, "audio")
        self._stamp = FileStamp.of(path)
        probe_argv, decode_argv = _probe_argv(path), _decode_argv(path, max_duration_s)
        self._probe = tools.Tool(probe_argv, timeout_s=tools.PROBE_TIMEOUT_S)
        self._decode = tools.Tool(decode_argv, timeout_s=_DECODE_TIMEOUT_S)

    def __enter__(self) -> AudioInspection:
        return self

    def __exit__(self, *_: object) -> None:
        self._decode.__exit__(None, None, None)
        self._probe.__exit__(None, None, None)

    def finish(self) -> Speech:
        """Wait for ffmpeg and judge what it found; raises as `inspect_audio` does."""
        header = _read_header(self.path, self._probe.collect())
        if header.stated_s > self._max_duration_s:
            raise _too_long(self.path, self._max_duration_s)
        pcm = Pcm()
        try:
            pcm.fill(self._decode.stdout, math.ceil(self._max_duration_s * SAMPLE_RATE))
        except OSError as error:
            raise IOFailureError(
                f"the decoded audio does not fit in {tempfile.gettempdir()}: {error.strerror}",
                hint="free space there, or set TMPDIR to a larger place",
            ) from error
        if pcm.samples > self._max_duration_s * SAMPLE_RATE:
            raise _too_long(self.path, self._max_duration_s)
        return replace(_judge(self.path, header, pcm, self._decode.wait()), stamp=self._stamp)


@dataclass(frozen=True)
class _Header:
    container: str
    codec: str
    sample_rate: int
    channels: int
    stated_s: float
    """Duration that the file itself states; 0 where it states none, or ffprobe guessed it from the bit
    rate."""


@dataclass(frozen=True)
class _Measured:
    peak_dbfs: float
    rms_dbfs: float
    bad_numbers: int


def _probe_argv(path: Path) -> list[str]:
    entries = "format=format_name,duration:stream=codec_name,codec_type,sample_rate,channels,duration"
    guard = tools.input_argv(path)
    shown = ["-select_streams", "a:0", "-show_entries", entries, "-of", "json"]
    return [tools.find_tool("ffprobe"), "-v", "warning", "-hide_banner", *shown, *guard]


def _decode_argv(path: Path, max_duration_s: float) -> list[str]:
    quiet = ["-hide_banner", "-nostdin", "-nostats", "-v", "level+info"]
    stop = ["-t", f"{max_duration_s + 1:.3f}"]
    result = ["-map", "0:a:0", "-af", _CONVERT, *stop, "-c:a", "pcm_s16le", "-f", "s16le", "pipe:1"]
    return [tools.find_tool("ffmpeg"), *quiet, *tools.input_argv(path), *result]


def _read_header(path: Path, outcome: tools.Outcome) -> _Header:
    if not outcome.ok:
        raise InputInvalidError(
            f"the audio {path} is not a sound file that can be used: {_clean(path, outcome.last_words(1))}",
            hint="give a WAV, FLAC, MP3, M4A/AAC or Ogg file; playlists and links are not followed",
        )
    document = json.loads(outcome.stdout or b"{}")
    streams = document.get("streams") or []
    if not streams:
        raise InputInvalidError(f"the file {path} has no audio stream", hint="name the voice recording")
    stream, container = streams[0], document.get("format", {})
    guessed = "Estimating duration" in outcome.stderr
    stated = _number(stream.get("duration")) or _number(container.get("duration"))
    return _Header(
        container=container.get("format_name", "unknown"),
        codec=stream.get("codec_name", "unknown"),
        sample_rate=int(stream.get("sample_rate", 0)),
        channels=int(stream.get("channels", 0)),
        stated_s=0.0 if guessed else stated,
    )


def _judge(path: Path, header: _Header, pcm: Pcm, outcome: tools.Outcome) -> Speech:
    complaints = [_clean(path, text) for text in _COMPLAINT.findall(outcome.stderr)]
    if pcm.samples == 0 or outcome.timed_out:
        reason = complaints[-1] if complaints else "it holds no samples"
        raise InputInvalidError(f"the audio {path} has nothing to decode: {reason}", hint="record or export it again")
    measured = _measure(outcome.stderr)
    if measured.bad_numbers:
        raise InputInvalidError(
            f"the audio {path} holds {measured.bad_numbers} samples that are not numbers (NaN or infinite)",
            hint="export it again as 16-bit PCM",
        )
    lost = header.stated_s - pcm.samples / SAMPLE_RATE
    if lost > max(_LOST_S, _LOST_SHARE * header.stated_s):
        raise InputInvalidError(
            f"the audio {path} is cut off or damaged: its header states {header.stated_s:.2f} s, "
            f"but only {pcm.samples / SAMPLE_RATE:.2f} s can be decoded",
            hint="copy or export it again",
        )
    if -_TAIL_S < lost < 0 and "mov" in header.container:
        # The last AAC packet's padding: older ffmpeg hands it out although the edit list leaves it out.
        pcm.cut(round(header.stated_s * SAMPLE_RATE))
    return _speech(path, header, pcm, measured, complaints)


def _speech(path: Path, header: _Header, pcm: Pcm, measured: _Measured, complaints: list[str]) -> Speech:
    silent = measured.peak_dbfs < SILENT_PEAK_DBFS
    warnings = []
    if complaints:
        warnings.append(f"the audio {path} has faults inside; they are skipped ({complaints[0]})")
    if silent:
        warnings.append(f"the audio {path} is silent (loudest sample {measured.peak_dbfs:.0f} dBFS)")
    return Speech(
        path=path,
        container=header.container,
        codec=header.codec,
        sample_rate=header.sample_rate,
        channels=header.channels,
        duration_s=pcm.samples / SAMPLE_RATE,
        samples=pcm.samples,
        peak_dbfs=measured.peak_dbfs,
        rms_dbfs=measured.rms_dbfs,
        silent=silent,
        warnings=tuple(warnings),
        pcm=pcm,
    )


def _measure(said: str) -> _Measured:
    """What astats printed last; the file's own tags are printed before it and cannot stand for it."""
    found = {key: _number(value) for key, value in _MEASURED.findall(said)}
    bad = found.get("Number of NaNs", 0.0) + found.get("Number of Infs", 0.0)
    return _Measured(found.get("Peak level dB", 0.0), found.get("RMS level dB", 0.0), int(bad))


def write_prepared(speech: Speech, plan: AudioPlan, destination: Path) -> None:
    """Write the sound that drives the model: silence, speech, silence, exactly `plan.total_samples` samples.

    The M4A form is for scripts whose mux copies the sound as it is: PCM does not survive that on ffmpeg 5.
    Read back by `librosa.load(sr=16000)` (soundfile cannot, so audioread's ffmpeg does) it gives what was
    written and at most one AAC packet (1024 samples) of silence more, never less.

    Args:
        speech: What `inspect_audio` found.
        plan: Lengths and form.
        destination: The file to write; its name's suffix is not looked at.

    Raises:
        IOFailureError: The file cannot be written.
        InputMissingError: ffmpeg is needed and not there.
    """
    if plan.form.value == "wav":
        _write_wav(speech, plan, destination)
    else:
        _write_m4a(speech, plan, destination)


def _prepared_blocks(speech: Speech, plan: AudioPlan) -> Iterator[bytes]:
    room = plan.total_samples - plan.lead_samples
    spoken = min(room, plan.speech_samples if plan.cut else speech.samples, speech.samples)
    yield from _silence(plan.lead_samples)
    yield from speech.pcm.blocks(0, spoken)
    yield from _silence(room - spoken)


def _silence(samples: int) -> Iterator[bytes]:
    size = samples * _SAMPLE_BYTES
    while size > 0:
        yield bytes(min(size, _BLOCK))
        size -= _BLOCK


def _write_wav(speech: Speech, plan: AudioPlan, destination: Path) -> None:
    try:
        with destination.open("wb") as raw, wave.open(raw, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(_SAMPLE_BYTES)
            file.setframerate(SAMPLE_RATE)
            file.setnframes(plan.total_samples)
            for block in _prepared_blocks(speech, plan):
                file.writeframesraw(block)
    except OSError as error:
        raise _unwritable(destination, str(error.strerror)) from error


def _write_m4a(speech: Speech, plan: AudioPlan, destination: Path) -> None:
    source = ["-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", "pipe:0"]
    target = ["-c:a", "aac", "-b:a", "64k", "-f", "ipod", "-y", tools.file_url(destination)]
    argv = [tools.find_tool("ffmpeg"), "-hide_banner", "-nostats", "-v", "error", *source, *target]
    try:
        with tempfile.TemporaryFile() as raw:
            for block in _prepared_blocks(speech, plan):
                raw.write(block)
            raw.seek(0)
            outcome = tools.run(argv, timeout_s=_DECODE_TIMEOUT_S, stdin=cast("IO[bytes]", raw))
    except OSError as error:
        raise _unwritable(destination, str(error.strerror)) from error
    if not outcome.ok:
        raise _unwritable(destination, outcome.last_words())


def _unwritable(destination: Path, reason: str) -> IOFailureError:
    return IOFailureError(f"the prepared audio {destination} cannot be written: {reason}", hint="check free space")


def _too_long(path: Path, limit_s: float) -> InputInvalidError:
    return InputInvalidError(
        f"the audio {path} is longer than {limit_s:g} s", hint="split it, or render a part with --max-chunks"
    )


def _clean(path: Path, text: str) -> str:
    """What ffmpeg said, without the file's name and the address of its decoder."""
    return re.sub(r"\[[^]]* @ 0x[0-9a-f]+\] ", "", text.replace(f"{tools.file_url(path)}: ", ""))


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return 0.0


def _finite(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None
