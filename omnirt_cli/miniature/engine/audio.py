"""Sound in, mouth shapes out: decoding by ffmpeg, and per frame how loud and how bright the voice is."""

import struct
import subprocess
from pathlib import Path

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

MIN_LOUDNESS_S = 0.4  # the block of a loudness meter (ITU-R BS.1770); shorter sound cannot be measured
CONTEXT = 5  # frames of sound seen around each picture, as the real embedding windows have
FEATURES = 2  # opening, brightness

_TARGET_DB = -20.0
_SILENCE_DB = -52.0
_FULLY_OPEN_DB = -14.0
_FIRST_OPEN_DB = -38.0


def load(path: str, sample_rate: int) -> np.ndarray:
    """The file as mono float32 at ``sample_rate``, whatever its own format is.

    The encoder's own ffmpeg decodes it: the one on ``PATH`` is needed only for saving, as in the real scripts.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: ffmpeg cannot decode it.
    """
    return np.frombuffer(_decoded(path, "-f", "f32le", "-ac", "1", "-ar", str(sample_rate)), dtype="<f4")


def load_first_channel(path: str, sample_rate: int) -> np.ndarray:
    """Like :func:`load`, but of several channels only the first is heard instead of their mean."""
    options = ["-f", "f32le", "-af", "pan=mono|c0=c0", "-ar", str(sample_rate)]
    return np.frombuffer(_decoded(path, *options), dtype="<f4")


def duration_s(path: str) -> float:
    """Seconds of the file as it is: its samples counted at its own rate, nothing resampled.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: ffmpeg cannot decode it.
    """
    # Sun's AU format is the plainest that states the rate: six big-endian words, then one byte for each sample.
    sound = _decoded(path, "-f", "au", "-c:a", "pcm_s8", "-ac", "1")
    _magic, header_bytes, _size, _encoding, rate, _channels = struct.unpack(">6I", sound[:24])
    return (len(sound) - header_bytes) / rate


def _decoded(path: str, *options: str) -> bytes:
    Path(path).open("rb").close()
    command = [get_ffmpeg_exe(), "-nostdin", "-v", "error", "-i", f"file:{path}", "-vn", *options, "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"Error opening {path!r}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def loudness_norm(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Scale the voiced part to one level, so that a quiet recording opens the mouth as far as a loud one.

    Raises:
        ValueError: the sound is shorter than a loudness meter's block.
    """
    if len(samples) < MIN_LOUDNESS_S * sample_rate:
        raise ValueError("Audio must have length greater than the block size.")
    block = int(0.05 * sample_rate)
    blocks = np.asarray(samples[: len(samples) // block * block]).reshape(-1, block)
    level_db = _db(np.sqrt(np.mean(np.square(blocks), axis=1)))
    voiced = level_db[level_db > max(_SILENCE_DB, level_db.max() - 25)]
    if not voiced.size:
        return samples
    return np.asarray(samples) * 10 ** ((_TARGET_DB - float(voiced.mean())) / 20)


def features(samples: np.ndarray, sample_rate: int, fps: int, frames: int) -> np.ndarray:
    """Per frame: opening 0..1 by loudness, brightness 0..1 by the high part of the spectrum.

    Returns:
        (frames, 2) float32.
    """
    if frames == 0:
        return np.zeros((0, FEATURES), np.float32)
    hop = sample_rate / fps
    starts = np.round(np.arange(frames) * hop).astype(int)
    windows = np.asarray(samples, np.float64)[np.minimum(starts[:, None] + np.arange(int(hop)), len(samples) - 1)]
    opening = (_db(np.sqrt(np.mean(windows**2, axis=1))) - _FIRST_OPEN_DB) / (_FULLY_OPEN_DB - _FIRST_OPEN_DB)
    return np.stack([np.clip(opening, 0, 1), _brightness(windows, sample_rate)], axis=1).astype(np.float32)


def _brightness(windows: np.ndarray, sample_rate: int) -> np.ndarray:
    """Where the spectrum's weight lies: rounded vowels are dark (0), spread ones and hisses bright (1)."""
    power = np.abs(np.fft.rfft(windows * np.hanning(windows.shape[1]), axis=1)) ** 2 + 1e-9
    frequency = np.fft.rfftfreq(windows.shape[1], 1 / sample_rate)
    centroid = (np.sqrt(power) * frequency).sum(axis=1) / np.sqrt(power).sum(axis=1)
    return np.clip((centroid - 700) / 1800, 0, 1)


def embedding(per_frame: np.ndarray, start: int, end: int) -> np.ndarray:
    """Windows of ``CONTEXT`` frames around each of start..end, clamped at the ends: (1, frames, CONTEXT, FEATURES)."""
    reach = CONTEXT // 2
    centres = np.arange(start, end)[:, None] + np.arange(-reach, reach + 1)
    return per_frame[np.clip(centres, 0, end - 1)][None]


def _db(level: np.ndarray) -> np.ndarray:
    return 20 * np.log10(np.maximum(level, 1e-6))
