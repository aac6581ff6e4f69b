"""The daemon under test: started by its own client, with the stand-in for a worker, and looked at afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launchers.model_env.omnirt_worker.wire import Message
from launchers.process import GuardEvent
from omnirt_cli.resident.client import Connection
from omnirt_cli.resident.folders import MARK_PREFIX
from omnirt_cli.resident.hot_request import HotRequest
from omnirt_cli.resident.spec import WorkerInfo, WorkerKey, WorkerSpec

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).with_name("stand_in_worker.py")
MARK = f"OMNIRT_RUN_ID={MARK_PREFIX}".encode()


def key(settled: str = "") -> WorkerKey:
    return WorkerKey(
        model="stand-in",
        checkout="/checkout",
        revision=None,
        devices_kind="cpu",
        processes=1,
        ckpt_dir="/ckpt",
        wav2vec_dir="/wav2vec",
        width=64,
        height=64,
        frame_num=29,
        motion_frames_num=1,
        fps=25,
        settled=settled,
    )


def spec(
    settled: str = "",
    *,
    device_ids: tuple[str, ...] = (),
    idle_timeout_s: float = 0.0,
    start_timeout_s: float = 60.0,
    grace_s: float = 1.0,
    leave_s: float = 60.0,
    **orders: Any,
) -> WorkerSpec:
    """A stand-in that loads as `orders` say."""
    return WorkerSpec(
        key=key(settled),
        device_ids=device_ids,
        argv=(sys.executable, "-S", str(STAND_IN)),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        files={"serve.json": json.dumps({"socket": "worker.sock", **orders}).encode()},
        title="stand-in",
        idle_timeout_s=idle_timeout_s,
        start_timeout_s=start_timeout_s,
        grace_s=grace_s,
        leave_s=leave_s,
    )


@dataclass
class Followed:
    """What a request's client saw of it."""

    output: bytearray = field(default_factory=bytearray)
    messages: list[Message] = field(default_factory=list)
    events: list[GuardEvent] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.output.decode()

    def count(self, kind: str) -> int:
        return sum(message.type == kind for message in self.messages)


def ask(connection: Connection, worker: WorkerInfo, seen: Followed, **render: Any) -> HotRequest:
    return connection.render(
        worker.id,
        uuid.uuid4().hex,
        {"render": render, "picture": None, "frames": "none"},
        on_message=seen.messages.append,
    )


def follow(request: HotRequest, seen: Followed, *, until: Any = None, seconds: float = 20.0) -> None:
    """Watch a request as a run's loop does, to its end or until something is true."""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(request.output_fd, selectors.EVENT_READ, "output")
        selector.register(request.status_fd, selectors.EVENT_READ, "status")
        while not request.finished and not (until and until()):
            assert time.monotonic() < deadline, f"the request did not come to its end: {seen}"
            ready = {key.data for key, _ in selector.select(0.1)}
            if "output" in ready and not read_output(request, seen):
                selector.unregister(request.output_fd)
            if "status" in ready:
                seen.events += request.read_status()
    while request.finished and read_output(request, seen):
        continue


def read_output(request: HotRequest, seen: Followed) -> bool:
    try:
        block = os.read(request.output_fd, 1 << 16)
    except BlockingIOError:
        return False
    seen.output += block
    return bool(block)


def render(connection: Connection, worker: WorkerInfo, **asked: Any) -> tuple[HotRequest, Followed]:
    """One whole request."""
    seen = Followed()
    with ask(connection, worker, seen, **asked) as request:
        follow(request, seen)
    return request, seen


def worker_processes(worker_id: str = "") -> list[int]:
    """Live processes of a worker (of any, without an id), its guard not counted."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            alive = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            if alive and MARK + worker_id.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_for(condition: Any, *, seconds: float = 15.0, what: str = "the condition") -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s")


def info(connection: Connection, worker: WorkerInfo) -> WorkerInfo | None:
    return next((one for one in connection.workers() if one.id == worker.id), None)


def environ_of(folder: Path) -> Mapping[str, str]:
    return {**os.environ, "OMNIRT_RUNTIME_DIR": str(folder)}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def end_daemon(folder: Path) -> None:
    """Whatever became of it in the test; one that does not leave is killed, and fails the test."""
    connection = Connection.running(environ_of(folder), any_version=True) if is_private(folder) else None
    if connection is None:
        return
    pid = connection.daemon.pid
    try:
        connection.shut_down(10.0)
        wait_for(lambda: not alive(pid), seconds=5, what="the daemon's end")
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        raise


def is_private(folder: Path) -> bool:
    return folder.is_dir() and folder.stat().st_mode & 0o077 == 0
