"""Both sides of verification, on the miniature: good renders pass, whatever they look like, and bad ones do not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.omnirt_cli_runs import ASSETS, Finished, generate_args, omnirt

QUIET = ("--json", "--progress", "never")
SIZE = ("--size", "256*256")


def _check(done: Finished, name: str) -> dict[str, Any]:
    return next(check for check in done.report["checks"] if check["name"] == name)


def _render(tmp_path: Path, *more: str, image: Path | None = None, fault: str = "") -> Finished:
    env = {"MINIATURE_FAULT": fault} if fault else None
    return omnirt(*generate_args(tmp_path / "v.mp4", *QUIET, *more, image=image), *SIZE, env=env)


def _portrait(tmp_path: Path, change: Any) -> Path:
    path = tmp_path / "changed.png"
    change(Image.open(ASSETS / "portrait.png").convert("RGB")).save(path)
    return path


def test_the_shipped_portrait_passes_every_check(tmp_path: Path) -> None:
    done = _render(tmp_path)

    assert done.code == 0, done.stderr
    not_passed = {check["name"]: check["status"] for check in done.report["checks"] if check["status"] != "passed"}
    assert not_passed == {"device_memory": "skipped"}  # a miniature needs none
    assert abs(_check(done, "av_sync")["actual"]) < 60


def test_a_dark_picture_with_a_dark_background_is_delivered(tmp_path: Path) -> None:
    dark = _portrait(tmp_path, lambda image: Image.fromarray((np.asarray(image) * 0.12).astype(np.uint8)))

    done = _render(tmp_path, image=dark)

    assert done.code == 0, done.stderr
    assert _check(done, "black")["status"] in ("passed", "warned")
    assert _check(done, "frozen")["status"] == "passed"


def test_a_small_face_before_a_still_background_is_not_taken_for_frozen(tmp_path: Path) -> None:
    def small(image: Image.Image) -> Image.Image:
        canvas = Image.new("RGB", (1200, 1200), (40, 60, 80))
        canvas.paste(image.resize((300, 400)), (450, 420))
        return canvas

    done = _render(tmp_path, image=_portrait(tmp_path, small))

    assert done.code == 0, done.stderr
    assert _check(done, "frozen")["status"] == "passed"


def test_fast_leaves_out_the_decode_and_says_so(tmp_path: Path) -> None:
    done = _render(tmp_path, "--verify", "fast", fault="black")

    assert done.code == 0, done.stderr
    assert _check(done, "black")["status"] == "skipped"
    assert _check(done, "frame_count")["status"] == "passed"


def test_off_checks_nothing_and_says_so(tmp_path: Path) -> None:
    done = _render(tmp_path, "--verify", "off", fault="black")

    assert done.code == 0, done.stderr
    assert _check(done, "file")["status"] == "skipped"


def test_a_check_that_was_left_out_is_recorded_as_skipped(tmp_path: Path) -> None:
    done = _render(tmp_path, "--skip-check", "frozen", fault="frozen@chunk3")

    assert done.code == 0, done.stderr
    assert _check(done, "frozen")["status"] == "skipped"
    assert done.report["skipped_checks"] == ["frozen"]


def test_silent_speech_may_give_a_silent_video(tmp_path: Path) -> None:
    import wave

    silent = tmp_path / "silent.wav"
    with wave.open(str(silent), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(16000 * 2 * 3))

    done = omnirt(*generate_args(tmp_path / "v.mp4", *QUIET, audio=silent), *SIZE)

    assert done.code == 0, done.stderr
    assert _check(done, "silent_audio")["status"] != "failed"


UNKNOWN_SCRIPT = """
import argparse, subprocess
parser = argparse.ArgumentParser()
for flag in ("--ckpt_dir", "--wav2vec_dir", "--save_file", "--input_prompt", "--cond_image", "--audio_path"):
    parser.add_argument(flag)
parser.add_argument("--audio_encode_mode")
parser.add_argument("--base_seed", type=int)
args = parser.parse_args()
subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x64:r=25:d=12", "-i", args.audio_path,
                "-c:v", "libx264", "-bf", "0", "-c:a", "aac", args.save_file], check=True)
"""


def test_a_checkout_that_says_nothing_of_its_size_is_not_held_to_a_guess(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "models").mkdir(parents=True)
    (checkout / "generate_video.py").write_text(UNKNOWN_SCRIPT)
    args = generate_args(
        tmp_path / "v.mp4", *QUIET, "--repo-path", str(checkout), "--python-executable", sys.executable
    )
    position = args.index("--size")
    del args[position : position + 2]

    done = omnirt(*args, "--ckpt-dir", "models", "--wav2vec-dir", "models")

    assert done.code == 0, done.stderr
    assert done.report["checkout"]["variant"] == "unrecognised"
    assert _check(done, "size")["status"] == "warned"
    assert done.report["artifacts"][0]["width"] == 64
