"""Which devices a run may see: one source decides, one normalised value reaches the child.

`--visible-devices` if given, else the vendor's own variable, else all. A list that a runtime would read differently
than it looks is refused with the corrected value: CANN silently drops what it cannot read (`1, 2` means device 1
alone) and wants ascending order; CUDA stops at the first entry that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omnirt_cli.devices.device import Device, Inventory
from omnirt_cli.errors import DevicesUnavailableError
from omnirt_cli.models.base import Backend

VARIABLES = {Backend.ASCEND: "ASCEND_RT_VISIBLE_DEVICES", Backend.CUDA: "CUDA_VISIBLE_DEVICES"}

_NUMBER = re.compile(r"[0-9]{1,4}", re.ASCII)
_GPU_UUID = re.compile(r"GPU-[0-9A-Fa-f-]+", re.ASCII)
_MIG_UUID = re.compile(r"MIG-[0-9A-Za-z/-]+", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,4})-([0-9]{1,4})", re.ASCII)

_SHOWN_CHARS = 80
"""How much of a list a message repeats."""


@dataclass(frozen=True)
class Visibility:
    """The devices a run may see.

    Attributes:
        ids: In the order the child sees them, UUIDs in full where they are known; None where nothing limits them.
        source: What decided: the flag, the variable, or `all`.
    """

    kind: Backend
    ids: tuple[str, ...] | None
    source: str

    @property
    def value(self) -> str | None:
        """The variable's normalised value."""
        return ",".join(self.ids) if self.ids is not None else None


def resolve_visibility(
    kind: Backend,
    flag: str | None,
    environ: Mapping[str, str],
    *,
    flag_source: str = "--visible-devices",
    inventory: Inventory | None = None,
) -> Visibility:
    """Decide which devices a run may see.

    Args:
        kind: Which vendor's variable counts.
        flag: What the user named, if anything.
        environ: Where the vendor's variable may be set.
        flag_source: What the flag's value came from, for messages.
        inventory: What is there; without it only the list's form is judged.

    Raises:
        DevicesUnavailableError: A malformed list, a device that is not there, or a flag that names devices which the
            variable hides.
    """
    if kind is Backend.CPU:
        return Visibility(kind, None, "cpu")
    there = inventory or Inventory(kind, None, "nobody asked")
    variable = VARIABLES[kind]
    outer = _List.read(kind, environ[variable], variable, there) if variable in environ else None
    if flag is None:
        return Visibility(kind, outer.ids, variable) if outer else Visibility(kind, None, "all")
    named = _List.read(kind, flag, flag_source, there)
    if outer is not None:
        named.refuse_hidden(outer)
    return Visibility(kind, named.ids, flag_source)


def require_enough(visibility: Visibility, processes: int, inventory: Inventory | None = None) -> None:
    """Each process needs a device of its own.

    Args:
        visibility: What the run may see.
        processes: How many are to be started.
        inventory: What is there; it counts where nothing limits the visible devices.

    Raises:
        DevicesUnavailableError: There are fewer devices than processes.
    """
    there = inventory.count if inventory is not None else None
    count = there if visibility.ids is None else len(visibility.ids)
    if visibility.kind is Backend.CPU or count is None or count >= processes:
        return
    if visibility.ids is None:
        known, wider = f"this machine has {count}", ""
    else:
        known, wider = f"{visibility.source} names {_brief(visibility.value or '')}", f"name {processes} devices, or "
    raise DevicesUnavailableError(
        f"{processes} processes need {processes} devices, but {known}",
        hint=f"{wider}start {count} process{'es' * (count != 1)}",
    )


def parse_ids(kind: Backend, text: str, source: str) -> tuple[str, ...]:
    """A visibility list, refused where a vendor's runtime would read it differently than it looks.

    Raises:
        DevicesUnavailableError: Empty, spaces, duplicates, numbers not ascending, or (CUDA) numbers and UUIDs mixed;
            the hint has the corrected value.
    """
    parts = [part.strip() for part in text.split(",")]
    good = [one for part in parts for one in _spelled_out(part) if _valid(kind, one)]
    said = f"{source}={_brief(text)!r}"
    if not good:
        raise DevicesUnavailableError(
            f"{said} makes no device visible", hint=f"name devices by number, e.g. {source}=0,1"
        )
    if len({bool(_NUMBER.fullmatch(part)) for part in good}) > 1:
        raise DevicesUnavailableError(
            f"{said} is malformed: it mixes numbers and UUIDs, of which CUDA reads one kind",
            hint="name all devices by number, or all by UUID",
        )
    corrected = _corrected(good)
    if text != ",".join(corrected):
        raise DevicesUnavailableError(
            f"{said} is malformed: {_complaint(kind, text, parts)}", hint=f"write {_brief(','.join(corrected))}"
        )
    return tuple(corrected)


@dataclass(frozen=True)
class _List:
    """A well-formed list whose devices are there, as far as the inventory tells."""

    text: str
    source: str
    ids: tuple[str, ...]
    there: Inventory

    @classmethod
    def read(cls, kind: Backend, text: str, source: str, there: Inventory) -> _List:
        ids = parse_ids(kind, text, source)
        if there.certain_ids:
            ids = _full_names(ids, source, there)
        elif there.count is not None and len(ids) > there.count:
            raise DevicesUnavailableError(
                f"{source}={_brief(text)} names {len(ids)} devices, but this machine has {there.count}",
                hint="name those that are there",
            )
        return cls(text, source, ids, there)

    def refuse_hidden(self, outer: _List) -> None:
        """What the outer list hides stays hidden. A number and a UUID may be the same device."""
        visible = {self._identity(device_id) for device_id in outer.ids}
        hidden = [device_id for device_id in self.ids if self._identity(device_id) not in visible]
        if hidden:
            raise DevicesUnavailableError(
                f"{self.source} names {_brief(', '.join(hidden))}, but {outer.source}={_brief(outer.text)} hides it",
                hint=f"choose among {_brief(','.join(outer.ids))}, or unset {outer.source}",
            )

    def _identity(self, device_id: str) -> str:
        device = self.there.device(device_id)
        return device.key if device else device_id


def _full_names(ids: Sequence[str], source: str, there: Inventory) -> tuple[str, ...]:
    """Each id as the inventory has it: UUIDs in full.

    Raises:
        DevicesUnavailableError: One is not there, is ambiguous, or is the same device as another.
    """
    found = {device_id: _matches(device_id, there) for device_id in ids}
    value = ",".join(ids)
    for device_id, devices in found.items():
        if len(devices) > 1:
            names = ", ".join(device.uuid or device.id for device in devices)
            raise DevicesUnavailableError(
                f"{source}={_brief(value)}: {device_id} is the beginning of several UUIDs", hint=f"write one of {names}"
            )
    present = list(dict.fromkeys(_name(device_id, devices[0]) for device_id, devices in found.items() if devices))
    missing = [device_id for device_id, devices in found.items() if not devices]
    if missing:
        raise _not_there(f"{source}={_brief(value)}", missing, present, there)
    if len(present) < len(ids):
        raise DevicesUnavailableError(
            f"{source}={_brief(value)} is malformed: a device is named twice",
            hint=f"write {_brief(','.join(present))}",
        )
    return tuple(present)


def _not_there(said: str, missing: list[str], present: list[str], there: Inventory) -> DevicesUnavailableError:
    ids = _brief(",".join(there.ids or ())) or "none"
    return DevicesUnavailableError(
        f"{said} names {_brief(', '.join(missing))}, which is not among the {there.kind.value} devices here ({ids})",
        hint=f"write {_brief(','.join(present))}" if present else f"choose among {ids}",
    )


def _matches(device_id: str, there: Inventory) -> list[Device]:
    """The devices that an id may mean. CUDA takes the beginning of a GPU's UUID for the whole, but not of a MIG's."""
    exact = there.device(device_id)
    if exact is not None or not _GPU_UUID.fullmatch(device_id):
        return [exact] if exact else []
    return [device for device in there.devices or () if (device.uuid or "").startswith(device_id)]


def _name(device_id: str, device: Device) -> str:
    return device_id if _NUMBER.fullmatch(device_id) else device.uuid or device_id


def _valid(kind: Backend, part: str) -> bool:
    patterns = (_NUMBER, _GPU_UUID, _MIG_UUID) if kind is Backend.CUDA else (_NUMBER,)
    return any(pattern.fullmatch(part) for pattern in patterns)


def _corrected(good: list[str]) -> list[str]:
    """Numbers ascending, so that the same devices are the same value; UUIDs as they stand."""
    if not _NUMBER.fullmatch(good[0]):
        return list(dict.fromkeys(good))
    return [str(number) for number in sorted({int(part) for part in good})]


def _spelled_out(part: str) -> list[str]:
    """The numbers that a range means, else the entry as it is; no runtime reads a range, but people write one."""
    found = _RANGE.fullmatch(part)
    numbers = range(int(found[1]), int(found[2]) + 1) if found else ()
    return [str(number) for number in numbers] or [part]


def _brief(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "\u2026"


def _complaint(kind: Backend, text: str, parts: list[str]) -> str:
    ranges = [part for part in parts if _RANGE.fullmatch(part)]
    if ranges:
        return f"{ranges[0]!r} is a range; devices are named one by one"
    unknown = [part for part in parts if part and not _valid(kind, part)]
    if unknown:
        return f"{_brief(unknown[0])!r} is no device number"
    if any(char.isspace() for char in text) or "" in parts:
        return "spaces and empty entries end the list early"
    if len(set(parts)) < len(parts):
        return "a device is named twice"
    if any(part != str(int(part)) for part in parts if _NUMBER.fullmatch(part)):
        return "a number begins with a zero"
    return "devices must be in ascending order"
