"""NVIDIA GPUs: the driver's library is asked first, nvidia-smi's csv second; what neither tells is not known."""

# ruff: noqa: N802  # the fake library has the real one's names
from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from omnirt_cli.devices.device import Device, Holder
from omnirt_cli.devices.inventory import discover
from omnirt_cli.devices.nvidia import ask_nvidia_smi, ask_nvml
from omnirt_cli.devices.vendor_tool import VendorToolError, VendorToolMissingError
from omnirt_cli.models.base import Backend
from tests.vendor_tools import Gpu, MigInstance, Process, answering_tool, calls, fake_nvidia_smi

ANSWERS = Path(__file__).resolve().parents[1] / "data" / "nvidia_smi"
MIB = 1 / 1024
FIELDS = "index,uuid,name,pci.bus_id,memory.total,memory.used,memory.free"
CSV = "--format=csv,noheader,nounits"


# NVML


@dataclass
class Board:
    """One GPU, or one MIG instance, behind the library's functions."""

    uuid: str = "GPU-11aa"
    name: str = "NVIDIA H200"
    total: int = 140 << 30
    free: int = 100 << 30
    processes: tuple[tuple[int, int | None], ...] = ()
    mig: tuple[Board | None, ...] | None = None
    fault: int | None = None
    memory_fault: int | None = None


class FakeNvml:
    """The library's functions over a list of boards, with its real error classes."""

    def __init__(self, boards: list[Board]) -> None:
        self.boards = boards
        self.shut_down = 0

    def nvmlInit(self) -> None:
        pass

    def nvmlShutdown(self) -> None:
        self.shut_down += 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Board:
        self._raise(self.boards[index].fault)
        return self.boards[index]

    def nvmlDeviceGetUUID(self, board: Board) -> str:
        return board.uuid

    def nvmlDeviceGetName(self, board: Board) -> str:
        return board.name

    def nvmlDeviceGetPciInfo(self, board: Board) -> Any:
        return SimpleNamespace(busId="00000000:3B:00.0")

    def nvmlDeviceGetMemoryInfo(self, board: Board) -> Any:
        self._raise(board.memory_fault)
        return SimpleNamespace(total=board.total, free=board.free, used=board.total - board.free)

    def nvmlDeviceGetComputeRunningProcesses(self, board: Board) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in board.processes]

    def nvmlSystemGetProcessName(self, pid: int) -> str:
        self._raise(pynvml.NVML_ERROR_NOT_FOUND if pid == 404 else None)
        return "python3"

    def nvmlDeviceGetMigMode(self, board: Board) -> list[int]:
        self._raise(pynvml.NVML_ERROR_NOT_SUPPORTED if board.mig is None else None)
        return [pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE]

    def nvmlDeviceGetMaxMigDeviceCount(self, board: Board) -> int:
        return len(board.mig or ())

    def nvmlDeviceGetMigDeviceHandleByIndex(self, board: Board, place: int) -> Board:
        instance = (board.mig or ())[place]
        self._raise(pynvml.NVML_ERROR_NOT_FOUND if instance is None else None)
        assert instance is not None
        return instance

    def nvmlErrorString(self, code: int) -> str:
        return {
            pynvml.NVML_ERROR_GPU_IS_LOST: "GPU is lost",
            pynvml.NVML_ERROR_NO_PERMISSION: "Insufficient Permissions",
        }.get(code, f"error {code}")

    @staticmethod
    def _raise(code: int | None) -> None:
        if code is not None:
            raise pynvml.NVMLError(code)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml([])
    for name in dir(fake):
        if name.startswith("nvml"):
            monkeypatch.setattr(pynvml, name, getattr(fake, name))
    return fake


def test_nvml_tells_everything_by_index_and_uuid(nvml: FakeNvml) -> None:
    nvml.boards = [Board(), Board(uuid="GPU-22bb", processes=((4711, 30 << 30), (404, None)))]

    found = ask_nvml()

    assert (found.ids, found.source, found.problem) == (("0", "1"), "nvml", None)
    assert found.device("0") == Device("0", "GPU-11aa", "NVIDIA H200", "GPU-11aa", "00000000:3b:00.0", 140.0, 100.0)
    held = found.device("GPU-22bb")
    assert held is not None
    assert held.holders == (Holder(4711, "python3", 30.0), Holder(404, None, None))
    assert nvml.shut_down == 1


def test_a_lost_gpu_keeps_its_number_and_says_that_it_is_lost(nvml: FakeNvml) -> None:
    lost = pynvml.NVML_ERROR_GPU_IS_LOST
    nvml.boards = [Board(fault=lost), Board(uuid="GPU-22bb"), Board(uuid="GPU-33cc", memory_fault=lost)]

    found = ask_nvml()

    assert found.ids == ("0", "1", "2")
    assert [it.health for it in found.devices or ()] == ["GPU is lost", None, "GPU is lost"]
    assert (found.devices or ())[0] == Device("0", "cuda-0", health="GPU is lost")


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_NOT_SUPPORTED])
def test_what_nvml_may_not_or_cannot_tell_is_not_known(nvml: FakeNvml, code: int) -> None:
    nvml.boards = [Board(memory_fault=code)]

    device = ask_nvml().device("0")

    assert device is not None
    assert (device.name, device.total_gib, device.free_gib, device.health) == ("NVIDIA H200", None, None, None)


def test_a_gpu_that_may_not_be_opened_is_listed_with_the_reason(nvml: FakeNvml) -> None:
    nvml.boards = [Board(fault=pynvml.NVML_ERROR_NO_PERMISSION)]

    assert ask_nvml().devices == (Device("0", "cuda-0", health="Insufficient Permissions"),)


def test_in_place_of_a_gpu_in_mig_mode_stand_its_instances(nvml: FakeNvml) -> None:
    instances = (Board(uuid="MIG-aa", name="NVIDIA H200 MIG 1g.18gb", total=18 << 30, free=17 << 30), None)
    nvml.boards = [Board(mig=instances), Board(uuid="GPU-22bb"), Board(uuid="GPU-33cc", mig=())]

    found = ask_nvml()

    assert found.ids == ("MIG-aa", "1", "2")
    assert found.device("MIG-aa") == Device(
        "MIG-aa", "MIG-aa", "NVIDIA H200 MIG 1g.18gb", "MIG-aa", "00000000:3b:00.0", 18.0, 17.0
    )
    assert "no instance" in str((found.devices or ())[2].health)


def test_nvml_that_lists_nothing_means_no_device(nvml: FakeNvml) -> None:
    assert ask_nvml().absent


def test_a_driver_that_fails_says_why(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    (tmp_path / "nvidia0").touch()

    found = discover(Backend.CUDA, environ={}, dev=tmp_path)

    assert (found.count, found.source) == (1, "device nodes")
    assert "NVML failed: " in (found.problem or "")


@pytest.fixture
def hanging_driver(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    release = threading.Event()
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: release.wait(30))
    yield
    release.set()


@pytest.mark.usefixtures("hanging_driver")
def test_a_driver_that_hangs_is_left_behind() -> None:
    with pytest.raises(VendorToolError, match=r"did not answer within 0\.2 s"):
        ask_nvml(timeout_s=0.2)


def test_a_bug_in_the_look_is_not_taken_for_a_hanging_driver(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: "eight")

    with pytest.raises(TypeError):
        ask_nvml()


def test_without_the_library_nvidia_smi_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_nvidia_smi(tmp_path, [Gpu(0)])

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert discover(Backend.CUDA, environ={"PATH": str(tmp_path)}).source == "nvidia-smi"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert discover(Backend.CUDA, environ={"PATH": str(tmp_path)}).source == "nvidia-smi"


# nvidia-smi


def smi(tmp_path: Path) -> Any:
    return ask_nvidia_smi({"PATH": str(tmp_path)})


def test_nvidia_smi_tells_memory_and_who_holds_it(tmp_path: Path) -> None:
    fake_nvidia_smi(tmp_path, [Gpu(0), Gpu(1, used_mib=30_000, processes=(Process(4711, "python3", 29_000),))])

    found = smi(tmp_path)

    assert (found.ids, found.source, found.problem) == (("0", "1"), "nvidia-smi", None)
    assert found.device("1") == Device(
        id="1",
        key=Gpu(1).identity,
        name="NVIDIA H100 80GB HBM3",
        uuid=Gpu(1).identity,
        bus_id="00000000:11:00.0",
        total_gib=81559 * MIB,
        free_gib=51559 * MIB,
        holders=(Holder(4711, "python3", 29_000 * MIB),),
    )


def test_cells_that_tell_nothing_are_not_known_and_a_lost_gpu_is_lost(tmp_path: Path) -> None:
    apps = f"--query-compute-apps=gpu_uuid,pid,process_name,used_memory {CSV}"
    answers = {
        f"--query-gpu={FIELDS},mig.mode.current {CSV}": (ANSWERS / "gpus.csv").read_text(),
        apps: (ANSWERS / "apps.csv").read_text(),
    }
    answering_tool(tmp_path, "nvidia-smi", answers)

    found = smi(tmp_path)

    assert [(it.id, it.total_gib, it.free_gib, it.health) for it in found.devices] == [
        ("0", 46068 * MIB, 44457 * MIB, None),
        ("1", None, None, None),
        ("2", 11441 * MIB, 441 * MIB, None),
        ("3", None, None, "GPU is lost"),
    ]
    assert found.devices[3].key == "cuda-3"
    assert [holder for it in found.devices for holder in it.holders] == [
        Holder(40112, "python3", 500 * MIB),
        Holder(40113, "/opt/tools/render, --fast", 310 * MIB),
        Holder(51, None, None),
    ]


def test_a_driver_before_mig_is_asked_without_it(tmp_path: Path) -> None:
    tool = answering_tool(
        tmp_path,
        "nvidia-smi",
        {f"--query-gpu={FIELDS} {CSV}": "0, GPU-1f, Tesla V100, 00000000:05:00.0, 16160, 10, 16150\n"},
        otherwise='Field "mig.mode.current" is not a valid field to query.\n',
    )

    found = smi(tmp_path)

    assert [(it.id, it.total_gib) for it in found.devices] == [("0", 16160 * MIB)]
    assert len(calls(tool)) == 3


def test_mig_instances_are_taken_from_the_list(tmp_path: Path) -> None:
    mig = (MigInstance("MIG-aa", "1g.10gb"), MigInstance("MIG-bb", "2g.20gb"))
    fake_nvidia_smi(tmp_path, [Gpu(0), Gpu(1, mig=mig), Gpu(2, mig=())])

    found = smi(tmp_path)

    assert found.ids == ("0", "MIG-aa", "MIG-bb", "2")
    assert found.device("MIG-bb") == Device(
        id="MIG-bb",
        key="MIG-bb",
        name="NVIDIA H100 80GB HBM3 MIG 2g.20gb",
        uuid="MIG-bb",
        bus_id="00000000:11:00.0",
    )
    assert "no instance" in found.devices[3].health


def test_a_line_beside_the_gpus_is_passed_on(tmp_path: Path) -> None:
    row = "0, GPU-1f, NVIDIA A10, 00000000:05:00.0, 23028, 10, 22500, [N/A]\n"
    answers = {f"--query-gpu={FIELDS},mig.mode.current {CSV}": "WARNING: infoROM is corrupted\n" + row}
    answering_tool(tmp_path, "nvidia-smi", answers)

    found = smi(tmp_path)

    assert found.count == 1
    assert "infoROM is corrupted" in (found.problem or "")


def test_an_answer_that_is_no_table_is_a_failure(tmp_path: Path) -> None:
    answering_tool(tmp_path, "nvidia-smi", {f"--query-gpu={FIELDS},mig.mode.current {CSV}": "segmentation fault\n"})

    with pytest.raises(VendorToolError, match="segmentation fault"):
        smi(tmp_path)


def test_no_nvidia_smi_is_a_missing_tool(tmp_path: Path) -> None:
    with pytest.raises(VendorToolMissingError, match="nvidia-smi is not on PATH"):
        smi(tmp_path)
