"""Ascend NPUs, as `npu-smi` tells them: what it is asked, and what its answers mean as devices.

A device is called by its chip *logic* id, which is what ASCEND_RT_VISIBLE_DEVICES takes and only `npu-smi info -m`
tells; the NPU ids of the table may start at 5 or leave gaps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from omnirt_cli.devices import vendor_tool
from omnirt_cli.devices.device import Device, DeviceUse, Inventory
from omnirt_cli.devices.npu_table import Chip, Table, read_mapping, read_table
from omnirt_cli.devices.vendor_tool import VendorToolError
from omnirt_cli.models.base import Backend

TIMEOUT_S = 8.0
"""Of one call. A driver that nobody keeps awake takes a second or two for eight chips."""

USUAL_PLACES = ("/usr/local/sbin", "/usr/local/bin")
"""Where the driver's installer puts it; cron's PATH has neither."""

_MIB_PER_GIB = 1024
_WELL = "OK"


def ask_npu_smi(environ: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> Inventory:
    """What `npu-smi` tells.

    Raises:
        VendorToolMissingError: It is neither on PATH nor in its usual places.
        VendorToolError: It hangs, fails, or prints what is not understood.
    """
    return NpuSmi(environ, timeout_s).inventory()


class NpuSmi:
    """The tool, to be asked again and again.

    Args:
        environ: Where it is found, and what it runs in.
        timeout_s: Of one call.

    Raises:
        VendorToolMissingError: It is neither on PATH nor in its usual places.
    """

    def __init__(self, environ: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> None:
        self._tool = vendor_tool.find("npu-smi", environ, USUAL_PLACES)
        self._environ = environ
        self._timeout_s = timeout_s

    def use(self) -> dict[str, DeviceUse]:
        """What the chips hold and do now, by their devices' keys, in one call.

        A chip whose bus id the table does not show is left out: its key needs the second call.

        Raises:
            VendorToolError: It hangs, fails, or prints what is not understood.
        """
        chips = self._table().chips
        return {key: _use(chip) for chip, key in zip(chips, _keys(chips), strict=True) if key is not None}

    def inventory(self) -> Inventory:
        """All chips as devices.

        Raises:
            VendorToolError: It hangs, fails, or prints what is not understood.
        """
        table = self._table()
        problem = f"npu-smi printed a row that is not understood: {table.unread[0]}" if table.unread else None
        ids: Sequence[int] = range(len(table.chips))
        if table.chips:
            try:
                ids = self._logic_ids(table.chips)
            except VendorToolError as error:
                problem = f"the device numbers are counted in the order of npu-smi's table, because {error}"
        devices = sorted(_devices(table.chips, ids), key=lambda device: int(device.id))
        return Inventory(Backend.ASCEND, tuple(devices), "npu-smi", problem)

    def _table(self) -> Table:
        outcome = vendor_tool.ask(self._tool, "info", environ=self._environ, timeout_s=self._timeout_s)
        table = read_table(vendor_tool.text(outcome))
        if not outcome.ok:
            raise vendor_tool.failure(self._tool, ["info"], outcome)
        if not table.understood:
            told = table.unread[0] if table.unread else vendor_tool.words(outcome)
            raise VendorToolError(f"npu-smi info printed no table that is understood: {told}")
        return table

    def _logic_ids(self, chips: Sequence[Chip]) -> list[int]:
        outcome = vendor_tool.ask(self._tool, "info", "-m", environ=self._environ, timeout_s=self._timeout_s)
        if not outcome.ok:
            raise vendor_tool.failure(self._tool, ["info", "-m"], outcome)
        mapping = read_mapping(vendor_tool.text(outcome))
        ids = [mapping[chip.npu, chip.chip] for chip in chips if (chip.npu, chip.chip) in mapping]
        if len(set(ids)) < len(chips):
            raise VendorToolError("npu-smi info -m does not give each chip a logic id of its own")
        return ids


def _devices(chips: Sequence[Chip], ids: Sequence[int]) -> list[Device]:
    keys = _keys(chips)
    return [_device(number, chip, key) for number, chip, key in zip(ids, chips, keys, strict=True)]


def _device(number: int, chip: Chip, key: str | None) -> Device:
    total, used = chip.total_mib, chip.used_mib
    return Device(
        id=str(number),
        key=key or f"{Backend.ASCEND.value}-{number}",
        name=chip.name,
        bus_id=chip.bus_id,
        total_gib=None if total is None else total / _MIB_PER_GIB,
        free_gib=None if total is None or used is None else (total - used) / _MIB_PER_GIB,
        health=None if chip.health == _WELL else chip.health or None,
        holders=chip.holders,
    )


def _use(chip: Chip) -> DeviceUse:
    used = None if chip.used_mib is None else chip.used_mib / _MIB_PER_GIB
    return DeviceUse(used, chip.core_percent, chip.holders)


def _keys(chips: Sequence[Chip]) -> list[str | None]:
    """By the bus, which no restart and no container renumbers; None where the table does not show it."""
    shared = Counter(chip.bus_id for chip in chips)
    return [_key(chip, alone=shared[chip.bus_id] == 1) if chip.bus_id else None for chip in chips]


def _key(chip: Chip, *, alone: bool) -> str:
    """The 310P's two chips share a bus id."""
    key = f"{Backend.ASCEND.value}-{chip.bus_id}"
    return key if alone else f"{key}-{chip.chip}"
