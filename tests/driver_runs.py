"""The worker program and the scripts that it stands for, run side by side on the miniature; raw frames are compared."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers.model_env.omnirt_worker import wire
from omnirt_cli.models.driven import PROGRAM
from tests.miniature import miniature_runs

SIDE = 64
"""Of the picture that `miniature_runs.work_dir` sets."""

_ENCODER = """#!{python}
import sys, time
target = sys.argv[-1].removeprefix("file:")
with open(target, "wb") as file:
    while data := sys.stdin.buffer.read(1 << 16):
        time.sleep({delay_s})
        file.write(data)
"""


@dataclass(frozen=True)
class Driven:
    """One ended run of the worker program; `pixels` is what its encoder got."""

    returncode: int
    stdout: str
    stderr: str
    picture: Path

    @property
    def pixels(self) -> bytes:
        return self.picture.read_bytes()


def raw_encoder(folder: Path, *, delay_s: float = 0.0) -> Path:
    """A program in ffmpeg's place that writes what it gets as it is."""
    place = folder / "raw encoder"
    place.write_text(_ENCODER.format(python=sys.executable, delay_s=delay_s))
    place.chmod(0o755)
    return place


def request(
    variant: str, audio: Path, *, mode: str, chunks: int, model_type: str = "pro", **more: Any
) -> dict[str, Any]:
    """A request at the miniature's tiny size."""
    head = variant in miniature_runs.FLASHHEAD
    base = {"image": str(miniature_runs.PORTRAIT), "seed": 3}
    return {
        "model": {
            "checkout": str(miniature_runs.CHECKOUTS / variant),
            "package": miniature_runs.package(variant),
            "load": {"ckpt_dir": "weights", "wav2vec_dir": "wav2vec"}
            | ({"model_type": model_type} if head else {"cpu_offload": False, "quantize": None}),
            "params": more.get("params", {}),
            "constants": more.get("constants", {}),
        },
        "render": {
            "base": base | ({"face_crop": False} if head else {"prompt": "A person is talking."}),
            "audio": str(audio),
            "mode": mode,
            "pads": variant not in ("flashtalk_old", "flashtalk_quant"),
            "chunks": chunks,
        },
        "picture": {
            "ffmpeg": str(more.get("ffmpeg") or shutil.which("ffmpeg")),
            "path": "frames.mp4",
            "width": SIDE,
            "height": SIDE,
            "fps": 25,
        },
    }


def drive(cwd: Path, asked: dict[str, Any], *, ranks: int = 0, env: dict[str, str] | None = None) -> Driven:
    """Run the worker program in a directory that has the checkout's parameters."""
    (cwd / "driver.json").write_text(json.dumps(asked))
    launcher = miniature_runs.torchrun(ranks) if ranks else []
    done = subprocess.run(
        [sys.executable, *launcher, str(PROGRAM), "--request=driver.json"],
        cwd=cwd,
        env=miniature_runs.environment({"MINIATURE_TORCH": "1" if ranks else "0"} | (env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=150,
        check=False,
    )
    return Driven(
        done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"), cwd / asked["picture"]["path"]
    )


# --- resident -------------------------------------------------------------------------------------

SETTLE_S = 1.0
"""Of a worker's ranks, here."""


@dataclass(frozen=True)
class Answer:
    """What a worker said to one request."""

    messages: tuple[wire.Message, ...]

    @property
    def last(self) -> Mapping[str, Any]:
        return self.messages[-1].header

    @property
    def chunks(self) -> list[Mapping[str, Any]]:
        return [message.header for message in self.messages if message.type == "chunk"]

    @property
    def prepared(self) -> Mapping[str, Any]:
        (found,) = (message.header for message in self.messages if message.type == "prepared")
        return found

    @property
    def pixels(self) -> bytes:
        return b"".join(message.body for message in self.messages if message.type == "chunk")


class Resident:
    """A resident worker, started as its daemon would, and a client of it. A context that ends it."""

    def __init__(self, cwd: Path, asked: dict[str, Any], *, ranks: int = 0, env: dict[str, str] | None = None) -> None:
        self.write_serve(cwd, asked)
        self.cwd = cwd
        self.log = cwd / "worker.log"
        launcher = miniature_runs.torchrun(ranks) if ranks else []
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *launcher, str(PROGRAM), "--serve=serve.json"],
                cwd=cwd,
                env=miniature_runs.environment({"MINIATURE_TORCH": "1" if ranks else "0"} | (env or {})),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.ready: Mapping[str, Any] = {}
        self.sock = self._connected()

    @staticmethod
    def write_serve(cwd: Path, asked: dict[str, Any]) -> None:
        """What the program is started with."""
        serve = {"model": asked["model"], "socket": "worker.sock", "ranks_socket": "ranks.sock", "settle_s": SETTLE_S}
        (cwd / "serve.json").write_text(json.dumps(serve))

    def _connected(self) -> socket.socket:
        deadline = time.monotonic() + 60
        while True:
            try:
                sock = wire.connect(self.cwd, "worker.sock", 0.5)
                break
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
        sock.settimeout(60)
        hello = wire.receive(sock)
        assert hello is not None
        self.ready = hello.header
        return sock

    def reconnect(self) -> None:
        self.sock.close()
        self.sock = self._connected()

    def ask(self, asked: dict[str, Any], *, name: str = "r", frames: str = "raw", picture: bool = False) -> None:
        """Send a request; the driver's own form, without its model."""
        document = {"render": asked["render"], "picture": asked["picture"] if picture else None, "frames": frames}
        wire.send(self.sock, {"type": "render", "id": name, **document})

    def until(self, *types: str) -> tuple[wire.Message, ...]:
        """Messages up to the first of one of these types."""
        got = []
        while True:
            message = wire.receive(self.sock)
            assert message is not None, self.log.read_text()
            got.append(message)
            if message.type in types:
                return tuple(got)

    def render(self, asked: dict[str, Any], **more: Any) -> Answer:
        self.ask(asked, **more)
        return Answer(self.until("done", "failed"))

    def ends(self) -> int:
        """Wait for the end of the whole program."""
        return self.process.wait(30)

    def __enter__(self) -> Resident:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
