"""Runs of the real command line for the tests: started, signalled, and looked at afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "omnirt_cli" / "miniature" / "assets"
CHECKOUTS = ROOT / "omnirt_cli" / "miniature" / "checkouts"

RUN_MARK = b"OMNIRT_RUN_ID="

# Without torch a rank starts in a fraction of the time; runs that need real ranks turn it on again.
QUICK = {"MINIATURE_TORCH": "0"}
TINY = ("--size", "128*128")


@dataclass(frozen=True)
class Finished:
    """An ended command line."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def json(self) -> dict[str, Any]:
        document = json.loads(self.stdout)
        assert isinstance(document, dict)
        return document

    @property
    def report(self) -> dict[str, Any]:
        found = self.json["metadata"]
        assert isinstance(found, dict)
        return found


def omnirt(*args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 120) -> Finished:
    """Run the command line to its end."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "omnirt", *args],
        capture_output=True,
        env=environment(env),
        cwd=cwd,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    return Finished(
        done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode(), time.monotonic() - began
    )


def start(*args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Start the command line in a session of its own, as a shell's job control would in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "omnirt", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, **QUICK, "PYTHONPATH": path, **(extra or {})}


def generate_args(
    output: Path, *more: str, model: str = "soulx-flashtalk-14b", image: Path | None = None, audio: Path | None = None
) -> list[str]:
    """A tiny render by the miniature."""
    return [
        "generate",
        "--model",
        model,
        "--backend",
        "cpu",
        *TINY,
        "--image",
        str(image or ASSETS / "portrait.png"),
        "--audio",
        str(audio or ASSETS / "speech.wav"),
        "--output",
        str(output),
        *more,
    ]


def checkout(name: str) -> tuple[str, ...]:
    """Flags for one of the miniature's variants as a configured checkout."""
    return ("--repo-path", str(CHECKOUTS / name), "--python-executable", sys.executable)


def marked_processes(run_id: str | None = None) -> list[int]:
    """Processes that carry a run's mark (any run's, without an id)."""
    needle = RUN_MARK + (run_id or "").encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            alive = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            if alive and needle in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_for(condition: Any, *, seconds: float = 30.0, what: str = "the condition") -> Any:
    """Poll until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true within {seconds} s")


def read_report(output: Path) -> dict[str, Any]:
    found = json.loads(output.with_name(output.stem + ".report.json").read_text())
    assert isinstance(found, dict)
    return found


def log_has(output: Path, text: str) -> bool:
    log = output.with_name(output.stem + ".log")
    return log.exists() and text.encode() in log.read_bytes()


def kill_hard(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def finish(process: subprocess.Popen[bytes], timeout: float = 30) -> Finished:
    """Wait for a started command line and collect what it said."""
    began = time.monotonic()
    stdout, stderr = process.communicate(timeout=timeout)
    return Finished(process.returncode, stdout.decode(), stderr.decode(), time.monotonic() - began)


def scratch_dirs(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob(".omnirt-*"))
