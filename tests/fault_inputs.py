"""Recordings and portraits of the fault table: those that cannot be used, and odd ones that must be.

A maker writes one file; `bad_audio` and `bad_image` put it in the scene's way.
"""

from __future__ import annotations

import os
import shutil
import struct
import wave
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.fault_causes import Cause
from tests.faults import Scene, shortened_speech
from tests.omnirt_cli_runs import ASSETS


def whole_speech(scene: Scene) -> None:
    """The shipped recording, at a size at which its picture can be judged."""
    scene.flags |= {"--audio": str(ASSETS / "speech.wav"), "--size": "128*128"}


def bad_audio(make: Callable[[Path], None]) -> Cause:
    """A recording that is none."""

    def cause(scene: Scene) -> None:
        path = scene.folder / "recording.wav"
        make(path)
        scene.flags["--audio"] = str(path)

    return cause


def bad_image(make: Callable[[Path], None]) -> Cause:
    """A portrait that is none."""

    def cause(scene: Scene) -> None:
        path = scene.folder / "picture.png"
        make(path)
        scene.flags["--image"] = str(path)

    return cause


def no_bytes(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("this is neither sound nor picture\n" * 100)


def random_bytes(path: Path) -> None:
    path.write_bytes(bytes((number * 197 + number // 251) % 256 for number in range(60_000)))


def folder(path: Path) -> None:
    path.mkdir()


def header_only(path: Path) -> None:
    path.write_bytes(_wav_header(0))


def a_day_long(path: Path) -> None:
    """24 hours that take no room on the disk."""
    size = 24 * 3600 * 16000 * 2
    path.write_bytes(_wav_header(size))
    os.truncate(path, path.stat().st_size + size)


def _wav_header(data_bytes: int) -> bytes:
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data"
    header += struct.pack("<I", data_bytes)
    return b"RIFF" + struct.pack("<I", len(header) + data_bytes) + header


def playlist(path: Path) -> None:
    path.write_text(f"#EXTM3U\n#EXTINF:10,\n{ASSETS / 'speech.wav'}\n#EXT-X-ENDLIST\n")


def ffconcat(path: Path) -> None:
    path.write_text(f"ffconcat version 1.0\nfile '{ASSETS / 'speech.wav'}'\n")


def eight_channels(path: Path) -> None:
    with wave.open(str(shortened_speech(path)), "rb") as file:
        mono = file.readframes(file.getnframes())
    with wave.open(str(path), "wb") as file:
        file.setparams((8, 2, 16000, 0, "NONE", ""))
        file.writeframes(b"".join(mono[at : at + 2] * 8 for at in range(0, len(mono), 2)))


def a_fifth_of_a_second(path: Path) -> None:
    shortened_speech(path, 0.2)


def png_bomb(path: Path) -> None:
    """30 000 x 30 000 pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(90001)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))


def truncated_png(path: Path) -> None:
    path.write_bytes((ASSETS / "portrait.png").read_bytes()[:20000])


def truncated_jpeg(path: Path) -> None:
    portrait().save(path, "JPEG")
    os.truncate(path, path.stat().st_size // 2)


def turned_by_exif(path: Path) -> None:
    picture = portrait()
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.rotate(90, expand=True).save(path, "JPEG", exif=exif)


def transparent(path: Path) -> None:
    picture = portrait()
    picture.putalpha(200)
    picture.save(path, "PNG")


def animated(path: Path) -> None:
    picture = portrait().resize((120, 160))
    picture.save(path, "WEBP", save_all=True, append_images=[picture.rotate(5)], duration=100)


def portrait() -> Image.Image:
    return Image.open(ASSETS / "portrait.png").convert("RGB")


def named(name: str) -> Cause:
    """Folder, portrait, recording and video by a name that breaks programs which paste command lines."""

    def cause(scene: Scene) -> None:
        place = scene.folder / name[:200]
        place.mkdir()
        image, audio = place / f"{name[:40]}.png", place / f"{name[:40]}.wav"
        shutil.copyfile(ASSETS / "portrait.png", image)
        shortened_speech(audio)
        scene.flags |= {"--image": str(image), "--audio": str(audio), "--output": str(place / f"{name}.mp4")}
        scene.more += ["--max-chunks", "1"]

    return cause
