"""The accelerators of this machine as they are now: memory, health, and who holds what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omnirt_cli.checks import Check, failed, passed, skipped, warned
from omnirt_cli.devices.device import Device, Holder, Inventory
from omnirt_cli.devices.inventory import discover
from omnirt_cli.devices.leases import LeaseDirectory, LeaseHolder
from omnirt_cli.devices.visibility import VARIABLES, resolve_visibility
from omnirt_cli.doctor.examination import DeviceSight, Section
from omnirt_cli.errors import OmniRTError
from omnirt_cli.models.base import Backend

KINDS = (Backend.ASCEND, Backend.CUDA)


def look_at_devices(environ: Mapping[str, str]) -> tuple[Section, list[DeviceSight]]:
    """Every kind of device; a machine without any is told, and is no fault."""
    inventories = [discover(kind, environ=environ) for kind in KINDS]
    leases = _Leases.look(inventories, environ)
    checks = [check for inventory in inventories for check in _judge(inventory, environ)] + leases.faults
    # A model's own section says whether its devices are well; a machine may have others that nobody uses.
    return Section(title="devices", checks=checks, needed=False), [
        _sight(inventory.kind, device, leases.holders.get(device.key))
        for inventory in inventories
        for device in inventory.devices or ()
    ]


def _judge(inventory: Inventory, environ: Mapping[str, str]) -> list[Check]:
    name = inventory.kind.value
    if inventory.absent:
        return [skipped(name, inventory.problem or "none on this machine")]
    if inventory.devices is None:
        return [warned(name, detail=inventory.problem or "present, but they cannot be counted")]
    sick = [f"{device.id}: {device.health}" for device in inventory.devices if device.health]
    detail = f"{len(inventory.devices)} found by {inventory.source}"
    if sick:
        return [failed(name, detail=f"{detail}; not well: {'; '.join(sick)}", hint="see what the vendor's tool says")]
    told = warned(name, detail=inventory.problem) if inventory.problem else passed(name, detail=detail)
    return [told, *_visibility(inventory, environ)]


def _visibility(inventory: Inventory, environ: Mapping[str, str]) -> list[Check]:
    """What the shell's own variable lets a run see."""
    variable = VARIABLES[inventory.kind]
    if variable not in environ:
        return []
    try:
        visible = resolve_visibility(inventory.kind, None, environ, inventory=inventory)
    except OmniRTError as error:
        return [failed(variable, detail=error.message, hint=error.hint)]
    return [passed(variable, detail=visible.value)]


@dataclass(frozen=True)
class _Leases:
    """Who has which device, by the device's key, and the lease files that no run could take."""

    holders: Mapping[str, str]
    faults: list[Check]

    @classmethod
    def look(cls, inventories: Sequence[Inventory], environ: Mapping[str, str]) -> _Leases:
        try:
            directory = LeaseDirectory.open(environ)
        except OmniRTError:
            return cls({}, [])  # the machine's section tells why
        devices = [device for inventory in inventories for device in inventory.devices or ()]
        seen = {device.key: _holder(directory, device) for device in devices}
        return cls(
            holders={key: found.described for key, found in seen.items() if isinstance(found, LeaseHolder)},
            faults=[found for found in seen.values() if isinstance(found, Check)],
        )


def _holder(directory: LeaseDirectory, device: Device) -> LeaseHolder | Check | None:
    try:
        return directory.holder(device.key)
    except OmniRTError as error:
        return failed("leases", detail=error.message, hint=error.hint)


def _sight(kind: Backend, device: Device, leased_by: str | None) -> DeviceSight:
    return DeviceSight(
        kind=kind.value,
        id=device.id,
        key=device.key,
        name=device.name,
        health=device.health,
        memory_total_gib=device.total_gib,
        memory_free_gib=device.free_gib,
        leased_by=leased_by,
        holders=[_named(holder) for holder in device.holders],
    )


def _named(holder: Holder) -> str:
    name = f" ({holder.name})" if holder.name else ""
    memory = f" {holder.memory_gib:.1f} GiB" if holder.memory_gib is not None else ""
    return f"pid {holder.pid}{name}{memory}"
