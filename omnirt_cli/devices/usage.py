"""Asking the same devices again and again what they hold and do: by NVML, `nvidia-smi` or `npu-smi`.

One look is one call or two. How often to look, and what comes of it, is the asker's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from omnirt_cli.devices.device import Device, DeviceUse
from omnirt_cli.devices.npu_smi import NpuSmi
from omnirt_cli.devices.nvidia import NvidiaSmi, NvmlWatch
from omnirt_cli.devices.vendor_tool import VendorToolMissingError
from omnirt_cli.models.base import Backend

TOOL_TIMEOUT_S = 20.0
"""Of one call of a tool. Nobody waits for it, and on a machine whose processors are busy it takes its time."""

_LIBRARY_EVERY_S = 0.5
_TOOL_EVERY_S = 2.0


class Asked(Protocol):
    """A vendor's tool or library."""

    def use(self) -> Mapping[str, DeviceUse]:
        """What the devices hold and do now, by their keys.

        Raises:
            VendorToolError: It hangs, fails, or prints what is not understood.
        """


@dataclass(frozen=True)
class UseSource:
    """Who tells.

    Attributes:
        name: `nvml`, `nvidia-smi` or `npu-smi`.
        every_s: How often it is worth asking, where its answers are quick.
        close: Lets go of what was opened.
    """

    name: str
    asked: Asked
    every_s: float
    close: Callable[[], None] = lambda: None

    def look(self) -> Mapping[str, DeviceUse]:
        """What the devices hold and do now, by their keys; one of which nothing is told is left out.

        Raises:
            VendorToolHangsError: It does not answer in time. The library may also never return.
            VendorToolError: It fails, or prints what is not understood.
        """
        return self.asked.use()


def open_source(kind: Backend, devices: Sequence[Device], environ: Mapping[str, str]) -> UseSource:
    """Find who tells of these devices; may hang where the driver does.

    Args:
        kind: `ascend` or `cuda`.
        devices: As the inventory names them.
        environ: Where tools are found, and what they run in.

    Raises:
        VendorToolMissingError: There is neither a tool nor a library here.
        VendorToolError: It fails.
    """
    if kind is Backend.ASCEND:
        return UseSource("npu-smi", NpuSmi(environ, TOOL_TIMEOUT_S), _TOOL_EVERY_S)
    if kind is not Backend.CUDA:
        raise VendorToolMissingError(f"no tool tells the use of {kind.value} devices")
    try:
        library = NvmlWatch(devices)
    except VendorToolMissingError:
        return UseSource("nvidia-smi", NvidiaSmi(environ, TOOL_TIMEOUT_S), _TOOL_EVERY_S)
    return UseSource("nvml", library, _LIBRARY_EVERY_S, library.close)
