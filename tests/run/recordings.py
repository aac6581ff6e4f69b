"""Recorded output of real runs: what the child wrote, as bytes and with its times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "data" / "logs"


@dataclass(frozen=True)
class Recording:
    """One run: its exit status and each line with its arrival."""

    exit_code: int
    torchrun: bool
    lines: tuple[tuple[float, bytes], ...]

    @property
    def output(self) -> bytes:
        return b"".join(line for _, line in self.lines)


def recording(name: str) -> Recording:
    """Read `<seconds> O|payload` lines; the first two tell the exit status and the command."""
    status, command, *rows = (FOLDER / f"{name}.log").read_bytes().split(b"\n")
    lines = []
    for row in rows:
        if row:
            seconds, _, payload = row.partition(b"|")
            lines.append((float(seconds.split()[0]), payload.removeprefix(b" ") + b"\n"))
    return Recording(int(status.split(b"rc=")[1].split()[0]), b"distributed.run" in command, tuple(lines))
