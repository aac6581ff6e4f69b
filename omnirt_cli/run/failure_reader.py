"""Keeps, while a run goes, the few lines of its output that may explain a failure; in bounded memory.

What they mean is `failure.py`'s, which a run that goes well never imports.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

from omnirt_cli.run import literals
from omnirt_cli.run.log_scanner import clip, plain

ALARMS = (b"Error", b"Traceback (most recent call last)")
"""What opens a window on the output: nearly every failure says one of them, nearly nothing else does. What
fails without (argparse, a native crash) is in the output's tail."""

WINDOW_LINES = 100
"""Lines kept after an alarm: HCCL and torchrun explain themselves below the line that has the word."""

FIRST_LINES = 500
LAST_LINES = 2000
LINE_CHARS = 2000

_RANK_PREFIX = re.compile(r"^.{0,200}?\[rank(\d+)\]: ?")


@dataclass(frozen=True)
class Row:
    """A kept line and who wrote it."""

    rank: int | None
    text: str


class FailureReader:
    """Keeps the lines around every alarm: the first ones and the last ones."""

    def __init__(self) -> None:
        self._first: list[Row] = []
        self._last: deque[Row] = deque(maxlen=LAST_LINES)
        self._left = 0
        self._find_alarms = literals.finder(ALARMS)

    def read(self, lines: bytes) -> None:
        """Look through a run of complete lines."""
        alarms = [start for _, start, _ in self._find_alarms(lines)]
        position = 0
        while position < len(lines):
            if not self._left:
                ahead = bisect_left(alarms, position)
                if ahead == len(alarms):
                    return
                position = _start_of_line(lines, alarms[ahead], position)
            position = self._take_line(lines, position)

    def rows(self) -> list[Row]:
        """What was kept, in order."""
        return [*self._first, *self._last]

    def _take_line(self, lines: bytes, start: int) -> int:
        end = _line_end(lines, start)
        line = lines[start:end]
        self._left = WINDOW_LINES if any(alarm in line for alarm in ALARMS) else self._left - 1
        if line.strip():
            target = self._first if len(self._first) < FIRST_LINES else self._last
            target.append(row_of(plain(clip(line), LINE_CHARS)))
        return end + 1


def row_of(text: str) -> Row:
    """A line without its `[rank1]: ` prefix, which can stand behind a progress bar."""
    prefix = _RANK_PREFIX.match(text)
    return Row(int(prefix[1]), text[prefix.end() :]) if prefix else Row(None, text)


def _start_of_line(lines: bytes, position: int, first: int) -> int:
    """Where the line at `position` starts, not before `first`."""
    return max(lines.rfind(b"\n", first, position), lines.rfind(b"\r", first, position), first - 1) + 1


def _line_end(lines: bytes, start: int) -> int:
    newline = lines.find(b"\n", start)
    end = len(lines) if newline < 0 else newline
    carriage_return = lines.find(b"\r", start, end)
    return end if carriage_return < 0 else carriage_return
