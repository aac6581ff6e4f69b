"""A client's side of the resident daemon: reach it, or start it, and ask it for workers and renders."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launchers.model_env.omnirt_worker import wire
from launchers.model_env.omnirt_worker.wire import Message, WireError
from omnirt_cli.errors import ERRORS, BusyError, InputMissingError, InternalError, ModelFailedError, NotAuthorisedError
from omnirt_cli.resident.hot_request import HotRequest
from omnirt_cli.resident.peer import is_this_user
from omnirt_cli.resident.place import SOCKET_NAME, RuntimePlace
from omnirt_cli.resident.spec import DaemonInfo, WorkerInfo, WorkerKey, WorkerSpec, WorkerState
from omnirt_cli.resident.start import start_daemon
from omnirt_cli.resident.version import code_version

START_BOUND_S = 10.0
"""How long a daemon may take until it answers."""

ANSWER_BOUND_S = 10.0
LOOK_EVERY_S = 0.1

_RETRY_S = 0.05
_ERRORS = {kind.code: kind for kind in ERRORS}


class Connection:
    """A conversation with the daemon. Closing it cancels its request.

    Attributes:
        daemon: Who answers.
    """

    def __init__(self, sock: socket.socket, daemon: DaemonInfo) -> None:
        """For `open` only."""
        self._sock = sock
        self.daemon = daemon

    @classmethod
    def open(cls, environ: Mapping[str, str], *, start: bool = True, any_version: bool = False) -> Connection:
        """Reach this user's daemon.

        Args:
            environ: Where `OMNIRT_RUNTIME_DIR` and `XDG_RUNTIME_DIR` are looked for.
            start: Whether a daemon is started where there is none.
            any_version: Whether a daemon of another OmniRT will do, which understands little more than `shut_down`.

        Raises:
            InputMissingError: There is none, and none was to be started.
            BusyError: It is of another version, or does not answer.
            NotAuthorisedError: Somebody else listens there.
            ConfigInvalidError, OutputUncreatableError: The runtime directory cannot serve.
            InternalError: The daemon cannot be started; its log is named.
        """
        place = RuntimePlace.choose(environ)
        deadline = time.monotonic() + START_BOUND_S
        while True:
            found = _reach(place) if place.check() else None
            if found is not None:
                return cls._checked(*found, any_version=any_version)
            if not start:
                raise InputMissingError("no resident daemon is running", hint="`omnirt worker start` starts one")
            if time.monotonic() >= deadline:
                raise InternalError(
                    f"the resident daemon did not answer within {START_BOUND_S:.0f} s", hint=f"its log is {place.log}"
                )
            if not start_daemon(place, environ, deadline):
                time.sleep(_RETRY_S)  # another is the daemon: it is about to listen, or about to leave

    @classmethod
    def running(cls, environ: Mapping[str, str], *, any_version: bool = False) -> Connection | None:
        """Reach this user's daemon; None where there is none. Raises what `open` raises."""
        try:
            return cls.open(environ, start=False, any_version=any_version)
        except InputMissingError:
            return None

    @classmethod
    def _checked(cls, sock: socket.socket, daemon: DaemonInfo, *, any_version: bool) -> Connection:
        if daemon.version == code_version() or any_version:
            return cls(sock, daemon)
        sock.close()
        raise BusyError(
            f"the resident daemon (pid {daemon.pid}) is of OmniRT {daemon.version}, and this is {code_version()}",
            hint="end it and its workers with `omnirt worker stop --all`",
        )

    # Looking

    def workers(self, *, memory: bool = False) -> tuple[WorkerInfo, ...]:
        """All workers, the oldest first.

        Args:
            memory: Whether to look at what each holds of the machine's memory, too.
        """
        answer = self._ask({"type": "status", "memory": memory}, "status")
        return tuple(WorkerInfo.from_document(worker) for worker in answer.header["workers"])

    def coming(self) -> tuple[WorkerKey, ...]:
        """The workers that other clients have devices for and are about to start."""
        answer = self._ask({"type": "status"}, "status")
        return tuple(WorkerKey.from_document(key) for key in answer.header["coming"])

    def idle_workers(self) -> tuple[WorkerInfo, ...]:
        """Workers that can be evicted: ready, and nobody waits for them. The longest idle first."""
        idle = [worker for worker in self.workers() if worker.idle]
        return tuple(sorted(idle, key=lambda worker: -(worker.idle_s or 0.0)))

    # Workers

    def claim(self, key: WorkerKey) -> None:
        """Say that a worker of this key will be started here; it holds until that is done, or this connection ends."""
        self._ask({"type": "claim", "key": key.to_document()}, "claimed")

    def start_worker(self, spec: WorkerSpec, lease_fds: Sequence[int] = ()) -> WorkerInfo:
        """Start a worker, or find the one that is there for the same key on the same devices; does not wait for it.

        Args:
            spec: What to start.
            lease_fds: The devices' lease, which the daemon gets a copy of: close it, and the worker's is left.

        Raises:
            BusyError: Such workers have crashed too often lately.
        """
        order = {"type": "start", "spec": spec.to_document(), "fds": len(lease_fds)}
        return WorkerInfo.from_document(self._ask(order, "worker", fds=lease_fds).header["worker"])

    def wait_until_loaded(self, worker_id: str) -> WorkerInfo:
        """Wait until a worker takes requests; its spec's start timeout is the limit.

        Raises:
            ModelFailedError: It failed, or was stopped.
        """
        while True:
            worker = next((worker for worker in self.workers() if worker.id == worker_id), None)
            if worker is None or worker.state is WorkerState.STOPPING:
                raise ModelFailedError(f"worker {worker_id} was stopped before it had loaded")
            if worker.state is WorkerState.FAILED:
                raise ModelFailedError(
                    f"worker {worker.id} failed: {worker.last_error}", hint=f"its log is {worker.log}"
                )
            if worker.state is not WorkerState.LOADING:
                return worker
            time.sleep(LOOK_EVERY_S)

    def evict(self, worker_ids: Sequence[str], timeout_s: float) -> None:
        """Stop workers that are idle; returns when their processes are gone and their leases free.

        Raises:
            BusyError: One has got work meanwhile (then none is stopped), or they are still there after the timeout.
            InputMissingError: There is no such worker.
        """
        self._ask({"type": "evict", "ids": list(worker_ids)}, "gone", timeout_s=timeout_s)

    def stop(self, worker_ids: Sequence[str], timeout_s: float) -> None:
        """Stop workers whatever they do; their requests fail. Returns and raises as `evict` does."""
        self._ask({"type": "stop", "ids": list(worker_ids)}, "gone", timeout_s=timeout_s)

    def shut_down(self, timeout_s: float) -> None:
        """Stop every worker and the daemon; returns when it has left, and this connection is of no more use.

        Raises:
            BusyError: It is still there after the timeout.
        """
        self._sock.settimeout(timeout_s)
        try:
            wire.send(self._sock, {"type": "shutdown"})
            while wire.receive(self._sock) is not None:
                continue
        except TimeoutError as error:
            raise self._silent(timeout_s) from error
        except (OSError, WireError):  # gone in the midst of a word: gone
            return
        finally:
            self.close()

    # Renders

    def render(
        self,
        worker_id: str,
        run_id: str,
        document: Mapping[str, Any],
        *,
        on_message: Callable[[Message], None] | None = None,
    ) -> HotRequest:
        """Give a worker a request; those before it are served first. One at a time on a connection.

        Args:
            worker_id: Which worker.
            run_id: The run, for the worker's log.
            document: The worker's `render` message without its type and id.
            on_message: Called by the request's `read_status` with whatever the worker says of it, chunks included.

        Raises:
            InputMissingError: There is no such worker.
            BusyError: It takes no requests any more.
        """
        reader, writer = os.pipe()
        try:
            order = {"type": "render", "worker_id": worker_id, "id": run_id, "document": dict(document), "fds": 1}
            answer = self._ask(order, "accepted", fds=(writer,))
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return HotRequest(self._sock, reader, WorkerInfo.from_document(answer.header["worker"]), on_message)

    # The end

    def close(self) -> None:
        """Let go of the connection. May be called again."""
        self._sock.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self, order: Mapping[str, Any], expected: str, *, fds: Sequence[int] = (), timeout_s: float = ANSWER_BOUND_S
    ) -> Message:
        self._sock.settimeout(timeout_s)
        try:
            wire.send(self._sock, order, fds=fds)
            answer = wire.receive(self._sock)
        except TimeoutError as error:
            self.close()  # its answer, when it comes, would be taken for that to another question
            raise self._silent(timeout_s) from error
        except (OSError, WireError) as error:
            raise self._lost(str(error)) from error
        if answer is None:
            raise self._lost("it has ended")
        if answer.type == "error":
            kind = _ERRORS.get(answer.header["code"], InternalError)
            raise kind(answer.header["message"], hint=answer.header["hint"])
        if answer.type != expected:
            raise self._lost(f"it answered {answer.type!r} where {expected!r} was asked for")
        return answer

    def _silent(self, timeout_s: float) -> BusyError:
        return BusyError(
            f"the resident daemon (pid {self.daemon.pid}) was not done within {timeout_s:g} s",
            hint=f"its log is {self.daemon.log}",
        )

    def _lost(self, why: str) -> ModelFailedError:
        self.close()
        return ModelFailedError(f"the resident daemon was lost: {why}", hint=f"its log is {self.daemon.log}; try again")


def _reach(place: RuntimePlace) -> tuple[socket.socket, DaemonInfo] | None:
    """Connect and hear who is there; None where nobody is, or who was there leaves."""
    with contextlib.ExitStack() as undo:
        try:
            sock = wire.connect(place.path, SOCKET_NAME)
        except OSError:
            return None
        undo.callback(sock.close)
        if not is_this_user(sock):
            raise NotAuthorisedError(f"another user's process listens at {place.socket}", hint="have it ended")
        sock.settimeout(ANSWER_BOUND_S)
        try:
            wire.send(sock, {"type": "hello", "version": code_version()})
            answer = wire.receive(sock)
        except TimeoutError as error:
            raise BusyError("the resident daemon does not answer", hint=f"its log is {place.log}") from error
        except OSError:
            return None
        if answer is None:
            return None
        undo.pop_all()
        return sock, DaemonInfo.from_document(answer.header.get("daemon"))
