"""What the model's Python sees, against what the vendor's tool says: a real child, with torches made for the test."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from omnirt_cli.devices.deep_probe import ProbeResult, SeenDevice, compare, probe_model_python
from omnirt_cli.devices.device import Device, Inventory
from omnirt_cli.devices.visibility import Visibility
from omnirt_cli.models.base import Backend
from tests.omnirt_cli_runs import wait_for
from tests.vendor_tools import gone, hanging_tool, processes_of

GIB = 1 << 30
PYTHON = Path(sys.executable)

ACCELERATOR = """
print("torch talks on standard output")

class {kind}:
    def device_count(): return {count}
    def get_device_name(number): return "{name}"
    def mem_get_info(number):
        if number == {broken}: raise RuntimeError("out of memory\\nand a long trace")
        return ({free}, {total})

class version:
    cuda = "12.8"

__version__ = "2.7.1"
"""


def fake_torch(
    folder: Path,
    kind: str = "cuda",
    *,
    count: int = 2,
    name: str = "NVIDIA H100 80GB HBM3",
    free: int = 70 * GIB,
    total: int = 79 * GIB,
    broken: int = -1,
) -> dict[str, str]:
    """The environment in which `import torch` finds this one."""
    source = ACCELERATOR.format(kind=kind, count=count, name=name, free=free, total=total, broken=broken)
    return packages(folder, torch=source)


def packages(folder: Path, **sources: str) -> dict[str, str]:
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_the_devices_of_a_model_python_are_told_with_name_and_memory(tmp_path: Path) -> None:
    found = probe_model_python(PYTHON, fake_torch(tmp_path), Backend.CUDA)

    assert found.devices == (SeenDevice("NVIDIA H100 80GB HBM3", 79.0, 70.0),) * 2
    assert (found.versions.torch, found.versions.torch_npu, found.problem) == ("2.7.1", None, None)
    assert found.versions.python == ".".join(map(str, sys.version_info[:3]))


def test_ascend_is_seen_through_torch_npu(tmp_path: Path) -> None:
    env = fake_torch(tmp_path, "npu", count=1, name="Ascend910B2", total=61 * GIB)
    packages(tmp_path, torch_npu="__version__ = '2.7.1.post1'\n")

    found = probe_model_python(PYTHON, env, Backend.ASCEND)

    assert found.devices == (SeenDevice("Ascend910B2", 61.0, 70.0),)
    assert (found.versions.torch, found.versions.torch_npu) == ("2.7.1", "2.7.1.post1")


def test_a_device_that_does_not_answer_keeps_its_place_and_says_why(tmp_path: Path) -> None:
    found = probe_model_python(PYTHON, fake_torch(tmp_path, broken=1), Backend.CUDA)

    assert found.devices is not None
    assert found.devices[1] == SeenDevice("NVIDIA H100 80GB HBM3", problem="RuntimeError: out of memory")


def test_a_real_torch_for_the_cpu_sees_no_accelerator() -> None:
    pytest.importorskip("torch")

    found = probe_model_python(PYTHON, {**os.environ, "CUDA_VISIBLE_DEVICES": ""}, Backend.CUDA)

    assert found.devices == ()
    assert found.problem in ("this torch is built without CUDA", "torch sees no accelerator")
    assert found.versions.torch is not None


@pytest.mark.parametrize(
    ("kind", "sources", "problem"),
    [
        (
            Backend.CUDA,
            {"torch": "raise OSError('libcudart.so.12: no such file')"},
            "torch cannot be imported: OSError",
        ),
        (Backend.CUDA, {"torch": "__version__ = '2.7'"}, "torch cannot count its devices: AttributeError"),
        (Backend.ASCEND, {"torch": "", "torch_npu": "import nothing_of_that_name"}, "torch_npu cannot be imported"),
    ],
)
def test_what_keeps_torch_from_its_devices_is_told(
    kind: Backend, sources: dict[str, str], problem: str, tmp_path: Path
) -> None:
    found = probe_model_python(PYTHON, packages(tmp_path, **sources), kind)

    assert found.devices is None
    assert problem in (found.problem or "")


def test_a_python_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    dying = "import os, sys; sys.stderr.write('Illegal instruction\\n'); sys.stderr.flush(); os.abort()"

    found = probe_model_python(PYTHON, packages(tmp_path, torch=dying), Backend.CUDA)

    assert found.devices is None
    assert "Illegal instruction" in (found.problem or "")


def test_a_python_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    python = hanging_tool(tmp_path, "python")
    began = time.monotonic()

    found = probe_model_python(python, dict(os.environ), Backend.CUDA, timeout_s=2)

    assert time.monotonic() - began < 10
    assert found.devices is None
    assert "did not end in time" in (found.problem or "")
    assert len(processes_of(python)) == 2
    wait_for(lambda: all(gone(pid) for pid in processes_of(python)), seconds=5, what="the end of both")


@pytest.mark.parametrize("answer", ["hello", "[]", '{"devices": 7}', '{"devices": [{}]}', ""])
def test_what_is_no_python_is_told(answer: str, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    program.chmod(0o755)

    found = probe_model_python(program, dict(os.environ), Backend.CUDA)

    assert found.devices is None
    assert "is it one?" in (found.problem or "")


def test_a_python_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = probe_model_python(tmp_path / "python", {}, Backend.CUDA)

    assert "cannot be started" in (found.problem or "")


# Compared

NPUS = Inventory(
    Backend.ASCEND,
    tuple(Device(str(n), f"ascend-{n}", name="910B2", total_gib=64.0) for n in range(4)),
    "npu-smi",
)
ALL = Visibility(Backend.ASCEND, None, "all")
SEEN = SeenDevice("Ascend910B2", 61.3, 58.0)


def test_the_same_devices_under_the_runtimes_names_are_no_disagreement() -> None:
    two = Visibility(Backend.ASCEND, ("1", "3"), "--visible-devices")

    assert compare(NPUS, ALL, ProbeResult((SEEN,) * 4)) == []
    assert compare(NPUS, two, ProbeResult((SEEN,) * 2)) == []
    assert compare(replace(NPUS, devices=None), ALL, ProbeResult((SEEN,) * 3)) == []


def test_an_id_that_the_runtime_dropped_is_a_disagreement() -> None:
    asked = Visibility(Backend.ASCEND, ("0", "1", "3", "4"), "--visible-devices")

    assert compare(NPUS, asked, ProbeResult((SEEN,) * 3)) == [
        "the model's Python sees 3 devices, but ASCEND_RT_VISIBLE_DEVICES=0,1,3,4 names 4"
    ]


def test_a_torch_without_the_accelerator_is_a_disagreement_with_its_reason() -> None:
    blind = ProbeResult((), problem="this torch is built without CUDA")

    assert compare(NPUS, ALL, blind) == [
        "the model's Python sees 0 devices (this torch is built without CUDA), but this machine has 4"
    ]


def test_another_name_another_memory_and_a_silent_device_are_told_by_the_devices_own_number() -> None:
    asked = Visibility(Backend.ASCEND, ("1", "2", "3"), "--visible-devices")
    seen = (replace(SEEN, name="Ascend310P3"), replace(SEEN, total_gib=30.5), SeenDevice(problem="RuntimeError: busy"))

    assert compare(NPUS, asked, ProbeResult(seen)) == [
        "device 1 is 910B2 to npu-smi, but Ascend310P3 to the model's Python",
        "device 2 has 64.0 GiB to npu-smi, but 30.5 GiB to the model's Python",
        "device 3 does not answer the model's Python: RuntimeError: busy",
    ]


def test_a_probe_that_failed_is_the_one_disagreement() -> None:
    assert compare(NPUS, ALL, ProbeResult(None, problem="torch cannot be imported: x")) == [
        "torch cannot be imported: x"
    ]
