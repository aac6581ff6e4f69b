"""Which kind of device, which of them this run may see, and how many it asks for."""

from __future__ import annotations

from omnirt_cli.devices.device import Device, Inventory
from omnirt_cli.devices.inventory import discover
from omnirt_cli.devices.selection import DeviceRequest
from omnirt_cli.devices.visibility import Visibility, resolve_visibility
from omnirt_cli.errors import DevicesUnavailableError, OmniRTError, UsageError
from omnirt_cli.inputs import Look
from omnirt_cli.memory_budget import device_need
from omnirt_cli.models.base import Backend, ScriptCall
from omnirt_cli.planner.planning import Planning
from omnirt_cli.preflight import CheckName

AUTO = "auto"


def look_at_devices(planning: Planning) -> Look[Inventory] | None:
    """Decide the backend, and start to look at its devices: a vendor's tool takes its time."""
    draft = planning.draft
    draft.checks.run(CheckName.BACKEND, lambda: _choose_backend(planning))
    backend, seen = draft.backend, draft.inventory
    if backend is None:
        return None
    environ = planning.around.environ
    return Look(lambda: seen or discover(backend, environ=environ))


def _choose_backend(planning: Planning) -> None:
    draft, info = planning.draft, planning.adapter.info
    asked = planning.request.backend or planning.get("backend") or AUTO
    draft.backend = Backend(asked) if asked != AUTO else _detect_backend(planning)
    if draft.backend not in info.backends:
        raise UsageError(f"{info.id} does not run on {draft.backend.value}")


def _detect_backend(planning: Planning) -> Backend:
    for kind in (Backend.ASCEND, Backend.CUDA):
        inventory = discover(kind, environ=planning.around.environ)
        if not inventory.absent:
            planning.draft.inventory = inventory
            return kind
    raise DevicesUnavailableError(
        "no Ascend or CUDA device was found on this machine",
        hint="`--backend cpu` renders with the miniature; `--backend ascend|cuda` names a kind outright",
    )


def see_devices(planning: Planning, look: Look[Inventory]) -> None:
    """Take in what there is, and decide what the run may see."""
    checks = planning.draft.checks
    checks.run(CheckName.DEVICES, lambda: _take_inventory(planning, look))
    checks.run(CheckName.VISIBILITY, lambda: _resolve_visibility(planning))


def _take_inventory(planning: Planning, look: Look[Inventory]) -> None:
    inventory = look.result()
    planning.draft.inventory = inventory
    if inventory.absent:
        kind = inventory.kind.value
        why = f" ({inventory.problem})" if inventory.problem else ""
        raise DevicesUnavailableError(
            f"no {kind} device was found, neither by its tools nor in /dev{why}",
            hint="run where the devices are (in a container: pass them through), or --backend cpu",
        )
    if inventory.problem:
        planning.draft.checks.warn(CheckName.DEVICES, inventory.problem)
        planning.draft.warnings.append(f"devices: {inventory.problem}")


def _resolve_visibility(planning: Planning) -> None:
    draft = planning.draft
    assert draft.backend is not None
    # Where there is none at all, that was told already; the list is still read for its form.
    inventory = None if draft.inventory is None or draft.inventory.absent else draft.inventory
    draft.visibility = resolve_visibility(
        draft.backend,
        planning.get("visible_devices"),
        planning.around.environ,
        flag_source=planning.source_name("visible_devices"),
        inventory=inventory,
    )


def candidates(planning: Planning) -> tuple[Device, ...]:
    """The devices that the run may see, as far as they are known."""
    visibility, inventory = planning.draft.visibility, planning.draft.inventory
    if visibility is None:
        return ()
    if visibility.ids is None:
        return _usable_together(inventory.devices or ()) if inventory else ()
    return tuple(_known_or_named(device_id, inventory, visibility) for device_id in visibility.ids)


def _usable_together(devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """A process sees one MIG instance and nothing beside it: whole GPUs are taken first, else a single instance."""
    whole = tuple(device for device in devices if not _is_instance(device))
    return whole or devices


def _is_instance(device: Device) -> bool:
    return device.id.startswith("MIG-")


def _known_or_named(device_id: str, inventory: Inventory | None, visibility: Visibility) -> Device:
    """A device that the user names is believed where no tool can tell of it."""
    found = inventory.device(device_id) if inventory else None
    return found or Device(device_id, f"{visibility.kind.value}-{device_id}")


def to_be_had(planning: Planning) -> tuple[Device, ...]:
    """The devices that the run could get now: as they were named, else those with the most free memory first."""
    found = candidates(planning)
    return found if named_by_user(planning) else _roomiest_first(_to_choose_from(planning, found))


def _roomiest_first(devices: tuple[Device, ...]) -> tuple[Device, ...]:
    return tuple(sorted(devices, key=lambda device: -(device.free_gib or 0.0)))


def device_count_asked(planning: Planning) -> int | None:
    """The number in `--devices`; None for `auto` and where nobody said."""
    asked = planning.get("devices")
    return int(asked) if asked not in (None, AUTO) else None


def named_by_user(planning: Planning) -> bool:
    """Whether the run takes exactly the devices that were named: by the flag or the vendor's variable."""
    visibility = planning.draft.visibility
    return visibility is not None and visibility.ids is not None and planning.get("devices") is None


def most_devices(planning: Planning) -> int | None:
    """How many devices the run could get now; None where nothing can be told."""
    found = candidates(planning)
    asked = device_count_asked(planning)
    if asked is not None:
        return asked
    if named_by_user(planning):
        return len(found)
    if found and _is_instance(found[0]):
        return 1
    return _with_room(planning, _to_choose_from(planning, found)) or None


def _to_choose_from(planning: Planning, devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """Those that are well and that no other run holds, as far as there are any."""
    well = tuple(device for device in devices if device.health is None) or devices
    return _not_leased(planning, well) or well


def _with_room(planning: Planning, devices: tuple[Device, ...]) -> int:
    """How many of these have the memory for this run together; all of them where none has, or nobody can tell."""
    draft = planning.draft
    if draft.checkout is None or draft.checkout.miniature or draft.geometry is None or draft.backend is None:
        return len(devices)
    roomy = _roomiest_first(devices)
    for count in range(len(roomy), 0, -1):
        need = device_need(planning.adapter, draft.backend, draft.config, draft.geometry, count)
        if need is None or need.aggregate:
            break
        if all(device.free_gib is None or device.free_gib >= need.gib for device in roomy[:count]):
            return count
    return len(devices)


def _not_leased(planning: Planning, devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """What no other run holds; all of them where that cannot be told, for taking the lease will tell."""
    from omnirt_cli.devices.leases import LeaseDirectory

    try:
        leases = LeaseDirectory.open(planning.around.environ)
        return tuple(device for device in devices if leases.holder(device.key) is None)
    except OmniRTError:
        return devices


def request_devices(planning: Planning, processes: int) -> DeviceRequest | None:
    """What the run asks for; None on the CPU and where no device can be told from another.

    Raises:
        DevicesUnavailableError: There are fewer devices than processes, or none can be chosen because none is known.
    """
    draft = planning.draft
    assert draft.backend is not None
    found = candidates(planning)
    if not found and device_count_asked(planning) is not None and draft.backend is not Backend.CPU:
        raise _cannot_choose(planning)
    if draft.backend is Backend.CPU or not found:
        return None
    named = named_by_user(planning)
    count = len(found) if named else (device_count_asked(planning) or processes)
    if count > len(found) or processes > count:
        raise _too_few(processes, max(count, processes), found, named=named)
    if count > 1 and any(map(_is_instance, found)):
        raise DevicesUnavailableError(
            f"{count} devices are asked for, but a process can use one MIG instance only, and nothing beside it",
            hint=f"name one, e.g. --visible-devices {next(device.id for device in found if _is_instance(device))}",
        )
    if count > processes:
        draft.warnings.append(
            f"{count} devices are held, but {processes} {'process uses' if processes == 1 else 'processes use'} only "
            f"{processes} of them"
        )
    return DeviceRequest(
        kind=draft.backend,
        candidates=found,
        count=count,
        chosen_by_user=named,
        certain=draft.inventory is not None and draft.inventory.certain_ids,
    )


def refuse_other_device(planning: Planning, call: ScriptCall) -> None:
    """A step before the script runs on one of the run's own devices: only those are held.

    Raises:
        DevicesUnavailableError: It names another.
    """
    request = planning.draft.devices
    for step in call.earlier:
        ids = {device.id for device in request.candidates} if request else set()
        if step.device is None or request is None or (request.chosen_by_user and step.device in ids):
            continue
        raise DevicesUnavailableError(
            f"the {step.name} step wants device {step.device}, which is not named among the run's own",
            hint=f"name it with the others, e.g. --visible-devices {','.join(sorted({*ids, step.device}, key=_place))}"
            + (f" --nproc-per-node {planning.draft.launch.processes}" if planning.draft.launch else ""),
        )


def _place(device_id: str) -> tuple[int, str]:
    return (int(device_id) if device_id.isdecimal() else 0, device_id)


def _cannot_choose(planning: Planning) -> DevicesUnavailableError:
    inventory = planning.draft.inventory
    why = f": {inventory.problem}" if inventory and inventory.problem else ""
    return DevicesUnavailableError(
        f"--devices {planning.get('devices')}: which devices there are cannot be told{why}",
        hint="name them with --visible-devices",
    )


def _too_few(processes: int, wanted: int, found: tuple[Device, ...], *, named: bool) -> DevicesUnavailableError:
    ids = ",".join(device.id for device in found)
    if processes > len(found):
        return DevicesUnavailableError(
            f"{processes} processes need {processes} devices, but only {len(found)} "
            f"{'may be used' if named else 'can be had'}: {ids}",
            hint=f"name {processes} devices with --visible-devices, or start {len(found)} processes",
        )
    return DevicesUnavailableError(
        f"{wanted} devices are wanted, but only {ids} may be used", hint=f"ask for {len(found)} or fewer"
    )
