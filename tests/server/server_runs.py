"""A real server under test: started as a process on a free port, spoken to over HTTP, signalled and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from omnirt_cli.resident.client import Connection
from tests.omnirt_cli_runs import ASSETS, QUICK, ROOT, wait_for

MODEL = "soulx-flashtalk-14b"
TINY = {"size": "128*128", "max_chunks": 2}
SLOW = {"MINIATURE_CHUNK_S": "1.5"}
"""Each chunk takes so long that a test can do something to a render in its midst."""

SERVE = (sys.executable, "-m", "omnirt", "serve")
FINAL = ("succeeded", "failed", "cancelled")


@dataclass
class Server:
    """One server's process and directories; `start` may be called again after `kill` or `stop`."""

    folder: Path
    flags: tuple[str, ...] = ("--backend", "cpu", "--no-resident")
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Any = None
    stderr: int | None = None
    process: subprocess.Popen[bytes] | None = None
    url: str = ""

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def media(self) -> Path:
        return self.folder / "media"

    def start(self) -> Server:
        self.media.mkdir(parents=True, exist_ok=True)
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            [*SERVE, "--port", "0", "--json", "--state-dir", str(self.state), *self.flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log if self.stderr is None else self.stderr,
            cwd=self.media,
            env=self.environment(),
            start_new_session=True,
            preexec_fn=self.limits,
        )
        log.close()
        assert self.process.stdout is not None
        text = b""
        while not text.endswith(b"}\n"):
            line = self.process.stdout.readline()
            assert line, f"the server ended: {self.log()}"
            text += line
        self.url = json.loads(text)["url"]
        return self

    def environment(self) -> dict[str, str]:
        foreign = ("OMNIRT_", "FLASHTALK_", "FLASHHEAD_", "LIVEACT_", "MINIATURE_", "XDG_")
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        places = {name: str(self.folder / name.lower()) for name in ("OMNIRT_LOCK_DIR", "OMNIRT_DATA_DIR")}
        return {
            **own,
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            **places,
            "OMNIRT_RUNTIME_DIR": str(self.folder / "run"),
            **QUICK,
            **self.env,
        }

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        assert self.process is not None
        self.process.wait(seconds)
        return self._reap()

    def stop(self) -> int:
        """SIGTERM, twice where a render should not be waited for."""
        if self.process is None or self.process.poll() is not None:
            return 0
        self.signal(signal.SIGTERM)
        # Two signals that are both pending are one.
        time.sleep(0.2)
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGTERM)
        return self.wait()

    def _reap(self) -> int:
        assert self.process is not None
        status = self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status

    def render_processes(self) -> list[psutil.Process]:
        """The processes that render for this server."""
        assert self.process is not None
        return [
            child
            for child in psutil.Process(self.process.pid).children()
            if any(word.endswith("render_process") for word in child.cmdline())
        ]


@contextlib.contextmanager
def serving(folder: Path, *flags: str, env: Mapping[str, str] | None = None, limits: Any = None) -> Iterator[Server]:
    """A server that is there, and gone afterwards with everything it started."""
    server = Server(folder, ("--backend", "cpu", "--no-resident", *flags), env or {}, limits)
    try:
        yield server.start()
    finally:
        server.stop()
        end_daemon(server)


def end_daemon(server: Server) -> None:
    """The resident daemon that a server's renders started, where they did."""
    connection = Connection.running(server.environment(), any_version=True)
    if connection is not None:
        connection.shut_down(30)


def body(**more: Any) -> dict[str, Any]:
    """A tiny render's request, inputs from the media root."""
    config = {**TINY, **more.pop("config", {})}
    inputs = {"image": "portrait.png", "audio": "speech.wav"}
    return {"task": "audio2video", "model": MODEL, "inputs": inputs, "config": config, **more}


def with_media(server: Server) -> Server:
    """The sample inputs in the media root, under the names of `body`."""
    for name in ("portrait.png", "speech.wav"):
        target = server.media / name
        if not target.exists():
            target.write_bytes((ASSETS / name).read_bytes())
    return server


def submit(client: httpx.Client, **more: Any) -> str:
    """Ask for a job; its id."""
    answer = client.post("/v1/jobs", json=body(**more))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def waiting_caller(server: Server) -> subprocess.Popen[bytes]:
    """A process that asks for a render and waits for it."""
    asking = f"import httpx; httpx.post({server.url!r} + '/v1/generate', json={body()!r}, timeout=170)"
    return subprocess.Popen([sys.executable, "-c", asking], stderr=subprocess.DEVNULL)


def job(client: httpx.Client, job_id: str) -> dict[str, Any]:
    found = client.get(f"/v1/jobs/{job_id}").json()
    assert isinstance(found, dict)
    return found


def finished(client: httpx.Client, job_id: str, seconds: float = 120) -> dict[str, Any]:
    """Wait until a job is final."""
    found = wait_for(
        lambda: (now := job(client, job_id)) and now["state"] in FINAL and now, seconds=seconds, what=f"{job_id}'s end"
    )
    assert isinstance(found, dict)
    return found


def generating(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """Wait until a job's first chunk is done."""
    found = wait_for(
        lambda: (now := job(client, job_id)) and now["progress"] and now["progress"]["chunks_done"] and now,
        seconds=90,
        what=f"{job_id}'s first chunk",
    )
    assert isinstance(found, dict)
    return found


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The one error body, and nothing but it."""
    document = answer.json()
    assert set(document) == {"error"}
    error = document["error"]
    assert set(error) == {"code", "message", "hint", "exit_code", "request_id", "job_id"}
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return dict(error)


def sse(lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(id, event, data) of each event of a stream."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line and "data" in fields:
            yield fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"])
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
