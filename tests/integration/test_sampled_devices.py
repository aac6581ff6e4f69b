"""A run's report says what its devices held and did, and a vendor's tool that fails meanwhile costs the run nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.omnirt_cli_runs import ASSETS, checkout, finish, marked_processes, omnirt, read_report, start, wait_for
from tests.vendor_tools import Chip, Gpu, fake_npu_smi, fake_nvidia_smi, gone, hanging_tool, machine, processes_of

LONG_ENOUGH = {"MINIATURE_LOAD_S": "4"}
"""For a first look at 2.5 s."""


def args(folder: Path, *more: str, name: str = "flashhead_ascend", backend: str = "ascend") -> list[str]:
    return [
        "generate", "--model", "soulx-flashhead-1.3b", "--backend", backend, "--launcher", "python",
        "--size", "128*128", "--max-chunks", "1", "--visible-devices", "0",
        "--image", str(ASSETS / "portrait.png"), "--audio", str(ASSETS / "speech.wav"), *checkout(name),
        "--output", str(folder / "v.mp4"), "--json", *more,
    ]  # fmt: skip


def script_runs(folder: Path) -> bool:
    report = folder / "v.report.json"
    return report.exists() and bool(marked_processes(read_report(folder / "v.mp4")["run_id"]))


def env(folder: Path, **more: str) -> dict[str, str]:
    return machine(folder / "tools", {"OMNIRT_LOCK_DIR": str(folder / "locks"), **more})


@pytest.fixture(autouse=True)
def locks(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(0o1777)


def test_the_report_has_the_peak_the_growth_and_the_series(tmp_path: Path) -> None:
    fake_npu_smi(tmp_path / "tools", [Chip(0)])
    running = start(*args(tmp_path), env=env(tmp_path, **LONG_ENOUGH))
    wait_for(lambda: script_runs(tmp_path), what="the script's start")
    fake_npu_smi(tmp_path / "tools", [Chip(0, used_mib=40_000, core_percent=90)])

    done = finish(running)

    assert done.code == 0, done.stderr
    devices = done.report["devices"]
    (used,) = devices["used"]
    assert used["memory_free_before_gib"] == pytest.approx((65536 - 3400) / 1024, abs=0.1)
    assert devices["sampling"]["source"] == "npu-smi"
    assert devices["sampling"]["looks"] == len(used["use_series"]) >= 1
    assert used["memory_peak_gib"] == pytest.approx(40_000 / 1024, abs=0.001)
    assert used["memory_growth_gib"] == pytest.approx(36_600 / 1024, abs=0.001)
    assert (used["memory_peak_source"], used["use_percent_avg"]) == ("npu-smi", 90.0)
    assert all(2_000 < point["at_ms"] < done.report["timings"]["total_ms"] for point in used["use_series"])


def test_nvidia_smi_tells_where_there_is_no_nvml(tmp_path: Path) -> None:
    fake_nvidia_smi(tmp_path / "tools", [Gpu(0, used_mib=30_000, use_percent=77)])

    done = omnirt(*args(tmp_path, name="flashhead", backend="cuda"), env=env(tmp_path, **LONG_ENOUGH))

    assert done.code == 0, done.stderr
    (used,) = done.report["devices"]["used"]
    assert (used["memory_peak_source"], used["use_percent_avg"]) == ("nvidia-smi", 77.0)
    assert used["memory_peak_gib"] == pytest.approx(30_000 / 1024, abs=0.001)


def test_npu_smi_that_begins_to_hang_delays_neither_the_run_nor_its_end(tmp_path: Path) -> None:
    fake_npu_smi(tmp_path / "tools", [Chip(0)])
    running = start(*args(tmp_path), env=env(tmp_path, MINIATURE_LOAD_S="6"))
    wait_for(lambda: script_runs(tmp_path), what="the script's start")
    tool = hanging_tool(tmp_path / "tools", "npu-smi")
    wait_for(lambda: bool(processes_of(tool)), what="a look")

    done = finish(running)

    assert done.code == 0, done.stderr
    assert done.seconds < 30
    (used,) = done.report["devices"]["used"]
    assert used["memory_peak_gib"] is None
    wait_for(lambda: all(gone(pid) for pid in processes_of(tool)), what="the end of the tool that hung")
