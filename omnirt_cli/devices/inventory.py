"""Which accelerators this machine has, found without torch and without a vendor's library.

Device nodes tell the kind and the count; what cannot be told is None, which is not the same as zero. Names and memory
are not looked at here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from omnirt_cli.models.base import Backend

_NODES = {
    Backend.ASCEND: re.compile(r"davinci[0-9]+"),
    Backend.CUDA: re.compile(r"nvidia[0-9]+"),
}
_MANAGERS = {
    Backend.ASCEND: ("davinci_manager", "davinci_manager_docker"),
    # WSL shows its GPUs through one node, and Tegra through another: present, uncounted.
    Backend.CUDA: ("dxg", "nvhost-gpu", "nvidiactl"),
}


@dataclass(frozen=True)
class Inventory:
    """What is there of one kind.

    Attributes:
        count: Devices found; None where some are there but cannot be counted.
        ids: Numbers from the device nodes, ascending; a container may start at 5.
    """

    kind: Backend
    count: int | None
    ids: tuple[int, ...] = ()

    @property
    def absent(self) -> bool:
        """True where there is certainly none."""
        return self.count == 0


def discover(kind: Backend, *, root: Path = Path("/dev")) -> Inventory:
    """Look for one kind of device.

    Args:
        kind: `ascend` or `cuda`; the CPU is always one device.
        root: Where device nodes lie; tests give their own.
    """
    if kind is Backend.CPU:
        return Inventory(kind, 1, (0,))
    names = _names(root)
    ids = sorted(int(re.sub(r"\D", "", name)) for name in names if _NODES[kind].fullmatch(name))
    if ids:
        return Inventory(kind, len(ids), tuple(ids))
    if any(manager in names for manager in _MANAGERS[kind]):
        return Inventory(kind, None)
    return Inventory(kind, 0)


def _names(root: Path) -> set[str]:
    try:
        return {entry.name for entry in root.iterdir()}
    except OSError:
        return set()
