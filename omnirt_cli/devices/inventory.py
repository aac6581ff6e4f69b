"""Which accelerators this machine has, found without torch.

The vendor's library or tool is asked first. Where there is none, or it hangs or fails, device nodes tell at least how
many there are, and the inventory says why nothing more is known. What cannot be told is None, which is not zero.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from omnirt_cli.devices.device import DEVICE_NODES, Device, Inventory
from omnirt_cli.devices.npu_smi import ask_npu_smi
from omnirt_cli.devices.nvidia import ask_nvidia_smi, ask_nvml
from omnirt_cli.devices.vendor_tool import VendorToolError, VendorToolMissingError
from omnirt_cli.models.base import Backend

_NODES = {
    Backend.ASCEND: re.compile(r"davinci([0-9]+)"),
    Backend.CUDA: re.compile(r"nvidia([0-9]+)"),
}
_MANAGERS = {
    Backend.ASCEND: frozenset({"davinci_manager", "davinci_manager_docker"}),
    # WSL shows its GPUs through one node, and Tegra through another: present, uncounted.
    Backend.CUDA: frozenset({"dxg", "nvhost-gpu", "nvidiactl"}),
}


def discover(kind: Backend, *, environ: Mapping[str, str] | None = None, dev: Path = Path("/dev")) -> Inventory:
    """Look for one kind of device. Never raises for what a vendor's tool does.

    Args:
        kind: `ascend` or `cuda`; the CPU is always one device.
        environ: Where tools are found, and what they run in; this process's environment by default.
        dev: Where device nodes lie.
    """
    if kind is Backend.CPU:
        return Inventory(kind, (Device("0", "cpu-0"),), "cpu")
    try:
        return _ask_vendor(kind, os.environ if environ is None else environ)
    except VendorToolError as error:
        return _count_nodes(kind, dev, error)


def _ask_vendor(kind: Backend, environ: Mapping[str, str]) -> Inventory:
    if kind is Backend.ASCEND:
        return ask_npu_smi(environ)
    try:
        return ask_nvml()
    except VendorToolMissingError:
        return ask_nvidia_smi(environ)


def _count_nodes(kind: Backend, dev: Path, error: VendorToolError) -> Inventory:
    """What the device nodes tell.

    A node's number is the machine's, and the same in every container, so it names the device. What the runtime calls
    it is its place among those that are there: in a container with `davinci5` alone that is device 0.
    """
    names = _names(dev)
    numbers = sorted(int(node[1]) for name in names if (node := _NODES[kind].fullmatch(name)))
    if numbers:
        devices = tuple(Device(str(place), f"{kind.value}-{number}") for place, number in enumerate(numbers))
        return Inventory(kind, devices, DEVICE_NODES, str(error))
    if isinstance(error, VendorToolMissingError) and not names & _MANAGERS[kind]:
        return Inventory(kind, (), DEVICE_NODES)
    return Inventory(kind, None, DEVICE_NODES, str(error))


def _names(dev: Path) -> set[str]:
    try:
        return {entry.name for entry in dev.iterdir()}
    except OSError:
        return set()
