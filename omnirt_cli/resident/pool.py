"""The workers and their queues: which worker does what next, and what follows when one ends.

It starts nothing and reads nothing: what is to be done it asks of its `Hands`, what has happened it is told. It has no
thread and no timer; `tick` is to be called when `next_due` has come. Nothing of any model is known here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from launchers.process import ExitStatus
from omnirt_cli.errors import BusyError, InputMissingError
from omnirt_cli.resident.crashes import MOST_CRASHES, WINDOW_S, CrashHistory
from omnirt_cli.resident.spec import TRANSITIONS, FailureReason, WorkerKey, WorkerSpec, WorkerState
from omnirt_cli.resident.ticket import Outcome, Ticket

FAILED_SHOWN_S = 60.0
"""A failed worker stays in the list for so long."""


class Alarm(Enum):
    """What a worker's clock can ring for."""

    START = "start"
    """The backoff after a crash is over."""
    NOT_READY = "not ready"
    """It has loaded for too long."""
    FORCE = "force"
    """It was asked to end, or to leave a request, and has not."""
    IDLE = "idle"
    FORGET = "forget"


@dataclass(eq=False)
class Worker:
    """One worker of the pool, over all its restarts.

    Attributes:
        running: Whether it has a process, or one is being started.
        was_ready: Whether it ever loaded.
        launched_at: When its process was started last.
        loaded_s: How long it took to load.
        idle_since: None while it is not idle.
        by_force: Why the pool ended its process, where it did.
    """

    id: str
    spec: WorkerSpec
    added_at: float
    state: WorkerState = WorkerState.LOADING
    running: bool = False
    was_ready: bool = False
    current: Ticket | None = None
    queue: deque[Ticket] = field(default_factory=deque)
    requests_done: int = 0
    restarts: int = 0
    launched_at: float = 0.0
    loaded_s: float | None = None
    idle_since: float | None = None
    last_error: str | None = None
    by_force: str | None = None
    alarms: dict[Alarm, float] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[WorkerKey, tuple[str, ...]]:
        """What a worker in its place would share with it."""
        return self.spec.key, self.spec.device_ids

    @property
    def lives(self) -> bool:
        """Whether requests can be sent to it."""
        return self.state not in (WorkerState.FAILED, WorkerState.STOPPING)

    @property
    def idle(self) -> bool:
        """Whether it is ready and nobody waits for it."""
        return self.state is WorkerState.READY and not self.queue

    def move(self, state: WorkerState) -> None:
        """Enter a state.

        Raises:
            ValueError: It does not follow from the present one; a bug.
        """
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"worker {self.id} cannot go from {self.state.value} to {state.value}")
        self.state = state


class Hands(Protocol):
    """What the pool has done. Nothing here waits, and nothing calls the pool back before it has returned."""

    def launch(self, worker: Worker) -> None:
        """Start its process."""

    def wait_for_load(self, worker: Worker, ticket: Ticket) -> None:
        """The request waits for the model: its client may see the loading."""

    def render(self, worker: Worker, ticket: Ticket) -> None:
        """Give the request to the worker."""

    def cancel(self, worker: Worker, ticket: Ticket) -> None:
        """Ask the worker to leave the request."""

    def shut_down(self, worker: Worker) -> None:
        """Ask the worker to end by itself."""

    def terminate(self, worker: Worker) -> None:
        """End its processes: SIGTERM, after the grace SIGKILL; at once where it is asked for again."""

    def release(self, worker: Worker) -> None:
        """Give back its devices and its directory; its processes are gone."""

    def ended(self, ticket: Ticket, outcome: Outcome) -> None:
        """Tell the client."""

    def alarm(self) -> None:
        """`next_due` may have come nearer."""


class Pool:
    """All workers of one daemon."""

    def __init__(self, hands: Hands, clock: Callable[[], float]) -> None:
        self._hands = hands
        self._clock = clock
        self._workers: dict[str, Worker] = {}
        self._crashes = CrashHistory()

    # Looking

    def __iter__(self) -> Iterator[Worker]:
        return iter(tuple(self._workers.values()))

    @property
    def now(self) -> float:
        """The pool's clock."""
        return self._clock()

    def find(self, worker_id: str) -> Worker | None:
        """The worker of that id; None where there is none (any more)."""
        return self._workers.get(worker_id)

    def get(self, worker_id: str) -> Worker:
        """The worker of that id.

        Raises:
            InputMissingError: There is none.
        """
        worker = self._workers.get(worker_id)
        if worker is None:
            raise InputMissingError(
                f"there is no worker {worker_id}", hint="`omnirt worker list` shows those there are"
            )
        return worker

    @property
    def empty(self) -> bool:
        """Whether no worker has a process, or will have one."""
        return all(worker.state is WorkerState.FAILED for worker in self)

    @property
    def next_due(self) -> float | None:
        """When `tick` has something to do, on the pool's clock; None where it has nothing."""
        return min((due for worker in self for due in worker.alarms.values()), default=None)

    # Workers come and go

    def twin(self, spec: WorkerSpec) -> Worker | None:
        """A living worker with the same key on the same devices."""
        return next((w for w in self if w.lives and w.identity == (spec.key, spec.device_ids)), None)

    def add(self, worker_id: str, spec: WorkerSpec) -> Worker:
        """Start a worker under a new id; a failed one in its place is forgotten.

        Raises:
            BusyError: Such workers have crashed too often lately.
        """
        now = self._clock()
        worker = Worker(worker_id, spec, now)
        self._refuse_while_paused(worker, now)
        for other in self:
            if other.state is WorkerState.FAILED and other.identity == worker.identity:
                del self._workers[other.id]
        self._workers[worker.id] = worker
        self._launch(worker)
        return worker

    def evict(self, ids: Sequence[str]) -> list[Worker]:
        """Stop workers that are idle; all or none. They are gone when `release` was called for each.

        Raises:
            InputMissingError: There is no such worker.
            BusyError: One has work.
        """
        workers = [self.get(worker_id) for worker_id in ids]
        busy = next((worker for worker in workers if worker.lives and not worker.idle), None)
        if busy is not None:
            raise BusyError(f"worker {busy.id} has got work meanwhile", hint="try again")
        return self._stop_all(workers)

    def stop(self, ids: Sequence[str]) -> list[Worker]:
        """Stop workers whatever they do; their requests fail.

        Returns:
            Those that are to be waited for.

        Raises:
            InputMissingError: There is no such worker; then none is stopped.
        """
        workers = [self.get(worker_id) for worker_id in ids]
        for worker in workers:
            self._crashes.forget(worker.identity)
        return self._stop_all(workers)

    def _stop_all(self, workers: Sequence[Worker]) -> list[Worker]:
        for worker in workers:
            self._stop(worker, "the worker was stopped")
        return [worker for worker in workers if worker.id in self._workers]

    def _stop(self, worker: Worker, why: str) -> None:
        if worker.state is WorkerState.FAILED:
            del self._workers[worker.id]
            return
        if worker.state is WorkerState.STOPPING:
            return
        loading = worker.state is WorkerState.LOADING
        worker.move(WorkerState.STOPPING)
        worker.alarms.clear()
        self._fail_queue(worker, why)
        if not worker.running:
            self._forget(worker)
        elif loading:
            self._hands.terminate(worker)
        else:
            self._leave_current(worker)
            self._hands.shut_down(worker)
            self._set(worker, Alarm.FORCE, worker.spec.grace_s)

    def _launch(self, worker: Worker) -> None:
        worker.running = True
        worker.by_force = None
        worker.launched_at = self._clock()
        if worker.spec.start_timeout_s:
            self._set(worker, Alarm.NOT_READY, worker.spec.start_timeout_s)
        self._hands.launch(worker)
        for ticket in tuple(worker.queue):
            self._hands.wait_for_load(worker, ticket)

    def _forget(self, worker: Worker) -> None:
        worker.alarms.clear()
        self._workers.pop(worker.id, None)
        self._hands.release(worker)

    def _refuse_while_paused(self, worker: Worker, now: float) -> None:
        pause_s = self._crashes.paused_s(worker.identity, now)
        if pause_s:
            last = self._crashes.last(worker.identity, now)
            raise BusyError(
                f"this worker has crashed {MOST_CRASHES} times within {WINDOW_S / 60:.0f} minutes, last: {last}",
                hint=f"put right what it says; it is started again in {pause_s:.0f} s at the earliest",
            )

    # Requests

    def taking(self, worker_id: str) -> Worker:
        """The worker of that id, which takes requests.

        Raises:
            InputMissingError: There is no such worker.
            BusyError: It takes no requests any more.
        """
        worker = self.get(worker_id)
        if not worker.lives:
            why = worker.last_error or "it is being stopped"
            raise BusyError(f"worker {worker.id} takes no requests: {why}", hint="try again")
        return worker

    def submit(self, worker_id: str, ticket: Ticket) -> Worker:
        """Give a worker a request; those before it are served first.

        Raises:
            InputMissingError: There is no such worker.
            BusyError: It takes no requests any more.
        """
        worker = self.taking(worker_id)
        ticket.worker_id = worker.id
        worker.queue.append(ticket)
        if worker.state is WorkerState.LOADING:
            ticket.load_begins(self._clock())
            if worker.running:
                self._hands.wait_for_load(worker, ticket)
        elif worker.state is WorkerState.READY and Alarm.FORCE not in worker.alarms:
            self._next(worker)
        return worker

    def cancel(self, ticket: Ticket) -> None:
        """Its client asks for its end: between two chunks, where it is being computed."""
        ticket.unwanted = True
        worker = self._workers.get(ticket.worker_id)
        if worker is not None and ticket in worker.queue:
            worker.queue.remove(ticket)
            self._hands.ended(ticket, Outcome(FailureReason.CANCELLED, "cancelled before it was begun"))
        elif worker is not None and worker.current is ticket:
            self._leave_current(worker)

    def drop(self, ticket: Ticket) -> None:
        """Its client wants it no more, or is gone: it has its answer now; a worker that does not leave it is ended."""
        ticket.unwanted = True
        worker = self._workers.get(ticket.worker_id)
        if worker is None or worker.current is not ticket:
            self.cancel(ticket)
            return
        if ticket.abandoned:
            return
        self._leave_current(worker)
        ticket.abandoned = True
        self._hands.ended(ticket, Outcome(FailureReason.CANCELLED, "cancelled"))
        if worker.state is WorkerState.BUSY:
            self._set(worker, Alarm.FORCE, worker.spec.leave_s)

    def _leave_current(self, worker: Worker) -> None:
        if worker.current is not None and not worker.current.cancelled:
            worker.current.cancelled = True
            self._hands.cancel(worker, worker.current)

    def _next(self, worker: Worker) -> None:
        """Take up the next request, or be idle."""
        now = self._clock()
        if not worker.queue:
            if worker.state is not WorkerState.READY:
                worker.move(WorkerState.READY)
            worker.idle_since = now
            if worker.spec.idle_timeout_s:
                self._set(worker, Alarm.IDLE, worker.spec.idle_timeout_s)
            return
        if worker.state is not WorkerState.BUSY:
            worker.move(WorkerState.BUSY)
        worker.idle_since = None
        worker.alarms.pop(Alarm.IDLE, None)
        ticket = worker.current = worker.queue.popleft()
        ticket.given_at = now
        self._hands.render(worker, ticket)

    def _fail_queue(self, worker: Worker, why: str, status: ExitStatus | None = None) -> None:
        queue, worker.queue = worker.queue, deque()
        for ticket in queue:
            self._hands.ended(ticket, Outcome(FailureReason.NO_WORKER, why, exit=status))

    # What has happened

    def ready(self, worker: Worker) -> None:
        """The model is loaded, and the worker takes requests."""
        if worker.state is not WorkerState.LOADING:
            return
        now = self._clock()
        worker.loaded_s = now - worker.launched_at
        worker.was_ready = True
        worker.alarms.pop(Alarm.NOT_READY, None)
        for ticket in worker.queue:
            ticket.load_ends(now)
        worker.move(WorkerState.READY)
        self._next(worker)

    def unfit(self, worker: Worker, why: str) -> None:
        """It has loaded, but is not what its key says; another start would end the same way."""
        if worker.state is not WorkerState.LOADING:
            return
        worker.by_force = why
        worker.was_ready = False
        self._fail_queue(worker, why)
        self._hands.terminate(worker)

    def started(self, worker: Worker, ticket_id: str) -> None:
        """The worker has begun with its request: what it dies of from now on is the request's."""
        if worker.current is not None and worker.current.id == ticket_id:
            worker.current.started = True

    def finished(self, worker: Worker, ticket_id: str, outcome: Outcome, *, sound: bool) -> None:
        """The worker has ended its request, and lives if it is sound."""
        ticket = worker.current
        if ticket is None or ticket.id != ticket_id:
            return
        worker.current = None
        worker.requests_done += 1
        worker.alarms.pop(Alarm.FORCE, None)
        if worker.state is WorkerState.STOPPING and outcome.reason is FailureReason.CANCELLED and not ticket.unwanted:
            outcome = Outcome(FailureReason.NO_WORKER, "the worker was stopped", chunks=outcome.chunks)
        self._end(ticket, outcome)
        if worker.state is WorkerState.STOPPING:
            self._set(worker, Alarm.FORCE, worker.spec.grace_s)
        elif sound:
            self._next(worker)
        else:
            worker.last_error = outcome.failure
            self.unreachable(worker)

    def unreachable(self, worker: Worker) -> None:
        """It ends by itself, or says nothing any more: it has the grace to be gone."""
        if worker.running and Alarm.FORCE not in worker.alarms:
            worker.alarms.pop(Alarm.IDLE, None)
            self._set(worker, Alarm.FORCE, worker.spec.grace_s)

    def gone(self, worker: Worker, why: str, status: ExitStatus | None) -> None:
        """Its last process has ended.

        Args:
            worker: Which.
            why: What is known of the cause, in words.
            status: How its launcher ended.
        """
        worker.running = False
        worker.alarms.clear()
        worker.idle_since = None
        stopped = worker.state is WorkerState.STOPPING
        why = worker.by_force or ("the worker was stopped" if stopped else why)
        given_up = worker.current is not None and worker.current.abandoned
        self._settle_current(worker, why, status, stopped=stopped)
        if stopped:
            self._forget(worker)
            return
        worker.last_error = why
        if not given_up:  # a client's doing, and no crash
            self._crashes.note(worker.identity, why, self._clock())
        if worker.state is WorkerState.LOADING:
            self._use_up_retries(worker, why, status)
        self._restart_or_fail(worker, why, status)

    def _settle_current(self, worker: Worker, why: str, status: ExitStatus | None, *, stopped: bool) -> None:
        """The request that was at the worker: it failed, or it goes back to the queue's head."""
        ticket, worker.current = worker.current, None
        if ticket is None:
            return
        worker.requests_done += 1
        if ticket.unwanted:
            self._end(ticket, Outcome(FailureReason.CANCELLED, why))
        elif stopped:
            self._end(ticket, Outcome(FailureReason.NO_WORKER, why))
        elif ticket.started or ticket.retried:
            self._end(ticket, Outcome(FailureReason.CRASHED, why, exit=status))
        else:
            worker.requests_done -= 1
            ticket.retried = True
            worker.queue.appendleft(ticket)

    def _use_up_retries(self, worker: Worker, why: str, status: ExitStatus | None) -> None:
        """Loading has failed: who has waited for it once before waits no more."""
        for ticket in tuple(worker.queue):
            if ticket.retried:
                worker.queue.remove(ticket)
                self._hands.ended(ticket, Outcome(FailureReason.NO_WORKER, why, exit=status))
            ticket.retried = True

    def _restart_or_fail(self, worker: Worker, why: str, status: ExitStatus | None) -> None:
        now = self._clock()
        worth_it = worker.was_ready or worker.queue
        if not worth_it or self._crashes.too_many(worker.identity, now):
            worker.move(WorkerState.FAILED)
            self._fail_queue(worker, why, status)
            self._set(worker, Alarm.FORGET, FAILED_SHOWN_S)
            self._hands.release(worker)
            return
        if worker.state is not WorkerState.LOADING:
            worker.move(WorkerState.LOADING)
        worker.restarts += 1
        for ticket in worker.queue:
            ticket.load_begins(now)
        self._set(worker, Alarm.START, self._crashes.wait_s(worker.identity, now))

    def _end(self, ticket: Ticket, outcome: Outcome) -> None:
        if not ticket.abandoned:
            self._hands.ended(ticket, outcome)

    # Time

    def tick(self) -> None:
        """Do what is due."""
        now = self._clock()
        for worker in self:
            for alarm in [alarm for alarm, due in worker.alarms.items() if due <= now]:
                if worker.alarms.pop(alarm, None) is not None:
                    self._ring(worker, alarm)

    def _ring(self, worker: Worker, alarm: Alarm) -> None:
        if alarm is Alarm.START:
            self._launch(worker)
        elif alarm is Alarm.NOT_READY:
            worker.by_force = f"it was not ready within {worker.spec.start_timeout_s:g} s"
            self._hands.terminate(worker)
        elif alarm is Alarm.FORCE:
            if worker.state is not WorkerState.STOPPING:
                worker.by_force = worker.last_error or "it did not come to an end in time"
            self._hands.terminate(worker)
        elif alarm is Alarm.IDLE:
            self._stop(worker, f"idle for {worker.spec.idle_timeout_s:g} s")
        else:
            self._workers.pop(worker.id, None)

    def _set(self, worker: Worker, alarm: Alarm, seconds: float) -> None:
        worker.alarms[alarm] = self._clock() + seconds
        self._hands.alarm()
