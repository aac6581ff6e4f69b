"""Processes beside the tests' own that take leases: started, asked and ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("devices") / "lease_worker.py"


@contextlib.contextmanager
def lease_worker(**orders: Any) -> Iterator[subprocess.Popen[str]]:
    """The worker with these orders; it is gone at the block's end."""
    orders["folder"] = str(orders["folder"])
    process = subprocess.Popen(
        [sys.executable, str(WORKER), json.dumps(orders)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the worker says next."""
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.readline())
    return said


def start_together(*processes: subprocess.Popen[str]) -> None:
    """Let workers that wait for the start begin, once all of them do."""
    for process in processes:
        assert answer(process) == {"ready": True}
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def leave_now(process: subprocess.Popen[str]) -> None:
    """Let a worker that holds leases end."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=20)
