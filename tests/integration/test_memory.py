"""Memory before a run: what certainly does not fit is refused with what would, what is only claimed warns."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from omnirt_cli import host_memory
from omnirt_cli.host_memory import HostAvailable
from omnirt_cli.placement import Foresight, foresee
from omnirt_cli.planner import draft_plan
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.settings import Surroundings
from tests.omnirt_cli_runs import ASSETS, CHECKOUTS, Finished, omnirt
from tests.vendor_tools import Gpu, MigInstance, Process, fake_nvidia_smi, machine

ABOUT_WEIGHTS = ("--skip-check", "checkpoint", "--skip-check", "wav2vec")


@pytest.fixture
def quantizing(tmp_path: Path) -> Path:
    """A checkout of the quantizing fork that does not say that it is a miniature."""
    place = tmp_path / "SoulX-FlashTalk"
    shutil.copytree(CHECKOUTS / "flashtalk_quant", place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "MINIATURE").unlink()
    return place


def flashtalk(tmp_path: Path, checkout: Path, *more: str, command: str = "validate") -> Finished:
    env = machine(tmp_path / "tools", {"OMNIRT_LOCK_DIR": str(tmp_path / "locks")})
    return omnirt(
        command, "--model", "soulx-flashtalk-14b", "--backend", "cuda", "--launcher", "python",
        "--image", str(ASSETS / "portrait.png"), "--audio", str(ASSETS / "speech.wav"), "--max-chunks", "1",
        "--repo-path", str(checkout), "--python-executable", sys.executable, "--ckpt-dir", ".", "--wav2vec-dir", ".",
        "--output", str(tmp_path / "v.mp4"), *ABOUT_WEIGHTS, "--json", *more, env=env,
    )  # fmt: skip


def check(done: Finished, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(check for check in done.json["checks"] if check["name"] == name)
    return found


def gpu(free_gib: float, *, total_gib: float = 80.0, index: int = 0, holders: tuple[Process, ...] = ()) -> Gpu:
    total = round(total_gib * 1024)
    return Gpu(index, total_mib=total, used_mib=total - round(free_gib * 1024), processes=holders)


def test_a_measured_need_that_does_not_fit_is_refused_with_the_holder_and_what_would_fit(
    tmp_path: Path, quantizing: Path
) -> None:
    fake_nvidia_smi(tmp_path / "tools", [gpu(20.0, holders=(Process(4242, "python", 60_000),))])

    done = flashtalk(tmp_path, quantizing, "--cpu-offload", "--visible-devices", "0")

    memory = check(done, "device_memory")
    assert done.code == 69
    assert "38.5 GiB" in memory["detail"]
    assert "device 0" in memory["detail"]
    assert "4242" in memory["detail"]
    assert memory["hint"]


def test_the_same_is_refused_by_a_run_after_it_holds_its_device_and_its_report_says_so(
    tmp_path: Path, quantizing: Path
) -> None:
    fake_nvidia_smi(tmp_path / "tools", [gpu(20.0)])

    done = flashtalk(tmp_path, quantizing, "--cpu-offload", "--visible-devices", "0", command="generate")

    assert done.code == 69
    assert done.report["status"] == "failed"
    assert done.report["devices"]["used"][0]["memory_free_before_gib"] == 20.0
    assert not (tmp_path / "v.mp4").exists()
    again = flashtalk(tmp_path, quantizing, "--visible-devices", "0")
    assert check(again, "leases")["status"] == "passed"


def test_a_need_that_is_only_reckoned_warns(tmp_path: Path, quantizing: Path) -> None:
    fake_nvidia_smi(tmp_path / "tools", [gpu(48.0)])

    done = flashtalk(tmp_path, quantizing, "--quantize", "quanto-int4", "--visible-devices", "0")

    assert done.code == 0, done.stderr
    assert check(done, "device_memory")["status"] == "warned"


def test_memory_that_nobody_tells_is_skipped_and_not_passed(tmp_path: Path, quantizing: Path) -> None:
    fake_nvidia_smi(tmp_path / "tools", [Gpu(0, total_mib=None, used_mib=None)])

    done = flashtalk(tmp_path, quantizing, "--visible-devices", "0")

    assert done.code == 0, done.stderr
    assert check(done, "device_memory")["status"] == "skipped"


def test_of_free_devices_one_with_the_memory_is_chosen(tmp_path: Path, quantizing: Path) -> None:
    fake_nvidia_smi(tmp_path / "tools", [gpu(20.0), gpu(79.0, index=1)])

    done = flashtalk(tmp_path, quantizing, "--cpu-offload", "--devices", "1")

    assert done.code == 0, done.stderr
    assert done.json["plan"]["env"]["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize(("free_gib", "offload"), [(79.0, False), (45.0, True)])
def test_low_vram_gives_up_only_what_the_devices_memory_demands(
    tmp_path: Path, quantizing: Path, free_gib: float, offload: bool
) -> None:
    fake_nvidia_smi(tmp_path / "tools", [gpu(free_gib)])

    done = flashtalk(tmp_path, quantizing, "--preset", "low-vram")

    assert done.code == 0, done.stderr
    assert bool(done.json["plan"]["config"]["cpu_offload"]) is offload
    assert done.json["plan"]["config"]["size"] == "416*704"


def test_the_usual_process_count_counts_the_devices_that_have_the_memory(tmp_path: Path, quantizing: Path) -> None:
    fake_nvidia_smi(tmp_path / "tools", [gpu(21.0), gpu(79.0, index=1)])

    done = flashtalk(tmp_path, quantizing, "--launcher", "torchrun")

    assert done.code == 0, done.stderr
    assert "--nproc_per_node=1" in done.json["plan"]["argv"]
    assert done.json["plan"]["env"]["CUDA_VISIBLE_DEVICES"] == "1"
    assert check(done, "device_memory")["status"] == "passed"


def test_low_vram_reckons_with_the_processes_that_the_run_starts(tmp_path: Path, quantizing: Path) -> None:
    fake_nvidia_smi(tmp_path / "tools", [gpu(79.0), gpu(21.0, index=1)])

    done = flashtalk(tmp_path, quantizing, "--launcher", "torchrun", "--preset", "low-vram")

    assert done.code == 0, done.stderr
    assert not done.json["plan"]["config"]["cpu_offload"]
    assert "--nproc_per_node=1" in done.json["plan"]["argv"]
    assert check(done, "device_memory")["status"] == "passed"


def test_low_vram_never_overrules_what_the_user_said(tmp_path: Path, quantizing: Path) -> None:
    fake_nvidia_smi(tmp_path / "tools", [gpu(45.0)])

    done = flashtalk(tmp_path, quantizing, "--preset", "low-vram", "--no-cpu-offload")

    assert done.json["plan"]["config"]["cpu_offload"] is False


def test_host_memory_that_cannot_hold_the_frames_is_refused_with_the_longest_audio_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_memory, "available", lambda: HostAvailable(1 << 30, "cgroup v2 memory.max of /job"))
    request = Audio2VideoRequest.model_validate(
        {
            "model": "soulx-flashtalk-14b",
            "backend": "cpu",
            "inputs": {"image": str(ASSETS / "portrait.png"), "audio": str(ASSETS / "speech.wav")},
            "config": {"output_dir": str(tmp_path), "size": "1088*1920"},
        }
    )
    around = Surroundings(environ={}, cwd=tmp_path, user_files=(), home=None)

    foresight = foresee(draft_plan(request, surroundings=around).require(), around.environ)

    assert foresight.error is not None
    assert foresight.error.exit_status == 69
    assert "cgroup v2" in foresight.error.message
    assert "the longest audio that fits is" in (foresight.error.hint or "")


def test_a_recording_too_long_for_the_script_is_taken_by_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_memory, "available", lambda: HostAvailable(4 << 30, "MemAvailable"))
    asked: dict[str, Any] = {
        "model": "soulx-flashtalk-14b",
        "backend": "cpu",
        "inputs": {"image": str(ASSETS / "portrait.png"), "audio": str(ASSETS / "speech.wav")},
        "config": {"output_dir": str(tmp_path), "size": "1088*1920"},
    }
    around = Surroundings(environ={}, cwd=tmp_path, user_files=(), home=None)

    def foreseen(**more: str) -> Foresight:
        request = Audio2VideoRequest.model_validate({**asked, "config": {**asked["config"], **more}})
        return foresee(draft_plan(request, surroundings=around).require(), around.environ)

    by_script, by_driver = foreseen(), foreseen(executor="driver")

    assert by_script.error is not None
    assert (by_script.error.hint or "").startswith("--executor driver writes the frames as they come")
    assert by_driver.error is None


def test_where_the_memory_check_is_left_out_no_device_is_ruled_out_for_its_memory(
    tmp_path: Path, quantizing: Path
) -> None:
    fake_nvidia_smi(tmp_path / "tools", [gpu(24.0, total_gib=24.0)])

    refused = flashtalk(tmp_path, quantizing, "--cpu-offload", "--size", "448*768")
    left_out = flashtalk(tmp_path, quantizing, "--cpu-offload", "--size", "448*768", "--skip-check", "device_memory")

    assert refused.code == 69
    assert check(refused, "leases")["status"] == "passed"
    assert "38.5 GiB" in check(refused, "device_memory")["detail"]
    assert left_out.code == 0, left_out.stderr


def test_of_mig_instances_a_run_takes_one(tmp_path: Path, quantizing: Path) -> None:
    slices = (
        MigInstance("MIG-11111111-0000-4000-8000-000000000001"),
        MigInstance("MIG-11111111-0000-4000-8000-000000000002"),
    )
    fake_nvidia_smi(tmp_path / "tools", [Gpu(0, mig=slices)])

    one = flashtalk(tmp_path, quantizing, "--launcher", "torchrun")
    two = flashtalk(tmp_path, quantizing, "--launcher", "torchrun", "--devices", "2")

    assert one.code == 0, one.stderr
    assert one.json["plan"]["env"]["CUDA_VISIBLE_DEVICES"].count("MIG-") == 1
    assert two.code == 69
    assert "one MIG instance" in two.stderr


def test_a_whole_gpu_is_taken_before_an_instance_of_another(tmp_path: Path, quantizing: Path) -> None:
    fake_nvidia_smi(
        tmp_path / "tools", [Gpu(0, mig=(MigInstance("MIG-11111111-0000-4000-8000-000000000001"),)), gpu(79.0, index=1)]
    )

    done = flashtalk(tmp_path, quantizing, "--launcher", "torchrun")

    assert done.code == 0, done.stderr
    assert done.json["plan"]["env"]["CUDA_VISIBLE_DEVICES"] == "1"
