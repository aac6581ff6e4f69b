"""Runs on a machine with (fake) NPUs: which devices they get, that they share none, and what is refused before a start.

The vendor's tool is a stand-in, the checkout is the miniature; processes, locks and the command line are real.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.omnirt_cli_runs import (
    ASSETS,
    Finished,
    checkout,
    finish,
    marked_processes,
    omnirt,
    read_report,
    start,
    wait_for,
)
from tests.vendor_tools import Chip, Process, calls, failing_tool, fake_npu_smi, machine


class Machine:
    """Four idle NPUs, and leases of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tools = folder / "tools"
        self.chips([Chip(npu=number) for number in range(4)])

    def chips(self, chips: list[Chip]) -> None:
        fake_npu_smi(self.tools, chips)

    @property
    def env(self) -> dict[str, str]:
        return machine(self.tools, {"OMNIRT_LOCK_DIR": str(self.folder / "locks")})

    def args(self, name: str, *more: str, command: str = "generate") -> list[str]:
        return [
            command,
            "--model",
            "soulx-flashhead-1.3b",
            "--backend",
            "ascend",
            "--launcher",
            "python",
            "--size",
            "128*128",
            "--max-chunks",
            "1",
            "--image",
            str(ASSETS / "portrait.png"),
            "--audio",
            str(ASSETS / "speech.wav"),
            *checkout("flashhead_ascend"),
            "--output",
            str(self.folder / f"{name}.mp4"),
            *more,
        ]

    def run(self, name: str, *more: str, env: dict[str, str] | None = None, command: str = "generate") -> Finished:
        return omnirt(*self.args(name, *more, "--json", command=command), env={**self.env, **(env or {})})


def holds_devices(npus: Machine, name: str = "a") -> bool:
    """Whether a run has its devices and has started its script."""
    report = npus.folder / f"{name}.report.json"
    return report.exists() and bool(marked_processes(read_report(npus.folder / f"{name}.mp4")["run_id"]))


@pytest.fixture
def npus(tmp_path: Path) -> Machine:
    (tmp_path / "locks").mkdir(mode=0o777)
    (tmp_path / "locks").chmod(0o1777)
    return Machine(tmp_path)


def visible(report: dict[str, object]) -> str | None:
    command = report["command"]
    assert isinstance(command, dict)
    return command["env"].get("ASCEND_RT_VISIBLE_DEVICES")


def test_a_run_takes_a_free_device_and_its_script_sees_that_one_alone(npus: Machine) -> None:
    done = npus.run("v", "--devices", "1")

    assert done.code == 0, done.stderr
    assert visible(done.report) == "0"
    (used,) = done.report["devices"]["used"]
    assert used["id"] == "0"
    assert used["name"] == "910B2"
    assert used["memory_total_gib"] == 64.0
    assert used["memory_free_before_gib"] == pytest.approx((65536 - 3400) / 1024, abs=0.1)
    assert done.report["queue_wait_ms"] >= 0


def test_two_runs_at_once_never_share_a_device(npus: Machine) -> None:
    env = {**npus.env, "MINIATURE_LOAD_S": "3"}
    first = start(*npus.args("a", "--devices", "2", "--json"), env=env)
    wait_for(lambda: holds_devices(npus), what="the first run's start")

    second = npus.run("b", "--devices", "2")

    assert second.code == 0, second.stderr
    one, other = finish(first), second
    assert one.code == 0, one.stderr
    assert {visible(one.report), visible(other.report)} == {"0,1", "2,3"}


def test_a_named_device_that_another_run_has_is_busy_at_once_or_waited_for(npus: Machine) -> None:
    env = {**npus.env, "MINIATURE_LOAD_S": "300"}
    first = start(*npus.args("a", "--visible-devices", "2", "--json"), env=env)
    wait_for(lambda: holds_devices(npus), what="the first run's start")

    refused = npus.run("b", "--visible-devices", "2")
    patient = start(*npus.args("c", "--visible-devices", "2", "--wait", "60", "--json"), env=npus.env)
    wait_for(lambda: (npus.folder / "c.report.json").exists(), what="the patient run's start")
    first.terminate()

    assert refused.code == 75
    assert "device 2 is leased by run" in refused.report["error"]["message"]
    assert finish(first).code == 143
    waited = finish(patient, timeout=90)
    assert waited.code == 0, waited.stderr
    assert waited.report["queue_wait_ms"] > 0
    assert "waiting for devices" in waited.stderr


def test_a_killed_run_gives_its_devices_back_when_its_last_process_is_gone(npus: Machine) -> None:
    env = {**npus.env, "MINIATURE_LOAD_S": "60"}
    first = start(*npus.args("a", "--visible-devices", "2"), env=env)
    wait_for(lambda: holds_devices(npus), what="the first run's start")
    run_id = read_report(npus.folder / "a.mp4")["run_id"]

    first.kill()
    finish(first)
    again = npus.run("b", "--visible-devices", "2", "--wait", "30")

    assert again.code == 0, again.stderr
    assert marked_processes(run_id) == []


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (("--launcher", "torchrun", "--visible-devices", "2", "--nproc-per-node", "2"), "2 processes", "--visible"),
        (("--devices", "5"), "5 devices", "4"),
    ],
)
def test_devices_that_cannot_be_had_are_refused_before_anything_starts(
    npus: Machine, flags: tuple[str, ...], message: str, hint: str
) -> None:
    done = npus.run("v", *flags)

    assert done.code == 69, done.stdout
    error = done.report["error"]
    assert message in error["message"]
    assert hint in error["hint"]
    assert not (npus.folder / "v.log").exists()


def test_validate_names_the_device_that_a_run_would_take_and_takes_none(npus: Machine) -> None:
    npus.chips([Chip(npu=0, health="Alarm"), Chip(npu=1), Chip(npu=2)])

    done = npus.run("v", "--devices", "1", command="validate")

    assert done.code == 0, done.stderr
    assert done.json["plan"]["env"]["ASCEND_RT_VISIBLE_DEVICES"] == "1"
    leases = next(check for check in done.json["checks"] if check["name"] == "leases")
    assert leases["status"] == "passed"


def test_validate_tells_who_has_the_devices(npus: Machine) -> None:
    first = start(*npus.args("a", "--visible-devices", "2"), env={**npus.env, "MINIATURE_LOAD_S": "30"})
    wait_for(lambda: holds_devices(npus), what="the first run's start")

    busy = npus.run("v", "--visible-devices", "2", command="validate")
    patient = npus.run("v", "--visible-devices", "2", "--wait", "9", command="validate")
    seen = omnirt("doctor", "--json", env=npus.env)

    first.terminate()
    assert finish(first).code == 143
    assert busy.code == 75
    assert patient.code == 0
    assert "would wait" in next(check for check in patient.json["checks"] if check["name"] == "leases")["detail"]
    assert "generate flashhead" in next(device for device in seen.json["devices"] if device["id"] == "2")["leased_by"]


def test_an_external_program_on_a_device_is_named_where_the_memory_certainly_does_not_suffice(
    npus: Machine, real_checkout: Path
) -> None:
    npus.chips([Chip(npu=0, used_mib=60_000, processes=(Process(4242, "vllm", 57_000),))])

    done = npus.run("v", "--repo-path", str(real_checkout), "--ckpt-dir", ".", "--wav2vec-dir", ".", "--skip-check",
                    "checkpoint", "--skip-check", "wav2vec", command="validate")  # fmt: skip

    memory = next(check for check in done.json["checks"] if check["name"] == "device_memory")
    assert memory["status"] in ("warned", "failed")
    assert "4242" in memory["detail"]
    assert "vllm" in memory["detail"]


@pytest.fixture
def real_checkout(tmp_path: Path) -> Path:
    """The miniature's files without its word that it is one, so that the model's real needs hold."""
    import shutil

    from tests.omnirt_cli_runs import CHECKOUTS

    place = tmp_path / "checkout"
    shutil.copytree(CHECKOUTS / "flashhead_ascend", place)
    (place / "MINIATURE").unlink()
    assert sys.executable
    return place


def test_a_tool_that_hangs_leaves_the_count_to_the_device_nodes(npus: Machine) -> None:
    from tests.vendor_tools import hanging_tool

    hanging_tool(npus.tools, "npu-smi")

    done = npus.run("v", "--visible-devices", "0", "--skip-check", "devices", command="validate")

    assert done.code == 0, done.stderr


def test_a_chip_that_is_not_well_is_not_counted_on(npus: Machine) -> None:
    npus.chips([Chip(npu=0), Chip(npu=1, health="Warning"), Chip(npu=2)])

    done = npus.run("v", "--launcher", "torchrun", command="validate")

    assert done.code == 0, done.stderr
    assert done.json["plan"]["env"]["ASCEND_RT_VISIBLE_DEVICES"] == "0,2"
    assert "--nproc_per_node=2" in done.json["plan"]["argv"]


def test_devices_that_no_process_uses_are_told(npus: Machine) -> None:
    done = npus.run("v", "--devices", "3", command="validate")

    assert done.code == 0, done.stderr
    assert "3 devices are held, but 1 process uses only 1 of them" in done.json["plan"]["warnings"]


def test_runs_that_cannot_tell_the_devices_apart_share_them_with_nobody(npus: Machine) -> None:
    first = start(*npus.args("a", "--visible-devices", "2"), env={**npus.env, "MINIATURE_LOAD_S": "300"})
    wait_for(lambda: holds_devices(npus), what="the first run's start")
    failing_tool(npus.tools, "npu-smi", stdout="dcmi module initialize failed. ret is -8005\n")

    in_the_dark = npus.run("b", "--visible-devices", "3", "--skip-check", "devices")
    first.terminate()
    assert finish(first).code == 143
    alone = start(
        *npus.args("c", "--visible-devices", "3", "--skip-check", "devices"),
        env={**npus.env, "MINIATURE_LOAD_S": "300"},
    )
    wait_for(lambda: holds_devices(npus, "c"), what="the run in the dark")
    npus.chips([Chip(npu=number) for number in range(4)])
    knowing = npus.run("d", "--visible-devices", "1")
    looking = npus.run("e", "--visible-devices", "1", command="validate")
    alone.terminate()

    assert finish(alone).code == 143
    assert in_the_dark.code == 75
    assert "other runs have ascend devices" in in_the_dark.report["error"]["message"]
    assert knowing.code == 75
    assert "which cannot tell them apart" in knowing.report["error"]["message"]
    assert looking.code == 75
    assert "which cannot tell them apart" in looking.stderr


def test_a_backend_that_is_looked_for_is_looked_at_once(npus: Machine) -> None:
    args = npus.args("v", "--devices", "1", "--json", command="validate")
    args[args.index("ascend")] = "auto"

    done = omnirt(*args, env=npus.env)

    assert done.code == 0, done.stderr
    assert done.json["plan"]["backend"] == "ascend"
    assert calls(npus.tools / "npu-smi") == ["info", "info -m"]
