"""One start of a worker: its processes under their guard, and the connection to its rank 0.

It tells its listener what happens and decides nothing: whether there is another start is the pool's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from launchers.errors import LaunchError
from launchers.model_env.omnirt_worker import wire
from launchers.process import Done, ExitStatus, GuardedProcess, GuardLost, ProcessSpec
from omnirt_cli.resident.channel import Channel
from omnirt_cli.resident.folders import WorkerFolder
from omnirt_cli.resident.output import WorkerOutput
from omnirt_cli.resident.spec import WorkerSpec

CONNECT_EVERY_S = 0.05


class Listener(Protocol):
    """Who is told of one start's life; called in the loop's thread."""

    def launched(self) -> None:
        """Its process runs."""

    def said(self, message: wire.Message) -> None:
        """Its rank 0 sent a message; the first is `ready`."""

    def silent(self) -> None:
        """Its rank 0 has closed the connection, or sends what is no message."""

    def gone(self, why: str, status: ExitStatus | None) -> None:
        """Nothing of it is left; the last word. `why` is what is known of the cause."""


class WorkerProcess:
    """One start, from `start` to the listener's `gone`.

    Attributes:
        pid: The launcher's process number; 0 before it runs and after it has ended.
    """

    def __init__(
        self, spec: WorkerSpec, folder: WorkerFolder, output: WorkerOutput, lease_fds: tuple[int, ...], told: Listener
    ) -> None:
        self._spec = spec
        self._folder = folder
        self._output = output
        self._lease_fds = lease_fds
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._process: GuardedProcess | None = None
        self._channel: Channel | None = None
        self._stops_asked = 0
        self.pid = 0

    def start(self) -> None:
        """Begin; the listener hears of it."""
        with contextlib.suppress(FileNotFoundError):  # an earlier start's would be taken for this one's
            (self._folder.path / self._spec.socket).unlink()
        self._task = self._loop.create_task(self._start())

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Send rank 0 a message; where there is no connection, that it is gone is told anyway."""
        if self._channel is not None:
            self._channel.send(header, body)

    def terminate(self) -> None:
        """SIGTERM to all its processes, after the grace SIGKILL; asked again, SIGKILL at once."""
        self._stops_asked += 1
        if self._process is not None:
            self._process.request_stop()

    async def _start(self) -> None:
        try:
            # In a thread: it takes a tenth of a second, which others' chunks need not wait for.
            process = await self._loop.run_in_executor(None, self._launch)
        except (LaunchError, OSError) as error:
            self._told.gone(f"it could not be started: {error}", None)
            return
        self._process = process
        self.pid = process.pid
        self._output.begin(process.output_fd)
        self._loop.add_reader(process.status_fd, self._read_status)
        self._told.launched()
        for _ in range(self._stops_asked):
            process.request_stop()
        self._connect()

    def _launch(self) -> GuardedProcess:
        spec = ProcessSpec(
            argv=self._spec.argv,
            cwd=self._folder.path,
            env=self._spec.env,
            run_id=self._folder.mark,
            umask=self._spec.umask,
        )
        held = (self._folder.lock_fd, *self._lease_fds)
        return GuardedProcess.start(spec, grace_s=self._spec.grace_s, pass_fds=held)

    def _connect(self) -> None:
        """Reach rank 0 as soon as it listens, which is when it has loaded."""
        if self._process is None:
            return
        try:
            sock = wire.connect(self._folder.path, self._spec.socket)
        except OSError:
            self._loop.call_later(CONNECT_EVERY_S, self._connect)
            return
        self._channel = Channel(sock, on_message=self._told.said, on_closed=self._lost_connection)

    def _lost_connection(self, _why: str) -> None:
        self._channel = None
        self._told.silent()

    def _read_status(self) -> None:
        process = self._process
        if process is None:
            return
        for event in process.read_status():
            if isinstance(event, (Done, GuardLost)):
                self._end(process, event)

    def _end(self, process: GuardedProcess, word: Done | GuardLost) -> None:
        self._process = None
        self.pid = 0
        self._loop.remove_reader(process.status_fd)
        self._read_last_messages()
        self._output.end()
        process.close()
        self._told.gone(_why(process.exit, word, self._output.tail()), process.exit)

    def _read_last_messages(self) -> None:
        """What rank 0 sent before it ended is still in the socket."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.read_rest()
            channel.close()


def _why(status: ExitStatus | None, word: Done | GuardLost, tail: str) -> str:
    if isinstance(word, GuardLost):
        how = "its guard process was killed from outside"
    elif status is None:
        how = "it ended"
    elif status.signal is not None:
        how = f"it was ended by signal {status.signal}"
    else:
        how = f"it ended with exit code {status.code}"
    said = [line.strip() for line in tail.splitlines() if any(character.isalnum() for character in line)]
    return f"{how}: {said[-1]}" if said else how
