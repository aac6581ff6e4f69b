"""A run that is killed while it waits for devices is known, and is not said to run for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.omnirt_cli_runs import (
    ASSETS,
    checkout,
    finish,
    kill_hard,
    marked_processes,
    omnirt,
    read_report,
    scratch_dirs,
    start,
    wait_for,
)
from tests.vendor_tools import Chip, fake_npu_smi, machine


class OneDevice:
    """A machine with one NPU, which a run has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        fake_npu_smi(folder / "tools", [Chip(npu=0)])
        self.env = machine(folder / "tools", {"OMNIRT_LOCK_DIR": str(folder / "locks")})
        self.holder = start(*self.args("holder"), env={**self.env, "MINIATURE_LOAD_S": "300"})
        wait_for(self._is_held, what="the first run's start")

    def _is_held(self) -> bool:
        report = self.folder / "holder.report.json"
        return report.exists() and bool(marked_processes(read_report(self.folder / "holder.mp4")["run_id"]))

    def args(self, name: str, *more: str, audio: Path | None = None) -> list[str]:
        return [
            "generate", "--model", "soulx-flashhead-1.3b", "--backend", "ascend", "--launcher", "python",
            "--size", "128*128", "--max-chunks", "1", "--visible-devices", "0", "--progress", "never", "--json",
            "--image", str(ASSETS / "portrait.png"), "--audio", str(audio or ASSETS / "speech.wav"),
            *checkout("flashhead_ascend"), "--output", str(self.folder / f"{name}.mp4"), *more,
        ]  # fmt: skip

    def free(self) -> None:
        if self.holder.poll() is None:
            self.holder.terminate()
            finish(self.holder)

    def runs(self) -> dict[str, str]:
        """Every run that `omnirt runs` knows, and its status."""
        listed = omnirt("runs", "list", "--json", env=self.env)
        assert listed.code == 0, listed.stderr
        return {run["run_id"]: run["status"] for run in listed.json["runs"]}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[OneDevice]:
    taken = OneDevice(tmp_path)
    yield taken
    taken.free()


def test_a_run_killed_while_it_waits_for_devices_is_listed_and_completed(device: OneDevice) -> None:
    waiting = start(*device.args("waiting", "--wait", "300"), env=device.env)
    output = device.folder / "waiting.mp4"
    wait_for(lambda: (device.folder / "waiting.report.json").exists(), what="the report")
    run_id = read_report(output)["run_id"]
    wait_for(lambda: device.runs().get(run_id) == "running", what="the waiting run in the list")

    kill_hard(waiting)

    assert device.runs()[run_id] == "interrupted"
    device.free()
    again = omnirt(*device.args("again"), env=device.env)
    assert again.code == 0, again.stderr
    report = read_report(output)
    assert report["status"] == "interrupted"
    assert report["error"]["exit_code"] == 137


def test_a_wait_that_is_cancelled_or_refused_leaves_nothing_behind(device: OneDevice) -> None:
    refused = omnirt(*device.args("refused"), env=device.env)
    waiting = start(*device.args("waiting", "--wait", "300", "--executor", "script"), env=device.env)
    wait_for(lambda: len(scratch_dirs(device.folder)) == 2, what="the waiting run's directory")
    waiting.terminate()
    done = finish(waiting)

    assert refused.code == 75
    assert done.code == 143
    assert done.report["kept"] == []
    assert done.report["scratch_dir"] is None
    assert len(scratch_dirs(device.folder)) == 1, "the first run's alone"


def test_a_recording_that_is_deleted_during_the_wait_is_not_missed(device: OneDevice) -> None:
    recording = device.folder / "speech.wav"
    recording.write_bytes((ASSETS / "speech.wav").read_bytes())
    waiting = start(*device.args("waiting", "--wait", "300", audio=recording), env=device.env)
    wait_for(lambda: list(device.folder.glob(".omnirt-*/.recording.wav"))[1:], what="the held recording")

    recording.unlink()
    device.free()
    done = finish(waiting, timeout=90)

    assert done.code == 0, done.stderr
