"""A server from its first breath to its last: it takes its directory, listens, drains when asked to end, and leaves.

A first signal means: no new jobs, and some seconds for those that run; streams and requests go on meanwhile. A second
one means: running jobs are stopped at once, to be rendered by the next server.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

import uvicorn

from omnirt_cli.errors import BusyError, OmniRTError, UsageError
from omnirt_cli.files import storage_error
from omnirt_cli.server import notify
from omnirt_cli.server.app import build_app
from omnirt_cli.server.intake import Intake
from omnirt_cli.server.jobs.desk import Desk
from omnirt_cli.server.jobs.folder import StatePlace
from omnirt_cli.server.jobs.runner import Runner
from omnirt_cli.server.jobs.store import JobStore
from omnirt_cli.server.jobs.upkeep import keep_sweeping, remove_strays
from omnirt_cli.server.media_root import MediaRoot
from omnirt_cli.server.metrics import Metrics
from omnirt_cli.server.options import ServerOptions
from omnirt_cli.server.protocol import TimelyProtocol
from omnirt_cli.server.state import Services
from omnirt_cli.server.survey import Survey
from omnirt_cli.server.traces import Traces, from_environment

LAST_ANSWERS_S = 5
"""What is still being answered gets so long once no job runs any more."""

MOST_CONNECTIONS = 512
PEER_BOUND_MS = 120_000
_BACKLOG = 256

logger = logging.getLogger("omnirt.server")


def serve(options: ServerOptions, on_listening: Callable[[str], None]) -> None:
    """Serve until a signal ends it.

    Args:
        options: How.
        on_listening: Called with the server's address once it answers.

    Raises:
        OmniRTError: It cannot begin.
    """
    place = StatePlace(options.state_dir)
    with _own(place), _listening(options) as listener:
        # What frameworks spool on disk goes where the jobs go, and not into a small /tmp.
        tempfile.tempdir = str(place.spool)
        asyncio.run(_serve(options, place, listener, on_listening))


@contextlib.contextmanager
def _own(place: StatePlace) -> Iterator[None]:
    """The state directory, for this server alone.

    Raises:
        BusyError: Another server has it.
        OutputUncreatableError, IOFailureError: It cannot be made.
    """
    try:
        place.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _state_error(error) from error
    try:
        _make_own(place, descriptor)
        yield
    finally:
        os.close(descriptor)


def _make_own(place: StatePlace, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        place.make()
    except BlockingIOError as error:
        raise BusyError(f"another server uses {place.root}", hint="end it, or give another --state-dir") from error
    except OSError as error:
        raise _state_error(error) from error


def _state_error(error: OSError) -> OmniRTError:
    found = storage_error(error, "the server's directory cannot be made")
    found.hint = "choose another --state-dir"
    return found


@contextlib.contextmanager
def _listening(options: ServerOptions) -> Iterator[socket.socket]:
    """The port.

    Raises:
        BusyError: Somebody else has it.
        UsageError: It cannot be had.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server((options.host, options.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where = f"{options.host}:{options.port}"
        if isinstance(error, PermissionError) or error.errno is None:
            raise UsageError(f"{where} cannot be listened on: {error}", hint="choose another --port") from error
        raise BusyError(f"{where} cannot be listened on: {error.strerror}", hint="choose another --port") from error
    # Accepted connections inherit these. Answers leave at once; asyncio sees to that only for sockets that it makes.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer that takes nothing, or is gone, is let go by the kernel.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_BOUND_MS)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with listener:
        yield listener


async def _serve(
    options: ServerOptions, place: StatePlace, listener: socket.socket, on_listening: Callable[[str], None]
) -> None:
    traces = from_environment()
    services = _build(options, place, traces)
    background: list[asyncio.Task[None]] = []
    try:
        await remove_strays(services.desk, place)
        await services.runner.start()
        sweeping = keep_sweeping(services.desk, place, ttl_s=options.job_ttl_s, most_kept=options.max_finished)
        background = [
            asyncio.create_task(work) for work in (sweeping, services.survey.keep_looking(), notify.keep_alive())
        ]
        await _answer(services, listener, on_listening)
    finally:
        # uvicorn has given its handlers back, and the end is under way: one more signal must not cut it short.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await services.runner.close()
        services.desk.close()
        if traces is not None:
            await asyncio.to_thread(traces.close)


def _build(options: ServerOptions, place: StatePlace, traces: Traces | None) -> Services:
    metrics = Metrics()
    desk = Desk(JobStore(place.database), options.max_queue)
    return Services(
        options=options,
        place=place,
        desk=desk,
        runner=Runner(desk, place, options, metrics, traces),
        intake=Intake(place, MediaRoot(options.media_root), options),
        survey=Survey(place.root, options.backend),
        metrics=metrics,
    )


async def _answer(services: Services, listener: socket.socket, on_listening: Callable[[str], None]) -> None:
    config = uvicorn.Config(
        build_app(services),
        http=TimelyProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=LAST_ANSWERS_S,
        proxy_headers=False,
    )
    server = _Server(config, services)
    address = _address(services.options.host, listener)
    logger.info("listening", extra={"facts": {"url": address, "state_dir": str(services.place.root)}})
    on_listening(address)
    notify.ready(f"listening on {address}")
    await server.serve(sockets=[listener])
    logger.info("ended")


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


class _Server(uvicorn.Server):
    """Drains before it ends."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._asks = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """A signal, in the main thread between two instructions: what it means is done by the loop."""
        self._asks += 1
        action = self._drain if self._asks == 1 else self._hurry
        self._loop.call_soon_threadsafe(self._begin, action)

    def _begin(self, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(action())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        services = self._services
        notify.stopping()
        logger.info("draining", extra={"facts": {"running": services.runner.running}})
        try:
            await services.runner.drain(services.options.drain_s)
        finally:
            services.desk.give_up_waiting()
            self.should_exit = True

    async def _hurry(self) -> None:
        await self._services.runner.stop_now()
