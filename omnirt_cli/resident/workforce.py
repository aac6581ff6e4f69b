"""The pool's hands: worker processes, their devices and directories, and the clients that wait for them.

What comes from a worker is told to the pool, and of its request to the client that sent it. No decision is made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Protocol

from launchers.model_env.omnirt_worker.wire import Message
from launchers.process import ExitStatus
from omnirt_cli.devices.leases import Lease, LeaseNote
from omnirt_cli.resident.folders import WorkerFolder, folder_path, log_path
from omnirt_cli.resident.memory import resident_bytes
from omnirt_cli.resident.output import OutputCopy, WorkerOutput
from omnirt_cli.resident.pool import Pool, Worker
from omnirt_cli.resident.process import WorkerProcess
from omnirt_cli.resident.spec import FailureReason, HotFacts, WorkerInfo, WorkerSpec
from omnirt_cli.resident.ticket import Outcome, Ticket

log = logging.getLogger("omnirt.resident")


class Asker(Protocol):
    """Who sent a request.

    Attributes:
        output: Where the worker's output for the request goes.
    """

    output: OutputCopy

    def tell(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Something happened to the request."""

    def ended(self, facts: HotFacts, status: ExitStatus | None) -> None:
        """Its end; everything that it said is in `output` by now."""


@dataclass
class Post:
    """What one worker has for as long as it exists.

    Attributes:
        process: Its present start; None between two.
        said: Its `ready` message.
    """

    folder: WorkerFolder
    output: WorkerOutput
    lease: Lease
    process: WorkerProcess | None = None
    said: Mapping[str, Any] = field(default_factory=dict)


class Workforce:
    """All workers' processes; the `Hands` of its pool."""

    def __init__(self, workers: Path) -> None:
        """For one daemon, in the running loop.

        Args:
            workers: Where the private directories and logs are made.
        """
        self.pool = Pool(self, time.monotonic)
        self._workers = workers
        self._posts: dict[str, Post] = {}
        self._askers: dict[Ticket, Asker] = {}
        self._waiting: list[tuple[set[str], Callable[[], None]]] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def marks(self) -> frozenset[str]:
        """The marks of all workers' processes, which name their directories, too."""
        return frozenset(post.folder.mark for post in self._posts.values())

    # For sessions

    def start_worker(self, spec: WorkerSpec, lease_fds: tuple[int, ...]) -> Worker:
        """Start a worker, or find the one that is there already for the same key on the same devices.

        The descriptors are taken over.

        Raises:
            BusyError: Such workers have crashed too often lately.
            SpecError: A file's name leads out of the private directory.
            OSError: The private directory cannot be made.
        """
        worker_id = uuid.uuid4().hex[:8]
        lease = Lease.adopt(lease_fds, LeaseNote(f"worker {worker_id}", f"resident {spec.title}"))
        with contextlib.ExitStack() as undo:
            undo.callback(lease.close)
            twin = self.pool.twin(spec)
            if twin is not None:
                return twin
            folder = WorkerFolder.create(self._workers, worker_id, spec.files)
            undo.callback(folder.remove)
            output = WorkerOutput(folder.log)
            undo.callback(output.close)
            self._posts[worker_id] = Post(folder, output, lease)
            undo.callback(self._posts.pop, worker_id)
            worker = self.pool.add(worker_id, spec)
            undo.pop_all()
        return worker

    def submit(self, worker_id: str, ticket: Ticket, asker: Asker) -> None:
        """Give a worker that takes requests one more."""
        self._askers[ticket] = asker
        self.pool.submit(worker_id, ticket)

    def pass_on(self, ticket: Ticket, header: Mapping[str, Any], body: bytes) -> None:
        """A client's further message to its request, if the worker is at it."""
        worker = self.pool.find(ticket.worker_id)
        if worker is not None and worker.current is ticket:
            self._send(worker, {**header, "id": ticket.id}, body)

    def when_gone(self, workers: Sequence[Worker], then: Callable[[], None]) -> None:
        """Call once all of these are gone and their devices free."""
        ids = {worker.id for worker in workers}
        if not ids:
            then()
            return
        self._waiting.append((ids, then))

    def info(self, worker: Worker, *, memory: bool = False) -> WorkerInfo:
        """The worker as clients see it.

        Args:
            worker: Which.
            memory: Whether to look at what its processes hold, which takes some milliseconds.
        """
        now = self.pool.now
        post = self._posts.get(worker.id)
        said = post.said if post else {}
        pid = self._pid(worker)
        return WorkerInfo(
            id=worker.id,
            key=worker.spec.key,
            title=worker.spec.title,
            state=worker.state,
            device_ids=worker.spec.device_ids,
            pid=pid,
            queue=len(worker.queue),
            requests_done=worker.requests_done,
            restarts=worker.restarts,
            started_at=_stamp(now - worker.added_at),
            uptime_s=round(now - worker.added_at, 3),
            log=str(log_path(self._workers, worker.id)),
            folder=str(folder_path(self._workers, worker.id)),
            idle_s=None if worker.idle_since is None else round(now - worker.idle_since, 3),
            last_error=worker.last_error,
            rss_bytes=resident_bytes(pid) if memory and pid else None,
            loaded_s=None if worker.loaded_s is None else round(worker.loaded_s, 3),
            request=worker.current.id if worker.current else None,
            device=said.get("device"),
            world_size=said.get("world_size"),
            params=said.get("params") or {},
        )

    # The pool's hands

    def launch(self, worker: Worker) -> None:
        """Start its process."""
        post = self._posts[worker.id]
        life = _Life(self, worker)
        post.process = WorkerProcess(worker.spec, post.folder, post.output, post.lease.fds, life)
        post.process.start()

    def wait_for_load(self, worker: Worker, ticket: Ticket) -> None:
        """Let the client see the loading."""
        asker, post = self._askers[ticket], self._posts[worker.id]
        post.output.attach(asker.output)
        _tell_pid(asker, post)

    def render(self, worker: Worker, ticket: Ticket) -> None:
        """Give its rank 0 the request."""
        asker, post = self._askers[ticket], self._posts[worker.id]
        post.output.attach(asker.output)
        _tell_pid(asker, post)
        self._send(worker, {**ticket.document, "type": "render", "id": ticket.id})

    def cancel(self, worker: Worker, ticket: Ticket) -> None:
        """Ask its rank 0 to leave the request."""
        self._send(worker, {"type": "cancel", "id": ticket.id})

    def shut_down(self, worker: Worker) -> None:
        """Ask its rank 0 to end."""
        self._send(worker, {"type": "shutdown"})

    def terminate(self, worker: Worker) -> None:
        """SIGTERM to its processes, then SIGKILL."""
        process = self._posts[worker.id].process
        if process is not None:
            process.terminate()

    def release(self, worker: Worker) -> None:
        """Give back what it had; who waited for that goes on."""
        self._give_back(worker.id)
        waiting, self._waiting = self._waiting, []
        for ids, then in waiting:
            ids.discard(worker.id)
            if ids:
                self._waiting.append((ids, then))
            else:
                then()

    def ended(self, ticket: Ticket, outcome: Outcome) -> None:
        """Tell the client, once all output for it is in its pipe."""
        asker = self._askers.pop(ticket)
        post = self._posts.get(ticket.worker_id)
        if post is not None:
            post.output.detach(asker.output)
        facts = ticket.facts(outcome, self.pool.now)
        asker.output.finish(lambda: asker.ended(facts, outcome.exit))

    def alarm(self) -> None:
        """Look at the pool's clock again."""
        if self._timer is not None:
            self._timer.cancel()
        due = self.pool.next_due
        self._timer = None if due is None else self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self.pool.tick()
        self.alarm()

    def _pid(self, worker: Worker) -> int:
        post = self._posts.get(worker.id)
        return post.process.pid if post and post.process else 0

    def _send(self, worker: Worker, header: Mapping[str, Any], body: bytes = b"") -> None:
        process = self._posts[worker.id].process
        if process is not None:
            process.send(header, body)

    def _give_back(self, worker_id: str) -> None:
        post = self._posts.pop(worker_id)
        post.output.close()
        post.folder.remove()
        post.lease.close()

    # What workers say

    def launched(self, worker: Worker) -> None:
        """Its process runs."""
        log.info("worker %s (%s): started, pid %d", worker.id, worker.spec.title, self._pid(worker))
        for ticket in tuple(worker.queue):
            _tell_pid(self._askers[ticket], self._posts[worker.id])

    def said(self, worker: Worker, message: Message) -> None:
        """A message of its rank 0."""
        if message.type == "ready":
            self._loaded(worker, message)
            return
        ticket = worker.current
        if ticket is None or message.header.get("id") != ticket.id:
            return
        if message.type in ("done", "failed"):
            outcome = _outcome(message.header, ticket)
            self.pool.finished(worker, ticket.id, outcome, sound=message.header.get("sound", True) is not False)
            return
        self._note(worker, ticket, message)
        if not ticket.abandoned:
            self._askers[ticket].tell(message.header, message.body)

    def _loaded(self, worker: Worker, message: Message) -> None:
        post = self._posts[worker.id]
        gave_up = post.output.loading_line(worker.spec.unfit)
        if gave_up is not None:
            log.warning("worker %s: %s", worker.id, gave_up)
            self.pool.unfit(worker, gave_up)
            return
        post.said = message.header
        post.output.loaded()
        self.pool.ready(worker)
        log.info("worker %s: ready after %.1f s", worker.id, worker.loaded_s or 0.0)

    def _note(self, worker: Worker, ticket: Ticket, message: Message) -> None:
        if message.type == "started":
            self.pool.started(worker, ticket.id)
        elif message.type == "prepared":
            ticket.reused = message.header.get("reused")
            ticket.prepare_ms = message.header.get("ms")
        elif message.type == "chunk":
            ticket.chunks += 1

    def gone(self, worker: Worker, why: str, status: ExitStatus | None) -> None:
        """Nothing is left of its processes."""
        self._posts[worker.id].process = None
        self.pool.gone(worker, why, status)
        log.info("worker %s: gone (%s); now %s", worker.id, why, worker.state.value)


class _Life:
    """Tells the workforce what happens to one worker."""

    def __init__(self, workforce: Workforce, worker: Worker) -> None:
        self._workforce = workforce
        self._worker = worker

    def launched(self) -> None:
        self._workforce.launched(self._worker)

    def said(self, message: Message) -> None:
        self._workforce.said(self._worker, message)

    def silent(self) -> None:
        self._workforce.pool.unreachable(self._worker)

    def gone(self, why: str, status: ExitStatus | None) -> None:
        self._workforce.gone(self._worker, why, status)


def _tell_pid(asker: Asker, post: Post) -> None:
    if post.process is not None and post.process.pid:
        asker.tell({"type": "process", "pid": post.process.pid})


def _outcome(header: Mapping[str, Any], ticket: Ticket) -> Outcome:
    """A worker's `done` or `failed` message."""
    memory = header.get("memory") or {}
    if header["type"] == "done":
        return Outcome(
            chunks=header.get("chunks", ticket.chunks),
            rss_bytes=memory.get("rss_bytes"),
            device_peak_bytes=memory.get("device_peak_bytes"),
        )
    known = {reason.value for reason in FailureReason}
    reason = header.get("reason")
    return Outcome(
        FailureReason(reason) if reason in known else FailureReason.ERROR,
        str(header.get("error") or "the worker said nothing more"),
        rank=header.get("rank"),
        chunks=ticket.chunks,
    )


def _stamp(seconds_ago: float) -> str:
    moment = datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def close_all(descriptors: Sequence[int]) -> None:
    """Let go of descriptors that nobody takes over."""
    for descriptor in descriptors:
        os.close(descriptor)
