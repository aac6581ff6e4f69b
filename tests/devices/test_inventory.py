"""Discovery: the vendor's tool first, else device nodes; what is not known is never zero."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from omnirt_cli.devices import inventory as inventory_module
from omnirt_cli.devices import npu_smi
from omnirt_cli.devices.inventory import discover
from omnirt_cli.devices.nvidia import ask_nvidia_smi
from omnirt_cli.models.base import Backend
from tests.vendor_tools import Chip, Gpu, failing_tool, fake_npu_smi, fake_nvidia_smi, hanging_tool, machine

VENDORS = [(Backend.ASCEND, "npu-smi", "davinci"), (Backend.CUDA, "nvidia-smi", "nvidia")]
each_vendor = pytest.mark.parametrize(("kind", "tool", "node"), VENDORS, ids=["ascend", "cuda"])


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has is out of sight."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(npu_smi, "USUAL_PLACES", ())


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    folder = tmp_path / "dev"
    folder.mkdir()
    return folder


def nodes(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def path_of(folder: Path) -> dict[str, str]:
    return {"PATH": str(folder)}


def test_the_cpu_is_one_device() -> None:
    assert discover(Backend.CPU).ids == ("0",)


@each_vendor
def test_without_tool_and_node_there_is_certainly_no_device(
    kind: Backend, tool: str, node: str, dev: Path, tmp_path: Path
) -> None:
    found = discover(kind, environ=path_of(tmp_path), dev=dev)

    assert found.absent
    assert found.problem is None
    assert discover(kind, environ={}, dev=dev / "nowhere").absent


@each_vendor
def test_without_a_tool_the_nodes_are_counted_and_the_missing_tool_is_named(
    kind: Backend, tool: str, node: str, dev: Path, tmp_path: Path
) -> None:
    found = discover(
        kind, environ=path_of(tmp_path), dev=nodes(dev, f"{node}12", f"{node}5", f"{node}_x", f"{node}ctl")
    )

    assert (found.count, found.ids, found.source) == (2, ("0", "1"), "device nodes")
    assert [device.key for device in found.devices or ()] == [f"{kind.value}-5", f"{kind.value}-12"]
    assert all(device.total_gib is None and device.free_gib is None for device in found.devices or ())
    assert found.problem == f"{tool} is not on PATH"
    assert not found.certain_ids


@pytest.mark.parametrize(
    ("kind", "node"),
    [
        (Backend.CUDA, "dxg"),
        (Backend.CUDA, "nvhost-gpu"),
        (Backend.CUDA, "nvidiactl"),
        (Backend.ASCEND, "davinci_manager"),
    ],
)
def test_a_driver_whose_devices_cannot_be_counted_is_not_no_device(
    kind: Backend, node: str, dev: Path, tmp_path: Path
) -> None:
    found = discover(kind, environ=path_of(tmp_path), dev=nodes(dev, node))

    assert found.count is None
    assert not found.absent


@each_vendor
def test_a_tool_that_says_that_there_is_none_is_believed(
    kind: Backend, tool: str, node: str, dev: Path, tmp_path: Path
) -> None:
    make = fake_npu_smi if kind is Backend.ASCEND else fake_nvidia_smi
    make(tmp_path, [])

    found = discover(kind, environ=path_of(tmp_path), dev=nodes(dev, f"{node}0"))

    assert found.absent
    assert found.source == tool


FAILURES = [
    ("dcmi model initialized failed, because the device is used. ret is -8020", 0),
    ("dcmi module initialize failed. ret is -8005", 255),
    ("DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)", 1),
    ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9),
    ("Unable to determine the device handle for GPU0000:AF:00.0: GPU is lost.", 15),
]


@each_vendor
@pytest.mark.parametrize(("words", "code"), FAILURES)
def test_a_tool_that_fails_says_why_and_leaves_the_count_to_the_nodes(
    words: str, code: int, kind: Backend, tool: str, node: str, dev: Path, tmp_path: Path
) -> None:
    failing_tool(tmp_path, tool, stdout=words + "\n", code=code)

    counted = discover(kind, environ=path_of(tmp_path), dev=nodes(dev, f"{node}0", f"{node}1"))
    unknown = discover(kind, environ=path_of(tmp_path), dev=dev / "nowhere")

    assert counted.count == 2
    assert words in (counted.problem or "")
    assert tool in (counted.problem or "")
    assert unknown.devices is None
    assert words in (unknown.problem or "")


@each_vendor
def test_a_tool_that_hangs_leaves_the_count_to_the_nodes(
    kind: Backend, tool: str, node: str, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging_tool(tmp_path, tool)
    monkeypatch.setattr(inventory_module, "ask_npu_smi", partial(npu_smi.ask_npu_smi, timeout_s=0.5))
    monkeypatch.setattr(inventory_module, "ask_nvidia_smi", partial(ask_nvidia_smi, timeout_s=0.5))

    found = discover(kind, environ=path_of(tmp_path), dev=nodes(dev, f"{node}0"))

    assert found.count == 1
    assert "did not answer within 0.5 s" in (found.problem or "")


@each_vendor
def test_a_tool_that_is_no_program_is_a_failing_tool(
    kind: Backend, tool: str, node: str, dev: Path, tmp_path: Path
) -> None:
    (tmp_path / tool).write_bytes(b"\x7fELF of another machine")
    (tmp_path / tool).chmod(0o755)

    found = discover(kind, environ=path_of(tmp_path), dev=dev)

    assert found.devices is None
    assert "cannot be started" in (found.problem or "")


@each_vendor
def test_an_endless_answer_is_a_failure(kind: Backend, tool: str, node: str, dev: Path, tmp_path: Path) -> None:
    failing_tool(tmp_path, tool, stdout="| 0 | 1 |\n" * 200_000, code=0)

    found = discover(kind, environ=path_of(tmp_path), dev=dev)

    assert found.devices is None
    assert "wrote more than 1024 KiB" in (found.problem or "")


def test_a_device_that_vanishes_is_seen_by_the_next_look(dev: Path, tmp_path: Path) -> None:
    fake_npu_smi(tmp_path, [Chip(0), Chip(1)])
    before = discover(Backend.ASCEND, environ=path_of(tmp_path), dev=dev)
    fake_npu_smi(tmp_path, [Chip(1)])
    after = discover(Backend.ASCEND, environ=path_of(tmp_path), dev=dev)

    assert (before.count, after.count) == (2, 1)


def test_npu_smi_is_found_where_the_driver_puts_it_even_on_crons_path(
    dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npu_smi(tmp_path / "sbin", [Chip(0)])
    monkeypatch.setattr(npu_smi, "USUAL_PLACES", (str(tmp_path / "sbin"),))

    assert discover(Backend.ASCEND, environ={"PATH": "/usr/bin:/bin"}, dev=dev).count == 1


@each_vendor
def test_tools_are_asked_in_the_c_locale(kind: Backend, tool: str, node: str, dev: Path, tmp_path: Path) -> None:
    (tmp_path / tool).write_text('#!/bin/sh\necho "locale is $LC_ALL"; exit 1\n')
    (tmp_path / tool).chmod(0o755)

    found = discover(kind, environ={**path_of(tmp_path), "LC_ALL": "de_DE.UTF-8"}, dev=dev)

    assert "locale is C" in (found.problem or "")


def test_a_started_program_finds_the_fake_tools_and_no_real_nvml(tmp_path: Path) -> None:
    fake_nvidia_smi(tmp_path, [Gpu(0), Gpu(1)])
    code = (
        "from omnirt_cli.devices.inventory import discover\n"
        "from omnirt_cli.models.base import Backend\n"
        "found = discover(Backend.CUDA); print(found.source, found.count)"
    )

    done = subprocess.run([sys.executable, "-c", code], env=machine(tmp_path), capture_output=True, check=True)

    assert done.stdout == b"nvidia-smi 2\n"


def test_importing_discovery_loads_no_vendors_library(tmp_path: Path) -> None:
    code = "import sys, omnirt_cli.devices.inventory; print(sorted({'pynvml', 'torch', 'pydantic'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], env=machine(tmp_path), capture_output=True, check=True)

    assert done.stdout == b"[]\n"
