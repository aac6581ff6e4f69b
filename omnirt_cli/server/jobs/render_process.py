"""The process that renders: one of a server's `max_concurrency`, which takes one job after the other.

    python -m omnirt_cli.server.jobs.render_process

Orders come as JSON lines on stdin, answers go as JSON lines to stdout. A process of its own keeps the server's event
loop free, takes signals as the command line does, and takes nothing with it when it dies. When stdin ends, the server
is gone: the render is cancelled and the process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omnirt_cli import engine
from omnirt_cli.errors import InternalError, OmniRTError
from omnirt_cli.files import storage_error, write_atomic
from omnirt_cli.report import ErrorInfo, RunReport
from omnirt_cli.request import Audio2VideoRequest, ExecutorChoice
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.events import BaseEvent, Listener
from omnirt_cli.run.reporting import error_info
from omnirt_cli.server.jobs.event_file import EventWriter
from omnirt_cli.server.jobs.folder import JobFolder
from omnirt_cli.server.jobs.loaded import can_stay_loaded
from omnirt_cli.server.jobs.orders import RenderOrder, RunEnd
from omnirt_cli.settings import Surroundings
from omnirt_cli.signals import cancelling

EVICT_BOUND_S = 60.0


class _Orders:
    """What the server wants, in turn; a cancel overtakes.

    Attributes:
        cancelled: Jobs that shall end; a job that has not begun yet finds itself here.
    """

    def __init__(self) -> None:
        self.cancelled: set[str] = set()
        self._current: str | None = None
        self._queue: queue.Queue[RenderOrder | list[str] | None] = queue.Queue()
        self._main_thread = threading.get_ident()

    def listen(self) -> None:
        """Read stdin to its end, in a thread of its own; at the end cancel what is being rendered."""
        for text in sys.stdin:
            line = json.loads(text)
            if line["do"] == "cancel":
                self.cancelled.add(line["job_id"])
                if line["job_id"] == self._current:
                    self._signal(signal.SIGINT)
            elif line["do"] == "evict":
                self._queue.put(list(line["ids"]))
            else:
                self._queue.put(RenderOrder(**line["order"]))
        self._queue.put(None)
        self._signal(signal.SIGTERM)

    def next(self) -> RenderOrder | list[str] | None:
        """The next order, or ids of workers to be stopped; None when there will be no more."""
        return self._queue.get()

    @contextlib.contextmanager
    def at(self, job_id: str, token: CancelToken) -> Iterator[None]:
        """While this holds, the job can be cancelled, by a signal, for only that ends every wait."""
        with cancelling(token):
            self._current = job_id
            if job_id in self.cancelled and not token.asked:
                token.cancel()
            try:
                yield
            finally:
                self._current = None
                self.cancelled.discard(job_id)

    def _signal(self, number: int) -> None:
        signal.pthread_kill(self._main_thread, number)


class _Answers:
    """stdout as it was at the start; whatever else this process prints goes to stderr."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def say(self, kind: str, **facts: Any) -> None:
        # A server that is gone needs no answer; the end of stdin says so too.
        with contextlib.suppress(OSError, ValueError):
            self._file.write(json.dumps({"said": kind, **facts}) + "\n")
            self._file.flush()


def main() -> None:
    """Serve until stdin ends."""
    # Between jobs they mean nothing; during one, `cancelling` takes them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    answers, orders = _Answers(), _Orders()
    threading.Thread(target=orders.listen, daemon=True).start()
    answers.say("ready", pid=os.getpid())
    while (order := orders.next()) is not None:
        if isinstance(order, RenderOrder):
            _render(order, orders, answers)
        else:
            answers.say("evicted", ids=_evict(order))


# --- rendering ------------------------------------------------------------------------------------


def _render(order: RenderOrder, orders: _Orders, answers: _Answers) -> None:
    folder = JobFolder(Path(order.folder))
    attempt = folder.attempt(order.attempt)
    try:
        attempt.folder.mkdir(exist_ok=True)
        with _locked(attempt.lock), EventWriter(folder.events) as events:
            report, error = _run(order, orders, attempt.outputs.video, _telling(events, answers))
            if report is not None:
                _complete(report, order, attempt.outputs.report)
    except OSError as problem:
        report, error = None, error_info(storage_error(problem, "the job's files cannot be written"))
    answers.say("done", end=RunEnd.of(report, error).to_line())


def _telling(events: EventWriter, answers: _Answers) -> Listener:
    """Each event goes to disk, for those who stream it, and to the server, for progress and figures."""

    def tell(event: BaseEvent) -> None:
        document = event.model_dump_json()
        events.write(document)
        answers.say("event", event=json.loads(document))

    return tell


def _run(
    order: RenderOrder, orders: _Orders, video: Path, listener: Listener
) -> tuple[RunReport | None, ErrorInfo | None]:
    token = CancelToken()
    try:
        with orders.at(order.job_id, token):
            request = _request(order, video)
            result = engine.generate(request, on_event=listener, cancel=token, surroundings=Surroundings.current())
    except OmniRTError as error:
        return error.report, error_info(error)
    except Exception as error:  # noqa: BLE001 - this process's edge: a bug in one job must not end the others
        traceback.print_exc()
        return None, error_info(InternalError(f"a bug in OmniRT: {type(error).__name__}: {error}"))
    finally:
        token.close()
    return result.metadata, None


def _request(order: RenderOrder, video: Path) -> Audio2VideoRequest:
    """The job's request, with its place and, where nothing else says so, a resident worker.

    Raises:
        OmniRTError: The settings are no good.
    """
    request = Audio2VideoRequest.model_validate(order.render)
    own: dict[str, Any] = {"output": str(video), "wait": order.device_wait_s}
    if order.resident and can_stay_loaded(request, Surroundings.current()):
        own["executor"] = ExecutorChoice.RESIDENT.value
    return request.model_copy(update={"config": request.config.model_copy(update=own)})


def _complete(report: RunReport, order: RenderOrder, path: Path) -> None:
    """Say in the report which job it was of. The video is there by now; a full disk leaves the report without that."""
    report.job_id = order.job_id
    report.enqueued_at_ms = order.enqueued_at_ms
    report.queue_wait_ms = round((report.queue_wait_ms or 0.0) + order.queued_ms, 3)
    with contextlib.suppress(OSError):
        write_atomic(path, (report.model_dump_json(indent=2) + "\n").encode())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the attempt's lock, by which a later server knows that this process still lives."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# --- resident workers -----------------------------------------------------------------------------


def _evict(ids: list[str]) -> list[str]:
    """Stop these workers, those of them that are idle; what is not there any more counts as stopped."""
    from omnirt_cli.resident.client import Connection

    try:
        with Connection.open(os.environ, start=False) as connection:
            idle = {worker.id for worker in connection.idle_workers()}
            there = {worker.id for worker in connection.workers()}
            gone = [worker_id for worker_id in ids if worker_id in idle]
            if gone:
                connection.evict(gone, EVICT_BOUND_S)
            return [worker_id for worker_id in ids if worker_id in gone or worker_id not in there]
    except OmniRTError:
        return []


if __name__ == "__main__":
    main()
