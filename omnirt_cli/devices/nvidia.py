"""NVIDIA GPUs, as NVML tells them, or `nvidia-smi` where the library cannot be loaded.

NVML is the stable interface; nvidia-smi's own manual does not promise its text. Both list every GPU in PCI order
whatever CUDA_VISIBLE_DEVICES says. A GPU in MIG mode cannot be used as a whole: in its place stand its instances, by
their UUIDs.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from omnirt_cli.bounded import Outcome
from omnirt_cli.devices import vendor_tool
from omnirt_cli.devices.device import Device, DeviceUse, Holder, Inventory
from omnirt_cli.devices.vendor_tool import VendorToolError, VendorToolMissingError
from omnirt_cli.models.base import Backend

TIMEOUT_S = 3.0

_GIB = 1024**3
_MIB_PER_GIB = 1024
_NO_INSTANCE = "MIG mode is on, but there is no instance"


# NVML


def ask_nvml(timeout_s: float = TIMEOUT_S) -> Inventory:
    """What the driver's own library tells.

    It is asked in a thread that is left behind where the driver hangs, for a call into the library has no deadline.

    Raises:
        VendorToolMissingError: There is no such library here.
        VendorToolError: It hangs or fails.
    """
    answers: list[Inventory | Exception] = []
    asking = threading.Thread(target=lambda: answers.append(_caught_nvml()), name="nvml", daemon=True)
    asking.start()
    asking.join(timeout_s)
    if not answers:
        raise VendorToolError(f"NVML did not answer within {timeout_s:g} s")
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


def _caught_nvml() -> Inventory | Exception:
    try:
        return _read_nvml()
    except Exception as error:  # noqa: BLE001  # the thread's edge: the asker raises it
        return error


def _open_nvml() -> Any:
    """The library, ready to be asked.

    Raises:
        VendorToolMissingError: There is none here.
        VendorToolError: It fails.
    """
    try:
        pynvml: Any = import_module("pynvml")
    except ImportError as error:
        raise VendorToolMissingError("nvidia-ml-py is not installed") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound as error:
        raise VendorToolMissingError("the NVML library is not installed") from error
    except pynvml.NVMLError as error:
        raise VendorToolError(f"NVML failed: {error}") from error
    return pynvml


def _read_nvml() -> Inventory:
    pynvml = _open_nvml()
    try:
        return _Nvml(pynvml).inventory()
    except pynvml.NVMLError as error:
        raise VendorToolError(f"NVML failed: {error}") from error
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


class _Nvml:
    """One look through the library. A question that it does not answer is None; a lost GPU is a lost GPU."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def inventory(self) -> Inventory:
        count = self._library.nvmlDeviceGetCount()
        devices = tuple(device for index in range(count) for device in self._at(index))
        return Inventory(Backend.CUDA, devices, "nvml")

    def use(self, handle: Any) -> DeviceUse:
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        rates = self._ask("nvmlDeviceGetUtilizationRates", handle)
        holders = tuple(
            Holder(process.pid, None, None if process.usedGpuMemory is None else process.usedGpuMemory / _GIB)
            for process in self._ask("nvmlDeviceGetComputeRunningProcesses", handle) or ()
        )
        used = (memory.total - memory.free) / _GIB if memory else None
        return DeviceUse(used, float(rates.gpu) if rates else None, holders)

    def handle(self, device: Device) -> Any:
        """The library's own handle of a device or a MIG instance."""
        if device.uuid:
            return self._library.nvmlDeviceGetHandleByUUID(device.uuid)
        return self._library.nvmlDeviceGetHandleByIndex(int(device.id))

    def _at(self, index: int) -> list[Device]:
        """The GPU of that index, or its MIG instances."""
        try:
            handle = self._library.nvmlDeviceGetHandleByIndex(index)
            gpu = self._device(handle, str(index))
            return self._instances(handle, gpu) if self._in_mig_mode(handle) else [gpu]
        except self._library.NVMLError as error:
            return [Device(id=str(index), key=f"cuda-{index}", health=str(error))]

    def _instances(self, handle: Any, gpu: Device) -> list[Device]:
        places = range(self._ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0)
        found = [self._ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, place) for place in places]
        instances = [self._device(it, gpu.id, bus_id=gpu.bus_id) for it in found if it is not None]
        named = [replace(it, id=it.uuid) for it in instances if it.uuid]
        return named or [replace(gpu, health=_NO_INSTANCE)]

    def _in_mig_mode(self, handle: Any) -> bool:
        modes = self._ask("nvmlDeviceGetMigMode", handle)
        return bool(modes) and modes[0] == self._library.NVML_DEVICE_MIG_ENABLE

    def _device(self, handle: Any, index: str, *, bus_id: str | None = None) -> Device:
        uuid = self._ask("nvmlDeviceGetUUID", handle)
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        pci = None if bus_id else self._ask("nvmlDeviceGetPciInfo", handle)
        return Device(
            id=index,
            key=uuid or f"cuda-{index}",
            name=self._ask("nvmlDeviceGetName", handle),
            uuid=uuid,
            bus_id=pci.busId.lower() if pci else bus_id,
            total_gib=memory.total / _GIB if memory else None,
            free_gib=memory.free / _GIB if memory else None,
            holders=tuple(self._holders(handle)),
        )

    def _holders(self, handle: Any) -> Iterator[Holder]:
        for process in self._ask("nvmlDeviceGetComputeRunningProcesses", handle) or ():
            used = process.usedGpuMemory
            name = self._ask("nvmlSystemGetProcessName", process.pid)
            yield Holder(process.pid, name, None if used is None else used / _GIB)

    def _ask(self, question: str, *args: Any) -> Any:
        try:
            return getattr(self._library, question)(*args)
        except self._library.NVMLError_GpuIsLost:
            raise
        except self._library.NVMLError:
            return None


class NvmlWatch:
    """The library kept open for some devices, to be asked again and again. Any of its calls may hang for good.

    Raises:
        VendorToolMissingError: There is no such library here.
        VendorToolError: It fails.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = devices
        self._library = _open_nvml()
        self._problem: Exception | None = None

    def use(self) -> dict[str, DeviceUse]:
        """What the devices hold and do now, by their keys; one that is lost is left out.

        Raises:
            VendorToolError: It tells nothing of any of them.
        """
        found = {device.key: use for device in self._devices if (use := self._use_of(device)) is not None}
        if self._devices and not found:
            raise VendorToolError(f"NVML failed: {self._problem}")
        return found

    def _use_of(self, device: Device) -> DeviceUse | None:
        asked = _Nvml(self._library)
        try:
            return asked.use(asked.handle(device))
        except (self._library.NVMLError, ValueError) as error:
            self._problem = error
            return None

    def close(self) -> None:
        """Leave the library."""
        with contextlib.suppress(self._library.NVMLError):
            self._library.nvmlShutdown()


# nvidia-smi

_USE_FIELDS = ("index", "uuid", "memory.total", "memory.free", "utilization.gpu")
_FIELDS = ("index", "uuid", "name", "pci.bus_id", "memory.total", "memory.used", "memory.free")
_MIG_FIELD = "mig.mode.current"
_FORMAT = "--format=csv,noheader,nounits"
_NO_DEVICES = re.compile(r"^No devices (were )?found", re.MULTILINE)
_LISTED = re.compile(
    r"^GPU (?P<gpu>\d+):|^\s+MIG (?P<profile>\S+)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-[^)\s]+)\)", re.MULTILINE
)


def ask_nvidia_smi(environ: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> Inventory:
    """What `nvidia-smi` tells.

    Raises:
        VendorToolMissingError: It is not on PATH.
        VendorToolError: It hangs or fails.
    """
    return NvidiaSmi(environ, timeout_s).inventory()


class NvidiaSmi:
    """The tool, to be asked again and again.

    Args:
        environ: Where it is found, and what it runs in.
        timeout_s: Of one call.

    Raises:
        VendorToolMissingError: It is not on PATH.
    """

    def __init__(self, environ: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> None:
        self._tool = vendor_tool.find("nvidia-smi", environ)
        self._environ = environ
        self._timeout_s = timeout_s

    def use(self) -> dict[str, DeviceUse]:
        """What the GPUs hold and do now, by their keys; it does not tell what a MIG instance does.

        Raises:
            VendorToolError: It hangs or fails.
        """
        outcome = self._ask(_query("gpu", _USE_FIELDS), _FORMAT)
        rows, _ = _rows(vendor_tool.text(outcome), _USE_FIELDS)
        if not outcome.ok or not rows:
            raise vendor_tool.failure(self._tool, ["--query-gpu"], outcome)
        holders = self._holders()
        return {key: _use(row, holders.get(key, ())) for row in rows if (key := _key(row))}

    def inventory(self) -> Inventory:
        """All GPUs.

        Raises:
            VendorToolError: It hangs or fails.
        """
        rows, problem = self._gpus()
        gpus = [_gpu(row) for row in rows]
        if gpus:
            holders = self._holders()
            gpus = [replace(gpu, holders=tuple(holders.get(gpu.key, ()))) for gpu in gpus]
        in_mig_mode = {row["index"] for row in rows if row.get(_MIG_FIELD) == "Enabled"}
        devices = self._with_instances(gpus, in_mig_mode) if in_mig_mode else gpus
        return Inventory(Backend.CUDA, tuple(devices), "nvidia-smi", problem)

    def _gpus(self) -> tuple[list[dict[str, str]], str | None]:
        """A row a GPU, and what was said besides. Drivers before MIG do not know its field."""
        fields: tuple[str, ...] = (*_FIELDS, _MIG_FIELD)
        outcome = self._ask(_query("gpu", fields), _FORMAT)
        if "not a valid field" in vendor_tool.text(outcome):
            fields = _FIELDS
            outcome = self._ask(_query("gpu", fields), _FORMAT)
        said = vendor_tool.text(outcome)
        if _NO_DEVICES.search(said):
            return [], None
        rows, others = _rows(said, fields)
        if not outcome.ok or not rows:
            raise vendor_tool.failure(self._tool, ["--query-gpu"], outcome)
        return rows, f"nvidia-smi also said: {others[-1]}" if others else None

    def _holders(self) -> dict[str, list[Holder]]:
        """Who holds memory, by the GPU's UUID; nobody is known where the tool does not tell."""
        try:
            outcome = self._ask(_query("compute-apps", ("gpu_uuid", "pid", "process_name", "used_memory")), _FORMAT)
        except VendorToolError:
            return {}
        found: dict[str, list[Holder]] = {}
        for line in vendor_tool.text(outcome).splitlines():
            uuid, holder = _holder(line)
            if holder is not None:
                found.setdefault(uuid, []).append(holder)
        return found

    def _with_instances(self, gpus: list[Device], in_mig_mode: set[str]) -> list[Device]:
        listed = _instances(vendor_tool.text(self._ask("-L")))
        devices = []
        for gpu in gpus:
            if gpu.id not in in_mig_mode:
                devices.append(gpu)
                continue
            instances = listed.get(gpu.id, ())
            devices += [_instance(gpu, profile, uuid) for profile, uuid in instances]
            if not instances:
                devices.append(replace(gpu, health=_NO_INSTANCE))
        return devices

    def _ask(self, *args: str) -> Outcome:
        return vendor_tool.ask(self._tool, *args, environ=self._environ, timeout_s=self._timeout_s)


def _query(what: str, fields: tuple[str, ...]) -> str:
    return f"--query-{what}={','.join(fields)}"


def _rows(said: str, fields: tuple[str, ...]) -> tuple[list[dict[str, str]], list[str]]:
    """The lines that are GPUs, and those that are not."""
    rows, others = [], []
    for line in said.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(fields) and cells[0].isdecimal():
            rows.append(dict(zip(fields, cells, strict=True)))
        elif line.strip():
            others.append(line.strip())
    return rows, others


def _uuid(row: dict[str, str]) -> str | None:
    return row["uuid"] if row["uuid"].startswith("GPU-") else None


def _key(row: dict[str, str]) -> str:
    return _uuid(row) or f"cuda-{row['index']}"


def _use(row: dict[str, str], holders: Sequence[Holder]) -> DeviceUse:
    total, free = _gib(row["memory.total"]), _gib(row["memory.free"])
    used = None if total is None or free is None else total - free
    busy = row["utilization.gpu"]
    return DeviceUse(used, float(busy) if busy.isdecimal() and busy.isascii() else None, tuple(holders))


def _gpu(row: dict[str, str]) -> Device:
    total, used, free = (_gib(row[f"memory.{what}"]) for what in ("total", "used", "free"))
    if free is None and total is not None and used is not None:
        free = max(0.0, total - used)
    lost = next((cell.strip("[]") for cell in row.values() if "lost" in cell.lower()), None)
    return Device(
        id=row["index"],
        key=_key(row),
        name=_told(row["name"]),
        uuid=_uuid(row),
        bus_id=(_told(row["pci.bus_id"]) or "").lower() or None,
        total_gib=total,
        free_gib=free,
        health=lost,
    )


def _instance(gpu: Device, profile: str, uuid: str) -> Device:
    """A MIG instance; nvidia-smi tells its memory only in a drawing."""
    name = f"{gpu.name} MIG {profile}" if gpu.name else f"MIG {profile}"
    return Device(id=uuid, key=uuid, name=name, uuid=uuid, bus_id=gpu.bus_id, health=gpu.health)


def _instances(listing: str) -> dict[str, list[tuple[str, str]]]:
    """Profile and UUID of each MIG instance, by the index of its GPU."""
    found: dict[str, list[tuple[str, str]]] = {}
    gpu = ""
    for line in _LISTED.finditer(listing):
        if line["gpu"] is not None:
            gpu = line["gpu"]
        else:
            found.setdefault(gpu, []).append((line["profile"], line["uuid"]))
    return found


def _holder(line: str) -> tuple[str, Holder | None]:
    """A process, from `uuid, pid, name, MiB`; the name may hold commas, for nothing is quoted."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) < 4 or not cells[1].isdecimal():
        return "", None
    return cells[0], Holder(int(cells[1]), _told(", ".join(cells[2:-1])), _gib(cells[-1]))


def _told(cell: str) -> str | None:
    """A cell's text; None for `[N/A]`, `[Not Supported]`, `[Unknown Error]`, `ERR!` and the like."""
    return None if not cell or cell.startswith("[") or cell in ("N/A", "ERR!") else cell


def _gib(cell: str) -> float | None:
    return int(cell) / _MIB_PER_GIB if cell.isdecimal() and cell.isascii() else None
