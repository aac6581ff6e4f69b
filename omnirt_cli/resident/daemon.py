"""The resident daemon, a program: `python -m omnirt_cli.resident.daemon FOLDER`.

It owns the workers and their devices' leases, and serves clients of its own user over one Unix socket. Started by a
client (`resident.client`), it makes itself the daemon, goes into the background, and its first process ends with 0; or
with `TAKEN`, where another is the daemon. Killed by SIGKILL, it takes its workers along: their guards see its end.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import logging.handlers
import os
import signal
import socket
import sys
from pathlib import Path

from launchers.model_env.omnirt_worker import wire
from omnirt_cli import console
from omnirt_cli.errors import OmniRTError
from omnirt_cli.files import storage_error
from omnirt_cli.resident.folders import remove_abandoned
from omnirt_cli.resident.output import LOG_BYTES
from omnirt_cli.resident.peer import is_this_user
from omnirt_cli.resident.place import SOCKET_NAME, TAKEN, RuntimePlace
from omnirt_cli.resident.session import Session
from omnirt_cli.resident.spec import DaemonInfo, WorkerKey
from omnirt_cli.resident.version import code_version
from omnirt_cli.resident.workforce import Workforce

IDLE_TIMEOUT_S = 15 * 60.0
_CLEAN_EVERY_S = 30.0

log = logging.getLogger("omnirt.resident")


class Daemon:
    """One daemon, in a running loop.

    Attributes:
        info: What clients are told of it.
        workforce: The workers.
        leaving: Whether it takes no new worker any more.
    """

    def __init__(self, place: RuntimePlace, server: socket.socket, lock: int, idle_timeout_s: float) -> None:
        self.info = DaemonInfo(pid=os.getpid(), version=code_version(), folder=str(place.path), log=str(place.log))
        self.workforce = Workforce(place.workers)
        self._place = place
        self._server = server
        self._lock = lock
        self._socket = place.socket.stat()
        self._idle_timeout_s = idle_timeout_s
        self._sessions: set[Session] = set()
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self.leaving = False

    async def serve(self) -> None:
        """Serve until nobody needs it any more, or it is told to leave."""
        self._server.settimeout(0)
        self._loop.add_reader(self._server, self._accept)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.leave)
        self._clean()
        idle = self._loop.create_task(self._leave_when_idle())
        log.info("daemon %s of OmniRT %s is here", self.info.pid, self.info.version)
        await self._over
        idle.cancel()
        log.info("the daemon leaves")

    def left(self, session: Session) -> None:
        """A client is gone."""
        self._sessions.discard(session)

    def claims(self, *, but: Session) -> list[WorkerKey]:
        """What other clients are about to start."""
        return [session.claim for session in self._sessions if session is not but and session.claim is not None]

    def leave(self) -> None:
        """Stop every worker, then end; asked again, the workers are killed."""
        workers = list(self.workforce.pool)
        if self.leaving:
            for worker in workers:
                self.workforce.terminate(worker)
            return
        self.leaving = True
        # From here on nobody reaches this daemon, and who waits at its door starts the next one. What the workers here
        # still hold, their leases say.
        self._loop.remove_reader(self._server)
        self._server.close()
        if self._can_be_reached():
            self._place.socket.unlink()
        os.close(self._lock)
        log.info("stopping %d workers", len(workers))
        self.workforce.when_gone(self.workforce.pool.stop([worker.id for worker in workers]), self._end)

    def _end(self) -> None:
        for session in self._sessions:
            session.close()
        if not self._over.done():
            self._over.set_result(None)

    def _accept(self) -> None:
        try:
            sock, _ = self._server.accept()
        except OSError:  # it is gone again, or there is no descriptor left for it
            return
        if not is_this_user(sock):
            log.warning("a process of another user was turned away")
            sock.close()
            return
        self._sessions.add(Session(sock, self))

    async def _leave_when_idle(self) -> None:
        idle_since = self._loop.time()
        while True:
            if self._sessions or not self.workforce.pool.empty:
                idle_since = self._loop.time()
            if self._loop.time() - idle_since >= self._idle_timeout_s:
                log.info("nobody has needed the daemon for %g s", self._idle_timeout_s)
                self.leave()
                return
            if not self._sessions and not self._can_be_reached():
                log.info("the daemon's socket was removed: nobody can reach its workers any more")
                self.leave()
                return
            await asyncio.sleep(min(self._idle_timeout_s / 4, 15.0))

    def _can_be_reached(self) -> bool:
        """Whether the socket's name still leads here; a session's end may take the whole runtime directory away."""
        try:
            return os.path.samestat(self._place.socket.stat(), self._socket)
        except OSError:
            return False

    def _clean(self) -> None:
        """Remove what an earlier daemon left, now or when its last processes are gone."""
        if remove_abandoned(self._place.workers, mine=self.workforce.marks):
            self._loop.call_later(_CLEAN_EVERY_S, self._clean)


def main(argv: list[str]) -> int:
    """Become the daemon, or say why not."""
    options = _parser().parse_args(argv)
    place = RuntimePlace(options.folder)
    try:
        place.make()
        lock = _lock(place)
        if lock is None:
            return TAKEN
        # Before the fork: whoever started this may connect as soon as its first process has ended.
        server = wire.listen(place.path, SOCKET_NAME)
    except OmniRTError as error:
        console.tell_error(error)
        return error.exit_status
    except OSError as error:
        found = storage_error(error, "its files cannot be made")
        console.tell_error(found)
        return found.exit_status
    if os.fork():
        os._exit(0)
    _settle(place)
    asyncio.run(_serve(place, server, lock, options.idle_timeout))
    logging.shutdown()
    os._exit(0)  # a thread that starts a process which nobody wants any more is not worth waiting for


async def _serve(place: RuntimePlace, server: socket.socket, lock: int, idle_timeout_s: float) -> None:
    await Daemon(place, server, lock, idle_timeout_s).serve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="omnirt_cli.resident.daemon", description="The resident daemon of OmniRT.")
    parser.add_argument("folder", type=Path, help="its runtime directory, absolute")
    parser.add_argument(
        "--idle-timeout", type=float, default=IDLE_TIMEOUT_S, help="seconds without clients and workers until it ends"
    )
    return parser


def _lock(place: RuntimePlace) -> int | None:
    """The lock that makes this process, and what it forks, the daemon; None where another has it."""
    descriptor = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _settle(place: RuntimePlace) -> None:
    """In the background: no directory kept busy, no terminal, one log."""
    os.chdir("/")
    os.umask(0o077)
    handler = logging.handlers.RotatingFileHandler(place.log, maxBytes=LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # A bug's last words belong into the same file.
    words = os.open(place.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for number in (1, 2):
        os.dup2(words, number)
    os.close(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
