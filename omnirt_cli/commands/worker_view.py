"""Resident workers as text for people: a table that fits 80 columns, and one worker in full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from omnirt_cli.commands.runs_view import duration
from omnirt_cli.resident.spec import DaemonInfo, WorkerInfo

_ROW = "{:<8} {:<17} {:<8} {:<8} {:>4} {:>5} {:>7} {:>7}"
_GIB = 1 << 30


def worker_table(workers: Sequence[WorkerInfo]) -> Iterator[str]:
    """The listing, one line a worker."""
    if not workers:
        yield "no workers"
        return
    yield _ROW.format("ID", "MODEL", "DEVICES", "STATE", "DONE", "QUEUE", "UP", "IDLE") + "  MEMORY"
    for worker in workers:
        row = _ROW.format(
            worker.id,
            worker.title[:17],
            _devices(worker)[:8],
            worker.state.value,
            worker.requests_done,
            worker.queue,
            _seconds(worker.uptime_s),
            _seconds(worker.idle_s),
        )
        yield f"{row}  {_gib(worker.rss_bytes)}"


def daemon_summary(daemon: DaemonInfo | None) -> Iterator[str]:
    """Who owns the workers."""
    if daemon is None:
        yield "no daemon is running"
        return
    yield f"daemon     pid {daemon.pid}, OmniRT {daemon.version}"
    yield f"folder     {daemon.folder}"
    yield f"log        {daemon.log}"


def worker_summary(worker: WorkerInfo) -> Iterator[str]:
    """One worker in full."""
    key = worker.key
    yield ""
    yield f"worker     {worker.id}  {worker.title}"
    yield f"state      {worker.state.value}" + (f", at request {worker.request}" if worker.request else "")
    yield f"model      {key.model}" + (f" ({key.model_type})" if key.model_type else "")
    yield f"checkout   {key.checkout}" + (f" at {key.revision}" if key.revision else "")
    yield f"picture    {key.width}x{key.height} (width x height) at {key.fps:g} fps"
    yield f"chunks     {key.frame_num} frames, {key.motion_frames_num} of them shared"
    yield f"on         {_where(worker)}"
    yield f"requests   {worker.requests_done} done, {worker.queue} waiting"
    yield f"up         {_seconds(worker.uptime_s)} since {worker.started_at}; idle {_seconds(worker.idle_s)}"
    yield f"loading    {_seconds(worker.loaded_s)}, {worker.restarts} restarts"
    yield f"memory     {_gib(worker.rss_bytes)}"
    yield f"process    {worker.pid or '-'}"
    yield f"log        {worker.log}"
    if worker.last_error:
        yield f"last error {worker.last_error}"


def _devices(worker: WorkerInfo) -> str:
    return ",".join(worker.device_ids) or worker.key.devices_kind


def _where(worker: WorkerInfo) -> str:
    kind = worker.key.devices_kind
    devices = f"{kind} {','.join(worker.device_ids)}" if worker.device_ids else kind
    return f"{devices}, {worker.key.processes} process{'' if worker.key.processes == 1 else 'es'}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else duration(value * 1000)


def _gib(value: int | None) -> str:
    return "-" if value is None else f"{value / _GIB:.1f} GiB"
