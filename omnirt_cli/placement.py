"""Where a plan runs: its devices chosen and held, and seen to have the memory that it needs.

`place` takes a lease, and only then is memory looked at: what another run still holds would be counted against this
one. `foresee` is the same look without taking anything, for `omnirt validate`, `--dry-run` and `omnirt doctor`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from omnirt_cli import host_memory, memory_budget
from omnirt_cli.checks import Check, CheckStatus, failed, passed, skipped, warned
from omnirt_cli.devices.device import Device
from omnirt_cli.devices.inventory import discover
from omnirt_cli.devices.leases import (
    KindClaim,
    Lease,
    LeaseDirectory,
    LeaseNote,
    Stop,
    acquire,
    busy,
    describe_holders,
)
from omnirt_cli.devices.selection import Choice, DeviceRequest, choose
from omnirt_cli.draft import Draft
from omnirt_cli.errors import DevicesUnavailableError, OmniRTError, UsageError
from omnirt_cli.host_memory import HostNeed
from omnirt_cli.memory_budget import BudgetStatus, DeviceNeed, Verdict
from omnirt_cli.models.base import MODEL_DEFAULT, Backend, ModelAdapter
from omnirt_cli.plan import Plan
from omnirt_cli.preflight import CheckName

SETTLING_S = 10.0
"""How long the memory of a run that has ended may take to come back; drivers need a second or two."""

_STATUS = {
    BudgetStatus.OK: CheckStatus.PASSED,
    BudgetStatus.WARN: CheckStatus.WARNED,
    BudgetStatus.REFUSE: CheckStatus.FAILED,
    BudgetStatus.UNKNOWN: CheckStatus.SKIPPED,
}


@dataclass(frozen=True)
class Placement:
    """The devices of one run, held until it is closed and its last process is gone.

    Attributes:
        devices: In the order the child sees them; empty on the CPU, and where devices cannot be told apart.
    """

    devices: tuple[Device, ...] = ()
    lease: Lease | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        """Descriptors for the guard to inherit."""
        return self.lease.fds if self.lease else ()

    def close(self) -> None:
        """Let go of the devices; the guard may still hold them."""
        if self.lease is not None:
            self.lease.close()


@dataclass(frozen=True)
class Seat:
    """Where a run takes place.

    Attributes:
        loaded: The model is there already: no memory need be looked for.
    """

    placement: Placement
    loaded: bool = False

    def __enter__(self) -> Seat:
        return self

    def __exit__(self, *_: object) -> None:
        self.placement.close()


def place(plan: Plan, *, environ: Mapping[str, str], cancel: Stop, on_wait: Callable[[str], None]) -> Placement:
    """Choose the plan's devices and take their lease, waiting as long as the plan allows.

    Args:
        plan: What is to run.
        environ: Where `OMNIRT_LOCK_DIR` and the vendor's tools are looked for.
        cancel: Ends the wait.
        on_wait: Called with who has what, when the wait begins and whenever that changes.

    Raises:
        BusyError: Other runs hold them.
        DevicesUnavailableError: There are not enough, whatever other runs give back.
        WaitCancelledError: `cancel` was asked.
    """
    if plan.backend is Backend.CPU:
        return Placement()
    lease, devices = acquire(
        LeaseDirectory.open(environ),
        _Chooser(plan, plan.devices, environ) if plan.devices is not None else None,
        note=LeaseNote(plan.run_id, f"generate {plan.adapter.info.key}"),
        claim=_claim(plan),
        wait_s=plan.wait_s,
        cancel=cancel,
        on_wait=on_wait,
    )
    return Placement(devices, lease)


def _claim(plan: Plan) -> KindClaim:
    """Shared with runs that know their devices, by one that knows its own."""
    known = plan.devices is not None and plan.devices.certain
    return KindClaim(plan.backend.value, exclusive=not known)


class _Chooser:
    """Chooses devices, those with the memory first, with memory as it is now.

    What was free or full before a wait says nothing after it. Where none has the memory, any are taken: whether that
    certainly does not suffice is for `judge_memory` to say, in its own words.
    """

    def __init__(self, plan: Plan, request: DeviceRequest, environ: Mapping[str, str]) -> None:
        need = None if CheckName.DEVICE_MEMORY.value in plan.skipped_checks else device_need(plan)
        self._need_gib = need.gib if need is not None and not need.aggregate else None
        self._request = request
        self._environ = environ
        self._free: frozenset[str] | None = None
        self._changed_at: float | None = None

    def __call__(self, free: Callable[[Device], bool]) -> Choice:
        first = self._note(free)
        settling = self._changed_at is not None and time.monotonic() - self._changed_at < SETTLING_S
        if settling:
            self._request = refreshed(self._request, self._environ)
        choice = self._with_memory(free)
        if choice is None and settling:
            return Choice((), self._request.candidates)
        if choice is None and first:
            # A run that ended a moment ago may not have given its memory back when the plan was made.
            self._request = refreshed(self._request, self._environ)
            choice = self._with_memory(free)
        return choice or choose(self._request, free)

    def _note(self, free: Callable[[Device], bool]) -> bool:
        """See which devices are free, and whether that changed; True at the first look."""
        now = frozenset(device.key for device in self._request.candidates if free(device))
        before, self._free = self._free, now
        if before is not None and now != before:
            self._changed_at = time.monotonic()
        return before is None

    def _with_memory(self, free: Callable[[Device], bool]) -> Choice | None:
        """Devices that have the memory; None where they have not."""
        try:
            return choose(self._request, free, self._need_gib)
        except DevicesUnavailableError:
            return None


def refreshed(request: DeviceRequest, environ: Mapping[str, str]) -> DeviceRequest:
    """The same request, its candidates as they are now."""
    return replace(request, candidates=_as_they_are(request.candidates, request, environ))


def _as_they_are(devices: Sequence[Device], request: DeviceRequest, environ: Mapping[str, str]) -> tuple[Device, ...]:
    now = {device.key: device for device in discover(request.kind, environ=environ).devices or ()}
    return tuple(now.get(device.key, device) for device in devices)


def could_have(plan: Plan, environ: Mapping[str, str], given_up: Collection[str]) -> tuple[Device, ...]:
    """The devices that the plan would get if who has these gave them up; empty where that would not suffice."""
    if plan.devices is None:
        return ()
    directory = LeaseDirectory.open(environ)
    try:
        return choose(plan.devices, lambda device: device.id in given_up or directory.is_free(device)).devices
    except DevicesUnavailableError:
        return ()


@dataclass(frozen=True)
class Foresight:
    """What `place` would come to now.

    Attributes:
        devices: Those that a run would take now; empty where it could take none.
        error: Why it could not start now; None where it could.
    """

    devices: tuple[Device, ...]
    checks: tuple[Check, ...]
    error: OmniRTError | None = None


def foresee(plan: Plan, environ: Mapping[str, str]) -> Foresight:
    """Look at leases and memory as they are now, and take nothing."""
    try:
        devices, leases = _foresee_devices(plan, environ)
    except OmniRTError as error:
        return Foresight((), (failed(CheckName.LEASES.value, detail=error.message, hint=error.hint),), error)
    if leases.status is CheckStatus.WARNED:
        return Foresight((), (leases,))
    memory = judge_memory(plan.bind(devices), devices, environ)
    return Foresight(devices, (leases, *memory.checks), memory.error)


def _foresee_devices(plan: Plan, environ: Mapping[str, str]) -> tuple[tuple[Device, ...], Check]:
    """The devices, or a warning that the run would have to wait.

    Raises:
        BusyError: Other runs hold them, and the plan does not wait.
        DevicesUnavailableError: There are not enough.
    """
    name = CheckName.LEASES.value
    if plan.backend is Backend.CPU:
        return (), skipped(name, "no device is leased on the CPU")
    if plan.devices is None:
        return (), skipped(name, "the devices cannot be told apart: a run would hold all of their kind, or wait")
    directory = LeaseDirectory.open(environ)
    choice = _Chooser(plan, plan.devices, environ)(directory.is_free)
    who = directory.who_rules_out(_claim(plan)) if plan.devices.certain else None
    if choice.devices and who is None:
        return choice.devices, passed(name, detail=f"free: {','.join(device.id for device in choice.devices)}")
    who = who or describe_holders(directory, choice.leased)
    if not plan.wait_s:
        raise busy(who)
    return (), warned(name, detail=f"{who}; the run would wait up to {plan.wait_s:g} s")


def apply_foresight(draft: Draft, foresight: Foresight) -> None:
    """Add what leases and memory say now; the plan is shown on the devices that a run would take."""
    if draft.plan is None:
        return
    draft.checks.add(foresight.checks, foresight.error)
    draft.warnings += device_warnings(draft.plan, foresight.devices)
    draft.plan = draft.plan.bind(foresight.devices)
    draft.visibility, draft.env = draft.plan.visibility, dict(draft.plan.env)


def device_warnings(plan: Plan, devices: Sequence[Device]) -> list[str]:
    """What the model's adapter says of these devices; one a process, for the rest stays idle."""
    names = [device.name for device in devices[: plan.launch.processes] if device.name]
    return plan.adapter.device_warnings(plan.variant, plan.backend, names)


# --- memory ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MemoryFinding:
    """Whether a run fits, on its devices and in the machine's own memory.

    Attributes:
        error: Set where it certainly does not.
    """

    checks: tuple[Check, ...]
    error: OmniRTError | None = None


def judge_memory(plan: Plan, devices: Sequence[Device], environ: Mapping[str, str]) -> MemoryFinding:
    """Compare what the run needs with what its devices and this machine have; the devices are held already."""
    judges: dict[CheckName, Callable[[], Verdict]] = {
        CheckName.DEVICE_MEMORY: lambda: _judge_devices(plan, devices, environ),
        CheckName.HOST_MEMORY: lambda: judge_host(plan),
    }
    verdicts = {name: judge() for name, judge in judges.items() if name.value not in plan.skipped_checks}
    refused = [verdict.error() for verdict in verdicts.values() if verdict.status is BudgetStatus.REFUSE]
    return MemoryFinding(
        checks=tuple(
            as_check(name, verdicts[name]) if name in verdicts else skipped(name.value, "left out by --skip-check")
            for name in judges
        ),
        error=refused[0] if refused else None,
    )


def as_check(name: CheckName, verdict: Verdict) -> Check:
    """A verdict on memory in the form of every other check."""
    return Check(name=name.value, status=_STATUS[verdict.status], detail=verdict.message, hint=verdict.hint)


def _judge_devices(plan: Plan, devices: Sequence[Device], environ: Mapping[str, str]) -> Verdict:
    verdict = judge_devices(plan, devices)
    if verdict.status is not BudgetStatus.REFUSE or plan.devices is None:
        return verdict
    # What the run before held may have been counted still.
    return judge_devices(plan, _as_they_are(devices, plan.devices, environ))


def judge_devices(plan: Plan, devices: Sequence[Device]) -> Verdict:
    """Device memory alone."""
    if plan.checkout.miniature:
        return Verdict(BudgetStatus.UNKNOWN, "a miniature has no weights: it needs no device memory")
    need, processes = device_need(plan), plan.launch.processes
    others = memory_budget.settable_modes(
        plan.adapter, plan.backend, plan.config, plan.geometry, processes, can_set=lambda knob: can_set(plan, knob)
    )
    return memory_budget.judge_devices(need, devices, processes, others=others)


def device_need(plan: Plan) -> DeviceNeed | None:
    """What the plan needs of each device, as far as it is known; a miniature has no weights."""
    if plan.checkout.miniature:
        return None
    return memory_budget.device_need(plan.adapter, plan.backend, plan.config, plan.geometry, plan.launch.processes)


def judge_host(plan: Plan) -> Verdict:
    """The machine's own memory alone."""
    driven = _driven_adapter(plan)
    frames_of = host_memory.frames_of_seconds(plan.adapter, plan.variant, plan.geometry, mode=plan.encode_mode)
    return host_memory.judge_host(
        _host_need(plan, plan.adapter, flat=plan.driven),
        host_memory.available(),
        frames_of=frames_of,
        driven=_host_need(plan, driven, flat=True) if driven else None,
    )


def _host_need(plan: Plan, adapter: ModelAdapter, *, flat: bool) -> HostNeed:
    """What the plan needs of the machine's memory if this adapter's processes run it; a miniature has no weights."""
    need = host_memory.host_need(
        adapter,
        plan.backend,
        plan.config,
        plan.geometry,
        frames=adapter.held_frames(plan.audio.generated_frames, plan.geometry),
        processes=plan.launch.processes,
    )
    need = replace(need, flat=flat)
    return replace(need, loading_gib=0.0, resident_gib=0.0) if plan.checkout.miniature else need


def _driven_adapter(plan: Plan) -> ModelAdapter | None:
    """The adapter with which OmniRT's driver would run the plan; None where it cannot, or does already."""
    if plan.driven:
        return None
    try:
        return plan.adapter.driven(plan.checkout)
    except UsageError:
        return None


def can_set(plan: Plan, knob: str) -> bool:
    """Whether a knob could be given another value here: the checkout can be told it, and the user did not say it."""
    known = plan.config.get(knob)
    said = known is not None and not known.source.startswith((MODEL_DEFAULT, "preset"))
    return not said and plan.adapter.can_set(knob, plan.checkout, plan.variant)
