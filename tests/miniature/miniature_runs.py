"""Starts miniature checkouts as the real ones are started, in a private working directory and at a tiny size."""

import json
import os
import re
import subprocess
import sys
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

MINIATURE = Path(__file__).resolve().parents[2] / "omnirt_cli" / "miniature"
CHECKOUTS = MINIATURE / "checkouts"
PORTRAIT = MINIATURE / "assets" / "portrait.png"
SPEECH = MINIATURE / "assets" / "speech.wav"
FLASHTALK = ("flashtalk_old", "flashtalk_new", "flashtalk_ascend", "flashtalk_quant")
FLASHHEAD = ("flashhead", "flashhead_ascend")

_CHUNK_LINE = re.compile(r"Generate video chunk-(\d+) done, cost time: ")
_FORGOTTEN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "PYTHONPATH")


@dataclass(frozen=True)
class Ended:
    """One finished run: its exit code, what it printed, and the file it was asked to write."""

    returncode: int
    stdout: str
    stderr: str
    video: Path

    @property
    def chunks(self) -> list[int]:
        return [int(number) for number in _CHUNK_LINE.findall(self.stderr)]


def package(variant: str) -> str:
    return "flash_head" if variant in FLASHHEAD else "flash_talk"


def work_dir(parent: Path, variant: str, **params: object) -> Path:
    """A directory holding only the variant's ``infer_params.yaml``, with a tiny picture and ``params``."""
    place = parent / f"work_{variant}"
    config = place / package(variant) / "configs" / "infer_params.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    numbers = yaml.safe_load((CHECKOUTS / variant / package(variant) / "configs" / config.name).read_text())
    config.write_text(yaml.safe_dump({**numbers, "height": 64, "width": 64, **params}))
    return place


def tone(path: Path, seconds: float, sample_rate: int = 16000) -> Path:
    """Speech-like sound: a hum that swells and fades three times a second."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    hum = np.sin(2 * np.pi * 180 * t) * (0.5 - 0.5 * np.cos(2 * np.pi * 3 * t)) * 0.5
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((hum * 32767).astype("<i2").tobytes())
    return path


def as_m4a(wav: Path) -> Path:
    """The same sound in a container that an MP4 stream copy survives."""
    target = wav.with_suffix(".m4a")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(wav), "-c:a", "aac", str(target)]
    subprocess.run(command, check=True)
    return target


def command(variant: str, audio: Path, *flags: str, save_file: str = "res_out.mp4", ranks: int = 0) -> list[str]:
    """How the variant's script is started; ``ranks`` > 0 is real torchrun, otherwise plain python."""
    kind = ["--model_type=pro"] if package(variant) == "flash_head" and not _names_model(flags) else []
    return [
        sys.executable,
        *(torchrun(ranks) if ranks else []),
        str(CHECKOUTS / variant / "generate_video.py"),
        "--ckpt_dir=weights",
        "--wav2vec_dir=wav2vec",
        f"--cond_image={PORTRAIT}",
        f"--audio_path={audio}",
        f"--save_file={save_file}",
        *kind,
        *flags,
    ]


def run(
    variant: str,
    cwd: Path,
    audio: Path,
    *flags: str,
    save_file: str = "res_out.mp4",
    env: dict[str, str] | None = None,
    ranks: int = 0,
) -> Ended:
    """Start the variant's script and wait for it."""
    done = subprocess.run(
        command(variant, audio, *flags, save_file=save_file, ranks=ranks),
        cwd=cwd,
        env=environment({"MINIATURE_TORCH": "1" if ranks else "0"} | (env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"), cwd / save_file)


def _names_model(flags: tuple[str, ...]) -> bool:
    return any(flag.startswith("--model_type") for flag in flags)


def torchrun(ranks: int) -> list[str]:
    """The launcher's words, and where so many ranks meet."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    return [*launcher, f"--nproc_per_node={ranks}"]


def environment(extra: dict[str, str]) -> dict[str, str]:
    """This process's environment without what a launcher leaves behind, and with ``extra``."""
    kept = {name: value for name, value in os.environ.items() if name not in _FORGOTTEN}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"} | extra


def streams(video: Path) -> dict[str, dict]:
    """What ffprobe says of the file's streams, by kind."""
    command = ["ffprobe", "-v", "error", "-show_streams", "-count_packets", "-of", "json", str(video)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["streams"]
    return {stream["codec_type"]: stream for stream in found}


def frame_count(video: Path) -> int:
    return int(streams(video)["video"]["nb_read_packets"])


def pixels(video: Path) -> np.ndarray:
    """All frames of the 64x64 video: (frames, 64, 64, 3)."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(video), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, 64, 64, 3)
