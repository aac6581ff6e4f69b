"""What `validate` and `--dry-run` find that a run would else be the first to tell; what `--env` may not set."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omnirt_cli.devices.lease_place import file_name
from omnirt_cli.media.faces import find_faces
from omnirt_cli.media.image import inspect_portrait
from tests.omnirt_cli_runs import ASSETS, CHECKOUTS, Finished, generate_args, omnirt
from tests.vendor_tools import Chip, fake_npu_smi, machine


def dry_run(tmp_path: Path, *more: str, image: Path | None = None, **env: str) -> Finished:
    args = generate_args(tmp_path / "v.mp4", "--dry-run", "--json", *more, image=image)
    return omnirt(*args, cwd=tmp_path, env=env)


def named(done: Finished, name: str) -> list[dict[str, Any]]:
    return [check for check in done.json["checks"] if check["name"] == name]


# The face


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    place = tmp_path / "blank.png"
    Image.new("RGB", (512, 512), (90, 120, 150)).save(place)
    return place


def test_a_picture_without_a_face_is_told_before_the_run(tmp_path: Path, blank: Path) -> None:
    if find_faces(inspect_portrait(blank)) is None:
        pytest.skip("OpenCV is not installed")

    done = dry_run(tmp_path, image=blank)
    text = omnirt("validate", *generate_args(tmp_path / "v.mp4", image=blank)[1:], cwd=tmp_path)

    assert done.code == text.code == 0, done.stderr
    assert [check["status"] for check in named(done, "portrait")] == ["warned"]
    assert "warn portrait: no face was found" in text.stdout


def test_the_look_for_a_face_can_be_left_out(tmp_path: Path, blank: Path) -> None:
    done = dry_run(tmp_path, "--skip-check", "portrait", image=blank)

    assert [check["detail"] for check in named(done, "portrait")] == ["left out by --skip-check"]


def test_without_opencv_the_look_is_skipped_and_says_how_to_have_it(tmp_path: Path, blank: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "cv2.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join([str(tmp_path / "without"), str(CHECKOUTS.parents[2])])

    done = dry_run(tmp_path, image=blank, PYTHONPATH=path)

    assert done.code == 0, done.stderr
    (portrait,) = named(done, "portrait")
    assert portrait["status"] == "skipped"
    assert "pip install" in portrait["hint"]


# Leases


def test_a_planted_lease_file_refuses_before_the_run_as_in_it(tmp_path: Path) -> None:
    fake_npu_smi(tmp_path / "tools", [Chip(npu=0)])
    env = machine(tmp_path / "tools", {"OMNIRT_LOCK_DIR": str(tmp_path / "locks")})
    key = omnirt("doctor", "--json", env=env, cwd=tmp_path).json["devices"][0]["key"]
    os.mkfifo(tmp_path / "locks" / file_name(key))
    checkout = ("--backend", "ascend", "--repo-path", str(CHECKOUTS / "flashhead_ascend"))
    python = ("--python-executable", sys.executable, "--launcher", "python")
    inputs = ("--image", str(ASSETS / "portrait.png"), "--audio", str(ASSETS / "speech.wav"))

    done = omnirt("validate", "--model", "flashhead", *checkout, *python, *inputs, env=env, cwd=tmp_path)

    assert done.code == 78
    assert "FAIL leases" in done.stdout
    assert "no plain file" in done.stderr


# --env


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("ASCEND_RT_VISIBLE_DEVICES", "--visible-devices"),
        ("CUDA_VISIBLE_DEVICES", "--visible-devices"),
        ("CUDA_DEVICE_ORDER", "--visible-devices"),
        ("RANK", "--nproc-per-node"),
        ("MASTER_PORT", "--nproc-per-node"),
    ],
)
def test_what_the_run_decides_is_not_set_behind_its_back(tmp_path: Path, name: str, flag: str) -> None:
    done = dry_run(tmp_path, "--env", f"{name}=0")

    assert done.code == 2
    assert f"--env may not set {name}" in done.stderr
    assert f"hint: use {flag}" in done.stderr


def test_a_settings_file_that_does_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "omnirt.yaml").write_text("keep_scratch: false\nenv: {PLAIN: fine, WORLD_SIZE: '2'}\n")

    done = dry_run(tmp_path)

    assert done.code == 78
    assert "may not set WORLD_SIZE" in done.stderr
    assert "omnirt.yaml:2" in done.stderr


def test_any_other_variable_may_be_set(tmp_path: Path) -> None:
    done = dry_run(tmp_path, "--env", "PYTHONHOME=/else", "--env", "NCCL_DEBUG=INFO")

    assert done.code == 0, done.stderr
    assert done.json["plan"]["env"]["NCCL_DEBUG"] == "INFO"
