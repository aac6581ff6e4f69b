"""`omnirt doctor`: what it says of a machine without anything, of one with (fake) devices, and of configured models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omnirt_cli.devices.lease_place import file_name
from tests.omnirt_cli_runs import CHECKOUTS, Finished, omnirt
from tests.vendor_tools import Chip, Gpu, Process, failing_tool, fake_npu_smi, fake_nvidia_smi, hanging_tool, machine


def doctor(tmp_path: Path, *args: str, env: dict[str, str] | None = None) -> Finished:
    tools = tmp_path / "tools"
    places = {"OMNIRT_LOCK_DIR": str(tmp_path / "locks"), "OMNIRT_DATA_DIR": str(tmp_path / "data")}
    return omnirt("doctor", *args, env={**machine(tools), **places, **(env or {})}, cwd=tmp_path)


def checks(done: Finished, section: str) -> dict[str, dict[str, Any]]:
    found = next(part for part in done.json["sections"] if part["title"].startswith(section))
    return {check["name"]: check for check in found["checks"]}


@pytest.fixture
def real_checkout(tmp_path: Path) -> Path:
    """The miniature's files without its word that it is one, in a git repository."""
    place = tmp_path / "SoulX-FlashHead"
    shutil.copytree(CHECKOUTS / "flashhead_ascend", place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "MINIATURE").unlink()
    for argv in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as published"]):
        subprocess.run(["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *argv], cwd=place, check=True)
    return place


def configured(checkout: Path) -> dict[str, str]:
    return {"OMNIRT_FLASHHEAD_REPO_PATH": str(checkout), "OMNIRT_FLASHHEAD_PYTHON": sys.executable}


def test_a_machine_with_nothing_configured_can_render_with_the_miniature(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--json")

    assert done.code == 0, done.stderr
    assert done.json["ok"] is True
    assert checks(done, "machine")["ffmpeg"]["status"] == "passed"
    assert checks(done, "soulx-flashtalk-14b")["checkout"]["status"] == "skipped"
    assert checks(done, "miniature")["knobs"]["status"] == "passed"
    assert done.json["devices"] == []
    assert not (tmp_path / "outputs").exists()


def test_every_device_is_told_with_its_memory_and_who_holds_it(tmp_path: Path) -> None:
    fake_npu_smi(tmp_path / "tools", [Chip(npu=0, used_mib=60_000, processes=(Process(4242, "vllm", 57_000),))])
    fake_nvidia_smi(tmp_path / "tools", [Gpu(0), Gpu(1, used_mib=None)])

    done = doctor(tmp_path, "--json")
    text = doctor(tmp_path).stdout

    npu, gpu, unknown = done.json["devices"]
    assert npu["kind"] == "ascend"
    assert npu["memory_free_gib"] == pytest.approx(5.4, abs=0.1)
    assert npu["holders"] == ["pid 4242 (vllm) 55.7 GiB"]
    assert gpu["name"] == "NVIDIA H100 80GB HBM3"
    assert unknown["memory_free_gib"] is None
    assert "ascend 0  910B2  5.4 of 64.0 GiB free  held by pid 4242 (vllm) 55.7 GiB" in text
    assert "cuda 1  NVIDIA H100 80GB HBM3  memory not known" in text


def test_a_tool_that_hangs_is_told_and_is_not_taken_for_a_machine_without_devices(tmp_path: Path) -> None:
    hanging_tool(tmp_path / "tools", "npu-smi")

    done = doctor(tmp_path, "--json")

    ascend = checks(done, "devices")["ascend"]
    assert ascend["status"] == "warned"
    assert "npu-smi" in ascend["detail"]
    assert done.seconds < 40


def test_a_visibility_variable_that_would_be_misread_is_a_fault(tmp_path: Path) -> None:
    fake_npu_smi(tmp_path / "tools", [Chip(npu=0), Chip(npu=1), Chip(npu=2)])

    done = doctor(tmp_path, "--json", env={"ASCEND_RT_VISIBLE_DEVICES": "1, 2"})

    assert done.code == 0  # no model is configured that would compute there
    variable = checks(done, "devices")["ASCEND_RT_VISIBLE_DEVICES"]
    assert variable["status"] == "failed"
    assert "1,2" in variable["hint"]


def test_a_configured_model_is_looked_at_by_the_checks_of_a_run(tmp_path: Path, real_checkout: Path) -> None:
    fake_npu_smi(tmp_path / "tools", [Chip(npu=0), Chip(npu=1)])

    done = doctor(tmp_path, "--json", env=configured(real_checkout))

    assert done.code == 1
    found = checks(done, "soulx-flashhead-1.3b on ascend")
    assert found["checkpoint"]["status"] == "failed"  # there are no weights
    assert found["wav2vec"]["status"] == "failed"
    assert found["revision"]["status"] == "passed"
    assert found["interpreter"]["status"] == "passed"
    assert found["packages"]["status"] == "failed"
    assert "engine: not installed" in found["packages"]["detail"]
    assert "soulx-flashhead-1.3b on ascend: checkpoint" in done.stderr
    assert str(real_checkout) in done.json["settings"]["soulx-flashhead-1.3b on ascend"]["repo_path"]


def test_a_model_that_is_asked_about_must_be_configured(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--model", "flashtalk", "--backend", "cuda", "--json")

    assert done.code == 1
    assert checks(done, "soulx-flashtalk-14b")["checkout"]["status"] == "failed"


def test_a_checkout_with_changes_of_its_own_is_told(tmp_path: Path, real_checkout: Path) -> None:
    script = real_checkout / "generate_video.py"
    script.write_text(script.read_text() + "# mine\n")

    done = doctor(tmp_path, "--model", "flashhead", "--backend", "cpu", "--json", env=configured(real_checkout))

    assert checks(done, "soulx-flashhead")["revision"]["status"] == "warned"


def test_an_env_script_that_fails_is_told_with_what_it_did(tmp_path: Path, real_checkout: Path) -> None:
    script = tmp_path / "set_env.sh"
    script.write_text("exit 3\n")
    env = {**configured(real_checkout), "OMNIRT_FLASHHEAD_ENV_SCRIPT": str(script)}

    done = doctor(tmp_path, "--model", "flashhead", "--backend", "cpu", "--json", env=env)

    assert done.code == 1
    assert checks(done, "soulx-flashhead")["env_script_sourced"]["status"] == "failed"


def test_deep_asks_the_models_own_torch(tmp_path: Path, real_checkout: Path) -> None:
    """This machine's torch has no NPU, and must say so; the tool's word alone would let a run start."""
    fake_npu_smi(tmp_path / "tools", [Chip(npu=0)])

    done = doctor(tmp_path, "--model", "flashhead", "--backend", "ascend", "--deep", "--json",
                  env=configured(real_checkout))  # fmt: skip

    assert checks(done, "soulx-flashhead")["torch"]["status"] == "failed"


def test_an_unknown_model_is_a_usage_error(tmp_path: Path) -> None:
    assert doctor(tmp_path, "--model", "flashtakl").code == 2


@pytest.mark.parametrize("how", ["flag", "settings"])
def test_without_a_model_only_the_cpu_can_render(tmp_path: Path, how: str) -> None:
    if how == "settings":
        (tmp_path / "omnirt.yaml").write_text("backend: cuda\n")

    done = doctor(tmp_path, *(("--backend", "cuda") if how == "flag" else ()), "--json")

    assert done.code == 1
    checkout = checks(done, "models")["checkout"]
    assert checkout["status"] == "failed"
    assert "no model is configured for cuda" in checkout["detail"]
    assert done.json["only_miniature"] is False


@pytest.mark.parametrize("args", [(), ("--backend", "cpu"), ("--model", "flashhead", "--backend", "cpu")])
def test_the_last_line_says_that_only_the_miniature_can_render(tmp_path: Path, args: tuple[str, ...]) -> None:
    done = doctor(tmp_path, *args)

    assert done.code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "only the miniature can render here: no model is configured"


def test_what_is_planted_under_a_leases_name_is_told_and_the_device_is_not_shown_as_free(tmp_path: Path) -> None:
    fake_npu_smi(tmp_path / "tools", [Chip(npu=0), Chip(npu=1)])
    key = doctor(tmp_path, "--json").json["devices"][0]["key"]
    os.mkfifo(tmp_path / "locks" / file_name(key))

    done = doctor(tmp_path, "--json")

    leases = checks(done, "devices")["leases"]
    assert leases["status"] == "failed"
    assert "no plain file" in leases["detail"]
    assert "can remove" in leases["hint"]


def test_a_warning_about_the_devices_is_not_followed_by_their_ok(tmp_path: Path, real_checkout: Path) -> None:
    failing_tool(tmp_path / "tools", "npu-smi", stderr="dcmi module initialize failed")

    done = doctor(tmp_path, "--model", "flashhead", "--backend", "ascend", "--json", env=configured(real_checkout))

    section = next(part for part in done.json["sections"] if part["title"].startswith("soulx-flashhead"))
    told = [check["status"] for check in section["checks"] if check["name"] == "devices"]
    assert told == ["warned"]
