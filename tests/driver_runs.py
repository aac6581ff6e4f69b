"""The worker program and the scripts that it stands for, run side by side on the miniature; raw frames are compared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirt_cli.models.driven import PROGRAM
from tests.miniature import miniature_runs

SIDE = 64
"""Of the picture that `miniature_runs.work_dir` sets."""

_ENCODER = """#!{python}
import sys, time
target = sys.argv[-1].removeprefix("file:")
with open(target, "wb") as file:
    while data := sys.stdin.buffer.read(1 << 16):
        time.sleep({delay_s})
        file.write(data)
"""


@dataclass(frozen=True)
class Driven:
    """One ended run of the worker program; `pixels` is what its encoder got."""

    returncode: int
    stdout: str
    stderr: str
    picture: Path

    @property
    def pixels(self) -> bytes:
        return self.picture.read_bytes()


def raw_encoder(folder: Path, *, delay_s: float = 0.0) -> Path:
    """A program in ffmpeg's place that writes what it gets as it is."""
    place = folder / "raw encoder"
    place.write_text(_ENCODER.format(python=sys.executable, delay_s=delay_s))
    place.chmod(0o755)
    return place


def request(
    variant: str, audio: Path, *, mode: str, chunks: int, model_type: str = "pro", **more: Any
) -> dict[str, Any]:
    """A request at the miniature's tiny size."""
    head = variant in miniature_runs.FLASHHEAD
    base = {"image": str(miniature_runs.PORTRAIT), "seed": 3}
    return {
        "model": {
            "checkout": str(miniature_runs.CHECKOUTS / variant),
            "package": miniature_runs.package(variant),
            "load": {"ckpt_dir": "weights", "wav2vec_dir": "wav2vec"}
            | ({"model_type": model_type} if head else {"cpu_offload": False, "quantize": None}),
            "params": more.get("params", {}),
            "constants": more.get("constants", {}),
        },
        "render": {
            "base": base | ({"face_crop": False} if head else {"prompt": "A person is talking."}),
            "audio": str(audio),
            "mode": mode,
            "pads": variant not in ("flashtalk_old", "flashtalk_quant"),
            "chunks": chunks,
        },
        "picture": {
            "ffmpeg": str(more.get("ffmpeg") or shutil.which("ffmpeg")),
            "path": "frames.mp4",
            "width": SIDE,
            "height": SIDE,
            "fps": 25,
        },
    }


def drive(cwd: Path, asked: dict[str, Any], *, ranks: int = 0, env: dict[str, str] | None = None) -> Driven:
    """Run the worker program in a directory that has the checkout's parameters."""
    (cwd / "driver.json").write_text(json.dumps(asked))
    launcher = miniature_runs.torchrun(ranks) if ranks else []
    done = subprocess.run(
        [sys.executable, *launcher, str(PROGRAM), "--request=driver.json"],
        cwd=cwd,
        env=miniature_runs.environment({"MINIATURE_TORCH": "1" if ranks else "0"} | (env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=150,
        check=False,
    )
    return Driven(
        done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"), cwd / asked["picture"]["path"]
    )
