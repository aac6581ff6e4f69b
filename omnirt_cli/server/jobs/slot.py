"""The server's side of one render process: started when it is needed, replaced when it dies or has done a lot.

Knows the two ends of a pipe; what a job is worth is decided by the runner.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from pydantic import TypeAdapter

from omnirt_cli.run.events import BaseEvent, Event, Listener
from omnirt_cli.server.jobs.orders import RenderOrder, RunEnd

MOST_JOBS = 100
"""After so many a process is replaced, so that nothing piles up in it."""

GRACE_S = 60.0
"""What a process gets to end by itself after its stdin was closed; it stops its render within its own limits."""

_LINE_LIMIT = 1 << 22
_EVENT: TypeAdapter[BaseEvent] = TypeAdapter(Event)

logger = logging.getLogger("omnirt.server")


class ProcessDiedError(Exception):
    """The render process is gone in the midst of a job.

    Attributes:
        status: Its exit status; negative for a signal.
    """

    def __init__(self, status: int | None) -> None:
        super().__init__(f"the render process ended with status {status}")
        self.status = status


class Slot:
    """One render process, over all its replacements."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._jobs = 0
        self._current: str | None = None
        self._unwanted = False

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Have a process that is ready; its imports are done by then."""
        if self.pid is not None and self._jobs < MOST_JOBS:
            return
        await self.close()
        self._jobs = 0
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "omnirt_cli.server.jobs.render_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
            # A Ctrl-C in the server's terminal is the server's to pass on.
            start_new_session=True,
        )
        await self._answer("ready")

    async def render(self, order: RenderOrder, on_event: Listener) -> RunEnd:
        """Have a job rendered.

        Raises:
            ProcessDiedError: The process did not live to its end.
        """
        self._current, self._unwanted = order.job_id, False
        try:
            await self.start()
            self._jobs += 1
            await self._say({"do": "render", "order": order.to_line()})
            if self._unwanted:
                self.cancel()
            while True:
                answer = await self._read()
                if answer["said"] == "event":
                    on_event(_EVENT.validate_python(answer["event"]))
                elif answer["said"] == "done":
                    return RunEnd.from_line(answer["end"])
        finally:
            self._current = None

    async def evict(self, worker_ids: list[str]) -> list[str]:
        """Have resident workers stopped; returns those that are gone.

        Raises:
            ProcessDiedError: The process is gone.
        """
        await self.start()
        await self._say({"do": "evict", "ids": worker_ids})
        answer = await self._answer("evicted")
        return [str(worker_id) for worker_id in answer["ids"]]

    def cancel(self) -> None:
        """Ask the render to stop; a second time means at once. One that has not begun yet stops as it begins."""
        self._unwanted = True
        if self.pid is not None and self._process is not None and self._process.stdin is not None:
            line = {"do": "cancel", "job_id": self._current}
            self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def close(self) -> None:
        """End the process. A render in it is cancelled."""
        process = self._process
        self._process = None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), GRACE_S)
        except asyncio.TimeoutError:
            logger.warning("render process does not end; it is killed", extra={"facts": {"pid": process.pid}})
            process.kill()
            await process.wait()

    async def _answer(self, expected: str) -> dict[str, Any]:
        while True:
            answer = await self._read()
            if answer["said"] == expected:
                return answer

    async def _say(self, line: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise await self._died() from None

    async def _read(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise await self._died()
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    async def _died(self) -> ProcessDiedError:
        process, self._process = self._process, None
        status = await process.wait() if process is not None else None
        return ProcessDiedError(status)
