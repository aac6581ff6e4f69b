"""Choosing devices for a run among those it may see; who has which lease and what memory is needed, it is told.

Three ways in which there are too few are kept apart, because a user does something else about each: there are not so
many, other runs of OmniRT have them (waiting helps), or other programs fill them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from omnirt_cli.devices.device import Device, Holder
from omnirt_cli.errors import DevicesUnavailableError
from omnirt_cli.models.base import Backend


@dataclass(frozen=True)
class DeviceRequest:
    """What a run asks for.

    Attributes:
        candidates: The devices it may take.
        count: How many of them.
        chosen_by_user: The user named exactly these.
        certain: A vendor's tool told which devices they are. Otherwise two names may mean one device.
    """

    kind: Backend
    candidates: tuple[Device, ...]
    count: int
    chosen_by_user: bool
    certain: bool = True


@dataclass(frozen=True)
class Choice:
    """What can be taken now.

    Attributes:
        devices: These, in ascending order; empty where too few are free.
        leased: Where too few are free: those that other runs of OmniRT have, and that waiting can bring.
    """

    devices: tuple[Device, ...]
    leased: tuple[Device, ...] = ()


def choose(request: DeviceRequest, free: Callable[[Device], bool], need_gib: float | None = None) -> Choice:
    """Choose devices: those that the user named, else the best of the candidates.

    Of named devices only the leases are asked: their health and memory are the memory check's to judge. Otherwise a
    device must be well and must not be known to lack the memory; then come those whose memory is known, those with
    the fewest programs of others, and neighbours, as near and as evenly aligned as can be: boards, NUMA halves and
    fast links join devices of consecutive numbers.

    Args:
        request: What is asked for.
        free: Whether nobody has the device's lease now.
        need_gib: Memory that each device must have free, GiB; None where that is not known.

    Raises:
        DevicesUnavailableError: Too few, whatever other runs of OmniRT give back.
    """
    if request.chosen_by_user:
        leased = tuple(device for device in request.candidates if not free(device))
        return Choice(() if leased else request.candidates, leased)
    well = [device for device in request.candidates if device.health is None]
    if len(well) < request.count:
        raise _too_few(request, well)
    leased = tuple(device for device in well if not free(device))
    # What a leased device has free says nothing: the run that has it fills it.
    idle = [device for device in well if device not in leased]
    fitting = [device for device in idle if not _lacks(device, need_gib)]
    if len(fitting) >= request.count:
        return Choice(_best(fitting, request, need_gib))
    if len(fitting) + len(leased) >= request.count:
        return Choice((), leased)
    raise _filled([device for device in idle if device not in fitting], request, len(fitting) + len(leased), need_gib)


def _lacks(device: Device, need_gib: float | None) -> bool:
    return need_gib is not None and device.free_gib is not None and device.free_gib < need_gib


def _best(fitting: Sequence[Device], request: DeviceRequest, need_gib: float | None) -> tuple[Device, ...]:
    """`count` of them: those that are better than the last one needed, and of its equals the nearest neighbours."""

    def burden(device: Device) -> tuple[bool, int]:
        return (need_gib is not None and device.free_gib is None, len(device.holders))

    number = _numbers(request.candidates)
    ordered = sorted(fitting, key=lambda device: number[device])
    limit = sorted(burden(device) for device in ordered)[request.count - 1]
    better = [device for device in ordered if burden(device) < limit]
    equal = [device for device in ordered if burden(device) == limit]
    missing = request.count - len(better)
    groups = [
        sorted([*better, *equal[start : start + missing]], key=lambda device: number[device])
        for start in range(len(equal) - missing + 1)
    ]
    return tuple(min(groups, key=lambda group: _remoteness([number[device] for device in group])))


def _remoteness(numbers: Sequence[int]) -> tuple[int, bool, int]:
    """How far apart a group lies; whether it straddles groups of its size; where it begins."""
    return (numbers[-1] - numbers[0], numbers[0] % len(numbers) != 0, numbers[0])


def _numbers(candidates: Sequence[Device]) -> dict[Device, int]:
    """Each device's number; its place in the list where ids are names."""
    if all(device.id.isdecimal() for device in candidates):
        return {device: int(device.id) for device in candidates}
    return {device: place for place, device in enumerate(candidates)}


def _too_few(request: DeviceRequest, well: Sequence[Device]) -> DevicesUnavailableError:
    sick = [f"{device.id} ({device.health})" for device in request.candidates if device.health is not None]
    message = f"{_devices(request.count)} asked for, {len(request.candidates)} to be seen"
    if sick:
        message += f", not well: {', '.join(sick)}"
    hint = f"ask for {len(well)} at most, or make more devices visible" if well else "see what the vendor's tool says"
    return DevicesUnavailableError(message, hint=hint)


def _filled(
    full: Sequence[Device], request: DeviceRequest, had: int, need_gib: float | None
) -> DevicesUnavailableError:
    found = "; ".join(_fullness(device, need_gib) for device in full)
    fewer = f"ask for {had} at most" if had else "choose a mode that needs less memory"
    return DevicesUnavailableError(
        f"{_devices(request.count)} with {need_gib:.1f} GiB free asked for, {had} to be had: {found}",
        hint=f"end what holds them, or {fewer}",
    )


def _fullness(device: Device, need_gib: float | None) -> str:
    if device.total_gib is not None and need_gib is not None and device.total_gib < need_gib:
        return f"device {device.id} has {device.total_gib:.1f} GiB in all"
    total = f" of {device.total_gib:.1f}" if device.total_gib is not None else ""
    holders = ", ".join(_named(holder) for holder in device.holders) or "a program that the vendor's tool does not name"
    return f"device {device.id} has {device.free_gib:.1f}{total} GiB free, held by {holders}"


def _named(holder: Holder) -> str:
    name = f" ({holder.name})" if holder.name else ""
    memory = f" with {holder.memory_gib:.1f} GiB" if holder.memory_gib is not None else ""
    return f"pid {holder.pid}{name}{memory}"


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"
