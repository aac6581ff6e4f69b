"""Whether a run's weights fit its devices: the card's figures against what is free there.

Every process holds all weights, so the device with the least free memory decides; a sum is taken only where a source
gives one for that backend. What somebody measured refuses a run, what was published or reckoned only warns: a claim
must not stop what might work. Pure: devices are given, never looked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from omnirt_cli.devices.device import Device
from omnirt_cli.errors import DevicesUnavailableError
from omnirt_cli.models.base import Backend, Geometry, KnobValue, ModelAdapter
from omnirt_cli.models.card import FigureKind, MemoryRow

GIB = 1 << 30


class BudgetStatus(str, Enum):
    """What a comparison of need and room says."""

    OK = "ok"
    WARN = "warn"
    REFUSE = "refuse"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """One comparison, in words.

    Attributes:
        message: What is needed and what is there.
        hint: What to do about it; None where nothing need be done.
    """

    status: BudgetStatus
    message: str
    hint: str | None = None

    def error(self) -> DevicesUnavailableError:
        """The verdict as the error that a refusal raises."""
        return DevicesUnavailableError(self.message, hint=self.hint)


@dataclass(frozen=True)
class DeviceNeed:
    """What a run needs of its devices.

    Attributes:
        gib: On each device, or over all of them where `aggregate`.
        kind: How far `gib` can be trusted for this very run.
        fails_under_gib: With less free on a device it certainly fails; None where nobody has seen it.
        most_processes: As in the card's row.
    """

    mode: str
    gib: float
    kind: FigureKind
    source: str
    aggregate: bool = False
    fails_under_gib: float | None = None
    most_processes: int | None = None


@dataclass(frozen=True)
class Mode:
    """Another way to run.

    Attributes:
        knobs: What must be set for it, beyond what the run has.
    """

    knobs: Mapping[str, Any]
    need: DeviceNeed


@dataclass(frozen=True)
class ModeChoice:
    """What a preset for little memory comes to.

    Attributes:
        need: Of the chosen mode; None where nothing was known to choose by.
        warning: Why it may not fit; None where it does, or where nobody can tell.
    """

    knobs: Mapping[str, Any] = field(default_factory=dict)
    need: DeviceNeed | None = None
    warning: str | None = None


# --- what is needed -------------------------------------------------------------------------------


def device_need(
    adapter: ModelAdapter, backend: Backend, knobs: Mapping[str, KnobValue], geometry: Geometry, processes: int
) -> DeviceNeed | None:
    """What a run with these settings needs; None where the card says nothing about them."""
    row = adapter.memory_row(backend, knobs)
    return _need(row, geometry, processes) if row else None


def _need(row: MemoryRow, geometry: Geometry, processes: int) -> DeviceNeed:
    each = row.per_device_at(geometry.width, geometry.height, processes)
    figure = each if each is not None else row.aggregate_gib
    assert figure is not None, "the card's own check lets no row through without a figure"
    return DeviceNeed(
        mode=row.mode,
        gib=figure,
        kind=_kind(row, geometry),
        source=row.source,
        aggregate=row.per_device_gib is None,
        fails_under_gib=row.fails_under_gib,
        most_processes=row.most_processes,
    )


def _kind(row: MemoryRow, geometry: Geometry) -> FigureKind:
    """A measurement says nothing certain about a smaller picture than the one it was made with."""
    smaller = row.at_size is not None and geometry.width * geometry.height < row.at_size[0] * row.at_size[1]
    return FigureKind.ESTIMATED if row.kind is FigureKind.MEASURED and smaller else row.kind


# --- whether it fits ------------------------------------------------------------------------------


def judge_devices(
    need: DeviceNeed | None, devices: Sequence[Device], processes: int, *, others: Sequence[Mode] = ()
) -> Verdict:
    """Compare what a run needs with what its devices have.

    Args:
        need: From `device_need`.
        devices: The chosen ones, in the order the child sees them; processes take the first of them, one each.
        processes: How many there will be.
        others: Modes that the checkout could run instead (`settable_modes`), best first; the first that would fit is
            named.

    Returns:
        `refuse` where a measured figure does not fit, or there are fewer devices than processes; `warn` where a
        published or estimated one does not; `unknown` where nothing speaks against it but not all is known.
    """
    if need is None:
        return Verdict(BudgetStatus.UNKNOWN, "nothing is known of the device memory that these settings need")
    if not devices:
        return Verdict(BudgetStatus.UNKNOWN, f"{_needs(need)}; what the devices have free is not known")
    if len(devices) < processes:
        return _too_few(devices, processes)
    used = devices[:processes]
    certain = _certainly_short(need, used)
    if certain or _is_short(need, used):
        status = BudgetStatus.REFUSE if certain else BudgetStatus.WARN
        return Verdict(status, _shortage(need, used), _advice(need, used, others))
    untold = [device.id for device in used if device.free_gib is None]
    if untold:
        message = f"{_needs(need)}; how much device {', '.join(untold)} has free is not known"
        return Verdict(BudgetStatus.UNKNOWN, message)
    return Verdict(BudgetStatus.OK, f"{_needs(need)}; {_there(need, used)}")


def _too_few(devices: Sequence[Device], processes: int) -> Verdict:
    ids = ", ".join(device.id for device in devices)
    message = f"{processes} processes need a device each, but only {len(devices)} can be used ({ids})"
    return Verdict(BudgetStatus.REFUSE, message, f"start at most {len(devices)}: --nproc-per-node {len(devices)}")


def _certainly_short(need: DeviceNeed, used: Sequence[Device]) -> bool:
    if need.kind is FigureKind.MEASURED and _is_short(need, used):
        return True
    floor = need.fails_under_gib
    return floor is not None and any(_most(device) < floor for device in used)


def _is_short(need: DeviceNeed, used: Sequence[Device]) -> bool:
    if need.aggregate:
        return sum(map(_most, used)) < need.gib
    return any(_most(device) < need.gib for device in used)


def _most(device: Device) -> float:
    """The most that can be free on a device: where only its size is known, all of it."""
    if device.free_gib is not None:
        return device.free_gib
    return device.total_gib if device.total_gib is not None else math.inf


# --- other modes ----------------------------------------------------------------------------------


def settable_modes(
    adapter: ModelAdapter,
    backend: Backend,
    knobs: Mapping[str, KnobValue],
    geometry: Geometry,
    processes: int,
    *,
    can_set: Callable[[str], bool],
) -> tuple[Mode, ...]:
    """The modes that a run could have, best first, as far as its checkout and its user allow.

    Args:
        adapter: Of the model.
        backend: Of the run.
        knobs: What the run has now; what agrees with a mode already needs no setting.
        geometry: Of the run's picture.
        processes: As many as it will have; a mode for one process is reckoned with one.
        can_set: Whether a knob may be given a value here: the checkout can be told it, and the user did not say
            otherwise.
    """
    modes: dict[str, Mode] = {}
    for row in adapter.card.memory:
        changes = _changes(row, knobs, can_set)
        if row.backend != backend.value or changes is None:
            continue
        changed = {**knobs, **{name: _with(knobs.get(name), value) for name, value in changes.items()}}
        real = adapter.memory_row(backend, changed)
        if real is not None and real.selectable and real.mode not in modes:
            modes[real.mode] = Mode(changes, _need(real, geometry, processes))
    return tuple(modes.values())


def _changes(row: MemoryRow, knobs: Mapping[str, KnobValue], can_set: Callable[[str], bool]) -> dict[str, Any] | None:
    """The knobs to set for a row; None where one of them cannot be."""
    current = {name: knob.value for name, knob in knobs.items()}
    changes = {name: value for name, value in row.when.items() if current.get(name) != value}
    return changes if all(value is not None and can_set(name) for name, value in changes.items()) else None


def _with(knob: KnobValue | None, value: Any) -> KnobValue:
    return replace(knob, value=value) if knob else KnobValue(value, "mode")


def fitting_mode(
    adapter: ModelAdapter,
    backend: Backend,
    knobs: Mapping[str, KnobValue],
    geometry: Geometry,
    *,
    devices: Sequence[Device],
    processes: int,
    can_set: Callable[[str], bool],
    preset: Mapping[str, Any],
) -> ModeChoice:
    """What a preset for little memory sets: the best mode that fits what is there.

    The preset's own knobs that have nothing to do with modes (a smaller picture) are kept. Those that have are replaced
    by the chosen mode's, which may be none: where the whole model fits, nothing is given up for memory's sake.
    Where free memory is not known, the preset stays as the card has it. Where nothing fits, the mode that needs least
    is taken, with a warning.

    Args:
        adapter: Of the model.
        backend: Of the run.
        knobs: As they would be without the preset.
        geometry: Likewise.
        devices: Those that the run would get; the one with the least free memory decides, for a mode of one process
            too.
        processes: Of the run.
        can_set: As for `settable_modes`.
        preset: The preset's knobs, as far as this checkout has them.
    """
    used = devices[:processes]
    modes = settable_modes(adapter, backend, knobs, geometry, processes, can_set=can_set)
    if not modes or not used or any(device.free_gib is None for device in used):
        return ModeChoice(dict(preset))
    about_memory = {
        name for row in adapter.card.memory if row.backend == backend.value and row.selectable for name in row.when
    }
    rest = {name: value for name, value in preset.items() if name not in about_memory}
    fitting = next((mode for mode in modes if not _is_short(mode.need, used)), None)
    if fitting:
        return ModeChoice({**rest, **fitting.knobs}, fitting.need)
    least = min(modes, key=lambda mode: mode.need.gib)
    warning = f"nothing that the checkout can be told makes it fit: {_shortage(least.need, used)}"
    return ModeChoice({**rest, **least.knobs}, least.need, warning)


# --- in words -------------------------------------------------------------------------------------


def _needs(need: DeviceNeed) -> str:
    where = "over all devices" if need.aggregate else "on each device"
    return f"{need.mode} needs {_gib(need.gib)} {where} ({need.kind.value})"


def _there(need: DeviceNeed, used: Sequence[Device]) -> str:
    if need.aggregate:
        return f"{len(used)} devices have {_room(sum(map(_most, used)))} free together"
    least = min(used, key=_most)
    return f"{_name(least)} has {_have(least)}" + (", the least of them" if len(used) > 1 else "")


def _shortage(need: DeviceNeed, used: Sequence[Device]) -> str:
    held = _holders(used if need.aggregate else [min(used, key=_most)])
    floor = need.fails_under_gib
    known = f"; with less than {floor:g} GiB it is known to fail" if floor and min(map(_most, used)) < floor else ""
    return f"{_needs(need)}, but {_there(need, used)}{held}{known} (source: {need.source})"


def _advice(need: DeviceNeed, used: Sequence[Device], others: Sequence[Mode]) -> str:
    advice = [_other_mode(need, used, others), _roomier(need, used), _wait(used)]
    return "; or ".join(piece for piece in advice if piece) or "use devices with more memory"


def _other_mode(need: DeviceNeed, used: Sequence[Device], others: Sequence[Mode]) -> str | None:
    """The best other mode that fits; one that runs in one process may take the device with the most room."""
    for mode in others:
        alone = mode.need.most_processes == 1
        places = [max(used, key=_most)] if alone else used
        if mode.knobs and mode.need.mode != need.mode and not _is_short(mode.need, places):
            return _offer(mode, f" (one process only, on device {places[0].id})" if alone else "")
    return None


def _offer(mode: Mode, where: str) -> str:
    flags = " ".join(_flag(name, value) for name, value in mode.knobs.items())
    sure = "would fit" if mode.need.kind is FigureKind.MEASURED else f"may fit ({mode.need.kind.value})"
    return f"{flags} needs {_gib(mode.need.gib)} and {sure}{where}"


def _roomier(need: DeviceNeed, used: Sequence[Device]) -> str | None:
    """The devices that do have room, where some have not."""
    roomy = [] if need.aggregate else [device.id for device in used if _most(device) >= need.gib]
    if not roomy:
        return None
    return f"of the {len(used)} devices {len(roomy)} {_has(roomy)} room: {','.join(roomy)}"


def _wait(used: Sequence[Device]) -> str | None:
    return "wait until they are free" if any(device.holders for device in used) else None


def _has(ids: Sequence[str]) -> str:
    return "has" if len(ids) == 1 else "have"


def _holders(devices: Sequence[Device]) -> str:
    """Who holds the memory, the largest first; empty where nobody said."""
    holders = [holder for device in devices for holder in device.holders]
    holders.sort(key=lambda holder: holder.memory_gib or 0, reverse=True)
    told = [
        f"process {holder.pid}"
        + (f" ({holder.name})" if holder.name else "")
        + (f" holds {_gib(holder.memory_gib)}" if holder.memory_gib is not None else " uses it")
        for holder in holders[:2]
    ]
    more = f" and {len(holders) - 2} more" if len(holders) > 2 else ""
    return f"; {', '.join(told)}{more}" if told else ""


def _name(device: Device) -> str:
    return f"device {device.id} ({device.name})" if device.name else f"device {device.id}"


def _have(device: Device) -> str:
    if device.free_gib is None:
        return f"{_room(_most(device))} in all"
    total = f" of {_gib(device.total_gib)}" if device.total_gib is not None else ""
    return f"{_room(device.free_gib)} free{total}"


def _flag(name: str, value: Any) -> str:
    flag = "--" + name.replace("_", "-")
    return flag if value is True else f"{flag} {getattr(value, 'value', value)}"


def _gib(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") + " GiB"


def _room(value: float) -> str:
    """Room is rounded down, so that it never looks like enough when it is not."""
    return _gib(math.floor(value * 10) / 10)
