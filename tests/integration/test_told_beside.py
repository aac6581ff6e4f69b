"""What a run tells besides its video: advice on the portrait, findings, compile caches, weights read ahead."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from PIL import Image

from tests.omnirt_cli_runs import ASSETS, CHECKOUTS, checkout, generate_args, omnirt
from tests.vendor_tools import Chip, fake_npu_smi, machine

SHORT = ("--max-chunks", "2", "--json")


def test_a_landscape_portrait_is_told_what_is_cut_away_before_the_run(tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    Image.open(ASSETS / "portrait.png").convert("RGB").resize((1920, 540)).save(wide)

    args = generate_args(tmp_path / "v.mp4", "--json", image=wide)
    args[0] = "validate"
    done = omnirt(*args)

    image = [check for check in done.json["checks"] if check["name"] == "image"]
    assert done.code == 0, done.stderr
    assert any(check["status"] == "warned" and "%" in check["detail"] for check in image)


def test_a_picture_without_a_face_is_advice_and_no_refusal(tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    Image.new("RGB", (512, 512), (90, 120, 150)).save(blank)

    done = omnirt(*generate_args(tmp_path / "v.mp4", *SHORT, "--allow-frozen", image=blank))

    portrait = next(check for check in done.report["checks"] if check["name"] == "portrait")
    assert portrait["status"] == "warned"
    assert any("face" in warning for warning in done.report["warnings"])


def test_a_run_slower_than_this_machines_earlier_ones_says_which_phase_grew(tmp_path: Path) -> None:
    env = {"OMNIRT_DATA_DIR": str(tmp_path / "data"), "MINIATURE_CHUNK_S": "0.05"}
    args = [*generate_args(tmp_path / "v.mp4"), "--max-chunks", "4", "--json"]
    for _ in range(3):
        assert omnirt(*args, env=env).code == 0

    slow = omnirt(*args, env={**env, "MINIATURE_CHUNK_S": "1.5"})

    assert slow.code == 0, slow.stderr
    found = {finding["code"]: finding for finding in slow.report["findings"]}
    assert "slower_than_before" in found
    assert "chunk" in found["slower_than_before"]["what"]
    assert found["slower_than_before"]["do"] in slow.stderr


def test_compiled_kernels_are_kept_for_the_next_run_unless_the_user_chose_a_place(tmp_path: Path) -> None:
    fake_npu_smi(tmp_path / "tools", [Chip(npu=0)])
    places = {"OMNIRT_LOCK_DIR": str(tmp_path / "locks"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    env = machine(tmp_path / "tools", places)
    args = ascend_args(tmp_path)

    kept = omnirt(*args, env=env)
    own = omnirt(*args, env={**env, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "mine")})
    off = omnirt(*args, "--no-compile-cache", env=env)

    assert kept.code == own.code == off.code == 0, kept.stderr
    directory = kept.report["compile_cache"]["directory"]
    assert directory.startswith(str(tmp_path / "cache"))
    assert kept.report["command"]["env"]["TORCHINDUCTOR_CACHE_DIR"].startswith(directory)
    assert "TORCHINDUCTOR_CACHE_DIR" not in own.report["command"]["env"]
    assert off.report["compile_cache"] is None
    assert "TORCHINDUCTOR_CACHE_DIR" not in off.report["command"]["env"]


def ascend_args(tmp_path: Path) -> list[str]:
    args = generate_args(tmp_path / "v.mp4", *SHORT, *checkout("flashhead_ascend"), model="soulx-flashhead-1.3b")
    args[args.index("cpu")] = "ascend"
    return [*args, "--launcher", "python", "--devices", "1"]


def test_weights_are_read_ahead_while_the_interpreter_starts(tmp_path: Path) -> None:
    place = tmp_path / "checkout"
    shutil.copytree(CHECKOUTS / "flashhead", place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "MINIATURE").unlink()
    weights = place / "models" / "SoulX-FlashHead-1_3B" / "Model_Pro"
    weights.mkdir(parents=True, exist_ok=True)
    (weights / "diffusion_pytorch_model.safetensors").write_bytes(bytes(32 << 20))
    engine = {"PYTHONPATH": f"{CHECKOUTS.parent}"}
    args = generate_args(tmp_path / "v.mp4", *SHORT, model="soulx-flashhead-1.3b")
    more = ("--repo-path", str(place), "--python-executable", sys.executable,
            "--skip-check", "checkpoint", "--skip-check", "wav2vec")  # fmt: skip

    done = omnirt(*args, *more, "--env", f"PYTHONPATH={engine['PYTHONPATH']}")
    off = omnirt(*args, *more, "--no-read-ahead", "--env", f"PYTHONPATH={engine['PYTHONPATH']}")

    assert done.report["read_ahead"]["files"] == 1, json.dumps(done.report["error"])
    assert done.report["read_ahead"]["bytes"] > 0
    assert off.report["read_ahead"] is None
