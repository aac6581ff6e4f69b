"""One client's connection to the daemon: what it asks for, and what it is told. Whoever goes away cancels its request.

A client asks one thing after another. A render's messages come until `ended`; meanwhile the client may cancel it, drop
it, or send it more (live audio).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from launchers.model_env.omnirt_worker.wire import Message
from launchers.process import ExitStatus
from omnirt_cli.errors import BusyError, OmniRTError, UsageError
from omnirt_cli.files import storage_error
from omnirt_cli.resident.channel import Channel
from omnirt_cli.resident.output import OutputCopy
from omnirt_cli.resident.place import VARIABLE
from omnirt_cli.resident.pool import Worker
from omnirt_cli.resident.spec import DaemonInfo, HotFacts, SpecError, WorkerKey, WorkerSpec
from omnirt_cli.resident.ticket import Ticket
from omnirt_cli.resident.workforce import Workforce, close_all


class House(Protocol):
    """What a session needs of the daemon around it.

    Attributes:
        info: The daemon by its own account.
        workforce: The workers.
        leaving: Whether it takes no new worker any more.
    """

    info: DaemonInfo
    workforce: Workforce
    leaving: bool

    def left(self, session: Session) -> None:
        """This client is gone."""

    def claims(self, *, but: Session) -> list[WorkerKey]:
        """What other clients are about to start."""

    def leave(self) -> None:
        """Stop every worker, then end."""


class Session:
    """One client, from its connection to its end.

    Attributes:
        claim: The worker that it is about to start: it has the devices, and others of the same key had better wait.
    """

    def __init__(self, sock: socket.socket, house: House) -> None:
        """Begin to listen to it in the running loop."""
        self._house = house
        self._workforce = house.workforce
        self._asked: _Asked | None = None
        self.claim: WorkerKey | None = None
        self._channel = Channel(sock, on_message=self._obey, on_closed=self._lost)
        self._orders: dict[str, Callable[[Message], None]] = {
            "hello": self._hello,
            "status": self._status,
            "claim": self._claim,
            "start": self._start,
            "render": self._render,
            "cancel": self._cancel,
            "drop": self._drop,
            "audio": self._pass_on,
            "finish": self._pass_on,
            "evict": self._evict,
            "stop": self._stop,
            "shutdown": self._shut_down,
        }

    def close(self) -> None:
        """The daemon ends."""
        self._channel.close()

    def _obey(self, message: Message) -> None:
        if message.type not in _WITH_FDS:
            close_all(message.fds)
        try:
            order = self._orders.get(message.type)
            if order is None:
                raise UsageError(f"the resident daemon does not know the message {message.type!r}")
            order(message)
        except OmniRTError as error:
            self._refuse(error)
        except SpecError as error:
            self._refuse(UsageError(str(error)))
        except OSError as error:
            found = storage_error(error, f"the worker's directory below {self._house.info.folder} cannot be made")
            found.hint = f"free some space there, or set {VARIABLE} to another directory"
            self._refuse(found)

    def _refuse(self, error: OmniRTError) -> None:
        self._say({"type": "error", "code": error.code, "message": error.message, "hint": error.hint})

    def _say(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        self._channel.send(header, body)

    def _lost(self, _why: str) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.output.close()
            self._workforce.pool.drop(asked.ticket)
        self._house.left(self)

    # Looking

    def _hello(self, _message: Message) -> None:
        self._say({"type": "hello", "daemon": self._house.info.to_document()})

    def _status(self, message: Message) -> None:
        memory = message.header.get("memory") is True
        workers = [self._workforce.info(worker, memory=memory).to_document() for worker in self._workforce.pool]
        coming = [key.to_document() for key in self._house.claims(but=self)]
        self._say({"type": "status", "workers": workers, "coming": coming})

    # Workers

    def _claim(self, message: Message) -> None:
        self.claim = WorkerKey.from_document(message.header.get("key"))
        self._say({"type": "claimed"})

    def _start(self, message: Message) -> None:
        try:
            spec = WorkerSpec.from_document(message.header.get("spec"))
            if self._house.leaving:
                raise BusyError("the resident daemon is leaving", hint="try again")
        except (SpecError, BusyError):
            close_all(message.fds)
            raise
        self._say_worker(self._workforce.start_worker(spec, message.fds))
        self.claim = None

    def _evict(self, message: Message) -> None:
        self._say_when_gone(self._workforce.pool.evict(_ids(message)))

    def _stop(self, message: Message) -> None:
        self._say_when_gone(self._workforce.pool.stop(_ids(message)))

    def _shut_down(self, _message: Message) -> None:
        self._house.leave()

    def _say_worker(self, worker: Worker) -> None:
        self._say({"type": "worker", "worker": self._workforce.info(worker).to_document()})

    def _say_when_gone(self, workers: Sequence[Worker]) -> None:
        self._workforce.when_gone(workers, lambda: self._say({"type": "gone"}))

    # Requests

    def _render(self, message: Message) -> None:
        try:
            worker = self._workforce.pool.taking(str(message.header.get("worker_id")))
            self._asked = self._take_request(message)
        except OmniRTError:
            close_all(message.fds)
            raise
        # First, for the request's own messages may follow at once.
        self._say({"type": "accepted", "worker": self._workforce.info(worker).to_document()})
        self._workforce.submit(worker.id, self._asked.ticket, self._asked)

    def _take_request(self, message: Message) -> _Asked:
        document, run_id = message.header.get("document"), message.header.get("id")
        if self._asked is not None:
            raise UsageError("a connection has one request at a time", hint="open another connection")
        if not isinstance(document, dict) or not isinstance(run_id, str) or len(message.fds) != 1:
            raise UsageError("a render needs its id, its document and one pipe for the output")
        ticket = Ticket(run_id, document, submitted_at=self._workforce.pool.now)
        return _Asked(self, ticket, OutputCopy(message.fds[0]))

    def _cancel(self, _message: Message) -> None:
        if self._asked is not None:
            self._workforce.pool.cancel(self._asked.ticket)

    def _drop(self, _message: Message) -> None:
        if self._asked is not None:
            self._workforce.pool.drop(self._asked.ticket)

    def _pass_on(self, message: Message) -> None:
        if self._asked is not None:
            self._workforce.pass_on(self._asked.ticket, message.header, message.body)

    def tell_of(self, asked: _Asked, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Something happened to a request of this client's."""
        if self._asked is asked:
            self._say(header, body)

    def end_of(self, asked: _Asked, facts: HotFacts, status: ExitStatus | None) -> None:
        """A request of this client's has ended."""
        if self._asked is not asked:
            return
        self._asked = None
        ending = {"code": status.code, "signal": status.signal} if status is not None else None
        self._say({"type": "ended", "facts": facts.to_document(), "exit": ending})


class _Asked:
    """A client's request, as the workforce knows it."""

    def __init__(self, session: Session, ticket: Ticket, output: OutputCopy) -> None:
        self._session = session
        self.ticket = ticket
        self.output = output

    def tell(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        self._session.tell_of(self, header, body)

    def ended(self, facts: HotFacts, status: ExitStatus | None) -> None:
        self._session.end_of(self, facts, status)


_WITH_FDS = frozenset({"start", "render"})


def _ids(message: Message) -> list[str]:
    ids = message.header.get("ids")
    if not isinstance(ids, list):
        raise UsageError("a list of worker ids is missing")
    return [str(worker_id) for worker_id in ids]
