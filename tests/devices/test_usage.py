"""What devices hold and do now: told by the same names as the inventory's, in one look; what is not told is absent."""

# ruff: noqa: N802  # the fake library has the real one's names
from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from omnirt_cli.devices.device import Device, DeviceUse, Holder
from omnirt_cli.devices.npu_smi import NpuSmi, ask_npu_smi
from omnirt_cli.devices.nvidia import NvidiaSmi, ask_nvidia_smi
from omnirt_cli.devices.usage import open_source
from omnirt_cli.devices.vendor_tool import VendorToolError, VendorToolHangsError, VendorToolMissingError
from omnirt_cli.models.base import Backend
from tests.vendor_tools import (
    Chip,
    Gpu,
    Layout,
    Process,
    answering_tool,
    calls,
    failing_tool,
    fake_npu_smi,
    fake_nvidia_smi,
    hanging_tool,
)

SHAPES = Path(__file__).resolve().parents[1] / "data" / "npu_smi"
MIB = 1 / 1024


# npu-smi


def npus(folder: Path, chips: list[Chip], layout: Layout = Layout.ONE_CHIP) -> dict[str, DeviceUse]:
    fake_npu_smi(folder, chips, layout=layout)
    return NpuSmi({"PATH": str(folder)}).use()


def test_npu_smi_tells_memory_use_and_holders_in_one_call(tmp_path: Path) -> None:
    chips = [Chip(0), Chip(5, used_mib=60_000, core_percent=87, processes=(Process(4242, "python", 57_000),))]

    found = npus(tmp_path, chips)

    assert found == {
        "ascend-0000:10:00.0": DeviceUse(3400 * MIB, 0),
        "ascend-0000:15:00.0": DeviceUse(60_000 * MIB, 87, (Holder(4242, "python", 57_000 * MIB),)),
    }
    assert calls(tmp_path / "npu-smi") == ["info"]


@pytest.mark.parametrize("layout", list(Layout))
def test_a_look_calls_devices_by_the_inventory_s_keys(tmp_path: Path, layout: Layout) -> None:
    two = layout in (Layout.TWO_CHIPS, Layout.NO_HBM)
    chips = [Chip(0, 0, core_percent=12), Chip(0, 1) if two else Chip(1, core_percent=3)]

    found = npus(tmp_path, chips, layout)

    there = ask_npu_smi({"PATH": str(tmp_path)})
    assert set(found) == {device.key for device in there.devices or ()}
    assert [it.use_percent for it in found.values()] == [chip.core_percent for chip in chips]


def test_two_chips_on_one_bus_id_are_told_apart(tmp_path: Path) -> None:
    bus = "0000:02:00.0"
    chips = [Chip(1, 0, bus_id=bus, used_mib=1000), Chip(1, 1, bus_id=bus, used_mib=2000)]

    found = npus(tmp_path, chips, Layout.NO_HBM)

    assert {key: it.used_gib for key, it in found.items()} == {
        f"ascend-{bus}-0": 1000 * MIB,
        f"ascend-{bus}-1": 2000 * MIB,
    }


def test_the_use_of_recorded_tables_is_read(tmp_path: Path) -> None:
    answering_tool(tmp_path, "npu-smi", {"info": (SHAPES / "910b-25.txt").read_text()})

    found = NpuSmi({"PATH": str(tmp_path)}).use()

    assert {key: it.use_percent for key, it in found.items()} == {"ascend-0000:41:00.0": 0, "ascend-0000:02:00.0": 97}


@pytest.mark.parametrize("cell", ["-", "NA", "101"])
def test_a_use_that_is_no_share_is_not_known(tmp_path: Path, cell: str) -> None:
    table = (SHAPES / "910b-25.txt").read_text().replace("| 97 ", f"| {cell:<3}")
    answering_tool(tmp_path, "npu-smi", {"info": table})

    busy = NpuSmi({"PATH": str(tmp_path)}).use()["ascend-0000:02:00.0"]

    assert (busy.use_percent, busy.used_gib) == (None, 55710 * MIB)


def test_npu_smi_that_fails_or_hangs_says_so(tmp_path: Path) -> None:
    failing_tool(tmp_path, "npu-smi", stderr="dcmi module initialize failed. ret is -8005")
    with pytest.raises(VendorToolError, match="-8005"):
        NpuSmi({"PATH": str(tmp_path)}).use()

    hanging_tool(tmp_path, "npu-smi")
    with pytest.raises(VendorToolHangsError, match="did not answer within"):
        NpuSmi({"PATH": str(tmp_path)}, timeout_s=0.3).use()


# nvidia-smi


def test_nvidia_smi_tells_memory_use_and_holders(tmp_path: Path) -> None:
    gpus = [Gpu(0, use_percent=41), Gpu(1, used_mib=30_000, processes=(Process(4711, "python3", 29_000),))]
    fake_nvidia_smi(tmp_path, gpus)

    found = NvidiaSmi({"PATH": str(tmp_path)}).use()

    assert found == {
        Gpu(0).identity: DeviceUse(4 * MIB, 41.0),
        Gpu(1).identity: DeviceUse(30_000 * MIB, 0.0, (Holder(4711, "python3", 29_000 * MIB),)),
    }
    there = ask_nvidia_smi({"PATH": str(tmp_path)})
    assert set(found) == {device.key for device in there.devices or ()}


def test_cells_that_tell_nothing_are_not_known(tmp_path: Path) -> None:
    fake_nvidia_smi(tmp_path, [Gpu(0, total_mib=None, used_mib=None, use_percent=None)])

    assert NvidiaSmi({"PATH": str(tmp_path)}).use() == {Gpu(0).identity: DeviceUse()}


def test_nvidia_smi_without_a_gpu_is_no_answer(tmp_path: Path) -> None:
    fake_nvidia_smi(tmp_path, [])

    with pytest.raises(VendorToolError, match="exit status 6"):
        NvidiaSmi({"PATH": str(tmp_path)}).use()


# NVML


@dataclass
class Board:
    uuid: str
    free: int = 100 << 30
    busy: int | None = 55
    fault: int | None = None
    processes: tuple[tuple[int, int | None], ...] = ()


@dataclass
class FakeNvml:
    """The library's functions over a few boards, with its real error classes."""

    boards: dict[str, Board] = field(default_factory=dict)
    opened: int = 0

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlErrorString(self, code: int) -> str:
        return "GPU is lost" if code == pynvml.NVML_ERROR_GPU_IS_LOST else f"error {code}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Board:
        if uuid not in self.boards:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return self.boards[uuid]

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Board:
        return list(self.boards.values())[index]

    def nvmlDeviceGetMemoryInfo(self, board: Board) -> Any:
        if board.fault is not None:
            raise pynvml.NVMLError(board.fault)
        return SimpleNamespace(total=140 << 30, free=board.free)

    def nvmlDeviceGetUtilizationRates(self, board: Board) -> Any:
        if board.busy is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(gpu=board.busy, memory=1)

    def nvmlDeviceGetComputeRunningProcesses(self, board: Board) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in board.processes]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    for name in dir(fake):
        if name.startswith("nvml"):
            monkeypatch.setattr(pynvml, name, getattr(fake, name))
    return fake


def gpu(index: int, uuid: str | None) -> Device:
    return Device(str(index), uuid or f"cuda-{index}", uuid=uuid)


def test_nvml_is_kept_open_and_tells_of_the_given_devices_alone(nvml: FakeNvml) -> None:
    nvml.boards = {
        "GPU-1": Board("GPU-1"),
        "GPU-2": Board("GPU-2", free=90 << 30, processes=((7, 30 << 30), (8, None))),
        "MIG-3": Board("MIG-3", busy=None),
    }

    source = open_source(Backend.CUDA, (gpu(1, "GPU-2"), Device("MIG-3", "MIG-3", uuid="MIG-3")), {})
    found = source.look()
    again = source.look()

    assert source.name == "nvml"
    assert found == again == {
        "GPU-2": DeviceUse(50.0, 55.0, (Holder(7, None, 30.0), Holder(8))),
        "MIG-3": DeviceUse(40.0, None),
    }  # fmt: skip
    assert nvml.opened == 1
    source.close()
    assert nvml.opened == 0


def test_a_gpu_without_a_uuid_is_asked_for_by_its_index(nvml: FakeNvml) -> None:
    nvml.boards = {"a": Board("a"), "b": Board("b", free=139 << 30)}

    assert open_source(Backend.CUDA, (gpu(1, None),), {}).look()["cuda-1"].used_gib == 1.0


def test_a_lost_gpu_is_left_out_and_when_all_are_lost_that_is_an_error(nvml: FakeNvml) -> None:
    lost = pynvml.NVML_ERROR_GPU_IS_LOST
    nvml.boards = {"GPU-1": Board("GPU-1", fault=lost), "GPU-2": Board("GPU-2")}

    assert list(open_source(Backend.CUDA, (gpu(0, "GPU-1"), gpu(1, "GPU-2")), {}).look()) == ["GPU-2"]
    with pytest.raises(VendorToolError, match="GPU is lost"):
        open_source(Backend.CUDA, (gpu(0, "GPU-1"),), {}).look()


# Who is asked


def test_without_nvml_nvidia_smi_is_asked_and_without_both_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(VendorToolMissingError, match="nvidia-smi is not on PATH"):
        open_source(Backend.CUDA, (gpu(0, None),), {"PATH": str(tmp_path)})

    fake_nvidia_smi(tmp_path, [Gpu(0)])
    assert open_source(Backend.CUDA, (gpu(0, None),), {"PATH": str(tmp_path)}).name == "nvidia-smi"


def test_npus_are_told_by_npu_smi_and_the_cpu_by_nobody(tmp_path: Path) -> None:
    fake_npu_smi(tmp_path, [Chip(0)])

    assert open_source(Backend.ASCEND, (), {"PATH": str(tmp_path)}).name == "npu-smi"
    with pytest.raises(VendorToolMissingError):
        open_source(Backend.CPU, (), {})
