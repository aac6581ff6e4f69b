"""The hot executor: a render by a worker that keeps its model loaded, found or started through the user's daemon.

It decides which worker a plan can use, takes devices for a new one, and hands both to the daemon. What the worker
prints is watched like the output of a launch of one's own (`watch`), so that times, progress and faults are told the
same way.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omnirt_cli.checks import failed, passed, warned
from omnirt_cli.devices.device import Device
from omnirt_cli.devices.leases import Stop, WaitCancelledError, pause
from omnirt_cli.draft import Draft
from omnirt_cli.errors import BusyError, CancelledRunError, InputMissingError, ModelFailedError, OmniRTError
from omnirt_cli.files import current_umask
from omnirt_cli.models.base import MarkKind
from omnirt_cli.placement import Foresight, Placement, Seat, apply_foresight, could_have, foresee, judge_memory, place
from omnirt_cli.plan import Plan
from omnirt_cli.preflight import CheckName
from omnirt_cli.report import RunReport
from omnirt_cli.resident.client import Connection
from omnirt_cli.resident.hot_request import HotRequest
from omnirt_cli.resident.spec import (
    DEFAULT_IDLE_TIMEOUT_S,
    FailureReason,
    HotFacts,
    WorkerInfo,
    WorkerKey,
    WorkerSpec,
    WorkerState,
)
from omnirt_cli.run.cancel import CancelToken, Interrupted
from omnirt_cli.run.child_environment import child_environment
from omnirt_cli.run.failure import Failure
from omnirt_cli.run.timings import TimingBuilder
from omnirt_cli.run.watch import ChildOutcome

GIB = 1 << 30
if TYPE_CHECKING:
    from omnirt_cli.checkout import CheckoutFacts

POLL_S = 0.5
"""Between two looks at devices that others have."""

EVICT_BOUND_S = 60.0
"""How long an idle worker may take to go."""

_NO_CODE = frozenset({"models", "weights", "venv", "env", "site-packages", "node_modules", "outputs", "__pycache__"})
"""Folders of a checkout that are not looked through for its code."""

_USABLE = (WorkerState.READY, WorkerState.BUSY, WorkerState.LOADING)
"""States of a worker that a request can be given to, the best first."""


@dataclass(frozen=True)
class WorkerSeat(Seat):
    """Where a hot render takes place; its devices are the worker's, or those that a new one will get.

    Attributes:
        connection: To the daemon, for this one render.
        worker: None where one has to be started.
    """

    connection: Connection = field(kw_only=True)
    worker: WorkerInfo | None = None

    def __enter__(self) -> WorkerSeat:
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.connection.close()


# --- which worker ---------------------------------------------------------------------------------


def worker_key(plan: Plan) -> WorkerKey:
    """What a worker must be to render this plan."""
    call = plan.call
    assert call.worker is not None, "a resident plan asks a worker"
    return WorkerKey(
        model=plan.adapter.info.id,
        checkout=str(plan.checkout.path),
        revision=plan.checkout.revision,
        devices_kind=plan.backend.value,
        processes=plan.launch.processes,
        ckpt_dir=str(plan.ckpt_dir),
        wav2vec_dir=str(plan.wav2vec_dir),
        width=plan.geometry.width,
        height=plan.geometry.height,
        frame_num=plan.geometry.frame_num,
        motion_frames_num=plan.geometry.motion_frames_num,
        fps=plan.geometry.fps,
        quantization=call.worker.quantization,
        cpu_offload=call.worker.cpu_offload,
        model_type=call.worker.model_type,
        settled=_settled(plan),
    )


def _settled(plan: Plan) -> str:
    """A digest of what a worker reads only once and no request can change."""
    script = plan.env_script
    facts = {
        "launcher": plan.launch.launcher.value,
        "python": str(plan.launch.python),
        "program": [str(plan.call.script), *plan.call.args],
        "env": dict(sorted({**plan.call.env, **plan.user_env}.items())),
        "env_script": [str(script), script.stat().st_mtime_ns] if script else None,
        "files": {name: base64.b64encode(content).decode() for name, content in sorted(plan.call.files.items())},
        "code": _code_of(plan.checkout),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _code_of(checkout: CheckoutFacts) -> list[tuple[str, int, int]] | None:
    """Which code a checkout has, by its files' sizes and times; None where its revision says so."""
    if checkout.revision is not None and not checkout.dirty:
        return None
    return sorted(_sources(checkout.path))


def _sources(root: Path) -> Iterator[tuple[str, int, int]]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _NO_CODE]
        for name in names:
            if name.endswith(".py"):
                facts = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 - thousands of files
                yield os.path.relpath(os.path.join(folder, name), root), facts.st_size, facts.st_mtime_ns  # noqa: PTH118


def find_worker(plan: Plan, workers: tuple[WorkerInfo, ...]) -> WorkerInfo | None:
    """The worker that would come to this plan first; None where none can render it."""
    key = worker_key(plan)
    fitting = [worker for worker in workers if worker.key == key and worker.state in _USABLE and _fits(plan, worker)]
    return min(fitting, key=lambda worker: (_USABLE.index(worker.state), worker.queue), default=None)


def _fits(plan: Plan, worker: WorkerInfo) -> bool:
    """Whether the worker's devices are those that the plan names, or some that it may take."""
    if plan.devices is None:
        return True
    allowed = {device.id for device in plan.devices.candidates}
    theirs = set(worker.device_ids)
    return theirs == allowed if plan.devices.chosen_by_user else theirs <= allowed


def in_the_way(plan: Plan, workers: tuple[WorkerInfo, ...], environ: Mapping[str, str]) -> tuple[WorkerInfo, ...]:
    """Idle workers whose end would give the plan its devices; none where that would not suffice.

    Those that were idle for the longest time are given up first.
    """
    own_kind = [worker for worker in workers if worker.key.devices_kind == plan.backend.value]
    idle = sorted((worker for worker in own_kind if worker.idle), key=lambda worker: -(worker.idle_s or 0.0))
    if plan.devices is None:  # devices that cannot be told apart are had all or not at all
        return tuple(idle) if len(idle) == len(own_kind) else ()
    for count in range(1, len(idle) + 1):
        given_up = {device_id for worker in idle[:count] for device_id in worker.device_ids}
        devices = {device.id for device in could_have(plan, environ, given_up)}
        if devices:
            return tuple(worker for worker in idle[:count] if devices & set(worker.device_ids))
    return ()


# --- devices and workers, taken -------------------------------------------------------------------


def take_seat(plan: Plan, *, environ: Mapping[str, str], cancel: Stop, on_wait: Callable[[str], None]) -> WorkerSeat:
    """Find a worker for the plan, or devices for a new one; idle workers in the way are stopped.

    Raises:
        BusyError: Others have the devices.
        DevicesUnavailableError: There are not enough.
        WaitCancelledError: `cancel` was asked.
        OmniRTError: There is no daemon, and none could be started.
    """
    connection = Connection.open(environ)
    try:
        return look_for_seat(plan, connection, environ=environ, cancel=cancel, on_wait=on_wait)
    except BaseException:  # an interrupt included: leave no connection behind
        connection.close()
        raise


def look_for_seat(
    plan: Plan, connection: Connection, *, environ: Mapping[str, str], cancel: Stop, on_wait: Callable[[str], None]
) -> WorkerSeat:
    """As `take_seat`, by a connection that is there."""
    give_up = time.monotonic() + plan.wait_s
    told: str | None = None
    while True:
        workers = connection.workers()
        worker = find_worker(plan, workers)
        if worker is not None:
            return WorkerSeat(Placement(_devices_of(plan, worker)), loaded=True, connection=connection, worker=worker)
        try:
            placement = place(replace(plan, wait_s=0.0), environ=environ, cancel=cancel, on_wait=on_wait)
            return _claimed(plan, connection, placement)
        except BusyError as busy:
            if _evict(plan, connection, workers, environ):
                continue
            # Whoever has the devices may be about to start the very worker that this plan needs.
            coming = worker_key(plan) in connection.coming()
            if not coming and time.monotonic() >= give_up:
                raise
            if busy.message != told:
                told = busy.message
                on_wait(busy.message)
        pause(POLL_S, cancel)


def _claimed(plan: Plan, connection: Connection, placement: Placement) -> WorkerSeat:
    """A seat on devices that were just taken; others of the same key hear of it."""
    try:
        connection.claim(worker_key(plan))
    except BaseException:  # an interrupt included: leave no lease behind
        placement.close()
        raise
    return WorkerSeat(placement, connection=connection)


def _evict(plan: Plan, connection: Connection, workers: tuple[WorkerInfo, ...], environ: Mapping[str, str]) -> bool:
    """Stop idle workers where the plan can have its devices then; whether that is worth another look."""
    idle = in_the_way(plan, workers, environ)
    if not idle:
        return False
    with contextlib.suppress(BusyError, InputMissingError):  # one has got work meanwhile, or is gone
        connection.evict([worker.id for worker in idle], EVICT_BOUND_S)
    return True


def _devices_of(plan: Plan, worker: WorkerInfo) -> tuple[Device, ...]:
    known = {device.id: device for device in plan.devices.candidates} if plan.devices else {}
    return tuple(known.get(name, Device(name, name)) for name in worker.device_ids)


def start_worker(plan: Plan, seat: WorkerSeat, env: Mapping[str, str]) -> WorkerInfo:
    """Have the daemon start a worker on the seat's devices; it holds their leases from then on.

    Raises:
        OmniRTError: The daemon could not.
    """
    lease = seat.placement.lease
    return seat.connection.start_worker(worker_spec(plan, env), lease.fds if lease else ())


def start_for(plan: Plan, *, environ: Mapping[str, str], cancel: CancelToken) -> WorkerInfo:
    """The worker that could render the plan: one that is there, else one that is started now, and still loads.

    Raises:
        OmniRTError: It cannot be had, for want of devices or memory, or because its env script fails; or `cancel` was
            asked.
    """
    try:
        with take_seat(plan, environ=environ, cancel=cancel, on_wait=_nobody_waits) as seat:
            return seat.worker or _start_in(plan, seat, environ, cancel)
    except (WaitCancelledError, Interrupted) as error:
        number = cancel.signal_number or signal.SIGINT
        name = signal.Signals(number).name
        raise CancelledRunError(f"cancelled by {name}; no worker was started", signal_number=number) from error


def _start_in(plan: Plan, seat: WorkerSeat, environ: Mapping[str, str], cancel: CancelToken) -> WorkerInfo:
    bound = plan.bind(seat.placement.devices)
    error = judge_memory(bound, seat.placement.devices, environ).error
    if error is not None:
        raise error
    return start_worker(bound, seat, child_environment(bound, cancel).env)


def _nobody_waits(_who: str) -> None:
    """Who starts a worker beforehand is told of a wait by its end."""


def worker_spec(plan: Plan, env: Mapping[str, str]) -> WorkerSpec:
    """How the plan's worker is started; its devices are in `env` and in the plan's visibility."""
    geometry, info = plan.geometry, plan.adapter.info
    read = {name: (plan.checkout.path / name).read_bytes() for name in plan.checkout.relative_files}
    idle = plan.limits.idle_timeout_s
    return WorkerSpec(
        key=worker_key(plan),
        device_ids=plan.visibility.ids or (),
        argv=plan.argv,
        env=dict(env),
        files={**read, **plan.call.files},
        title=f"{info.key} {geometry.width}x{geometry.height}",
        idle_timeout_s=DEFAULT_IDLE_TIMEOUT_S if idle is None else idle,
        grace_s=plan.limits.grace_s,
        umask=current_umask(),
        unfit=tuple(
            rule.needle.decode() for rule in plan.adapter.log_rules(plan.variant) if rule.kind is MarkKind.FELL_BACK
        ),
    )


def ask(plan: Plan, connection: Connection, worker: WorkerInfo) -> HotRequest:
    """Give the plan's request to a worker; it is queued there behind others."""
    assert plan.call.worker is not None
    return connection.render(worker.id, plan.run_id, plan.call.worker.request)


def note(report: RunReport, timings: TimingBuilder, facts: HotFacts) -> None:
    """Put into the report what the request met at its worker."""
    report.worker_id = facts.worker_id
    report.hot = None if facts.reason is FailureReason.DAEMON_GONE else not facts.was_loading
    report.queue_wait_ms = round((report.queue_wait_ms or 0.0) + facts.queue_wait_ms, 3)
    if facts.reused:
        report.cache_hits.append("prepared_conditions")
    if facts.rss_bytes is not None:
        report.memory["worker_rss_gib"] = round(facts.rss_bytes / GIB, 3)
    timings.waited(queue_ms=facts.queue_wait_ms, load_ms=facts.load_ms)


def explained(outcome: ChildOutcome, facts: HotFacts) -> ChildOutcome:
    """The outcome with what the daemon knows of a failure, where the log does not tell its cause.

    Raises:
        ModelFailedError: The daemon is gone.
    """
    if facts.reason is FailureReason.DAEMON_GONE:
        raise ModelFailedError(
            f"the daemon that owns the workers is gone: {facts.failure}",
            hint="run it again: a new one is started; somebody may have stopped it (omnirt worker stop --all)",
        )
    logged = outcome.failure
    if facts.reason is None or facts.failure is None or (logged is not None and _tells_cause(logged)):
        return outcome
    failure = Failure(
        error=ModelFailedError,
        message=f"worker {facts.worker_id}: {facts.failure}",
        hint=f"see `omnirt worker logs {facts.worker_id}`",
        rank=facts.rank,
        child_exit_code=logged.child_exit_code if logged else None,
        signal=logged.signal if logged else None,
    )
    return replace(outcome, failure=failure)


def _tells_cause(failure: Failure) -> bool:
    return failure.rule is not None or failure.evidence is not None


# --- a look without taking anything ---------------------------------------------------------------


def foresee_draft(draft: Draft, environ: Mapping[str, str]) -> None:
    """Add to a draft what leases, memory and workers say now."""
    if draft.plan is not None:
        apply_foresight(draft, _foresee(draft.plan, environ))


def _foresee(plan: Plan, environ: Mapping[str, str]) -> Foresight:
    if not plan.resident:
        return foresee(plan, environ)
    name = CheckName.LEASES.value
    try:
        workers = _workers_now(environ)
    except OmniRTError as error:
        return Foresight((), (failed(name, detail=error.message, hint=error.hint),), error)
    worker = find_worker(plan, workers)
    if worker is not None:
        told = f"worker {worker.id} has the model ({worker.state.value}, {worker.queue} waiting)"
        return Foresight(_devices_of(plan, worker), (passed(name, detail=told),))
    foresight = foresee(plan, environ)
    idle = in_the_way(plan, workers, environ) if isinstance(foresight.error, BusyError) else ()
    if not idle:
        return foresight
    names = ", ".join(f"{worker.id} ({worker.title})" for worker in idle)
    return Foresight((), (warned(name, detail=f"idle workers would be stopped: {names}"),))


def _workers_now(environ: Mapping[str, str]) -> tuple[WorkerInfo, ...]:
    """The workers of the daemon, where there is one; none is started."""
    connection = Connection.running(environ)
    if connection is None:
        return ()
    with connection:
        return connection.workers()
