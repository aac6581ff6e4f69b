"""Finds the lines that tell something in a child's output, whatever else is in it.

Bytes come in blocks cut anywhere; out come `LogMark`s, the same however the blocks were cut. Progress bars,
colour, binary garbage and endless lines are expected. Which lines tell something is the model adapter's
knowledge (`LogRule`); what they mean for the run's times is `timings.py`'s, for its failure `failure.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from omnirt_cli.models.base import LogRule, MarkKind
from omnirt_cli.run import literals

LINE_BYTES = 1 << 16
"""Of a longer line only the head and the tail are kept, half of this each."""

TEXT_CHARS = 500
"""Of a mark's text."""

TAIL_LINES = 200
TAIL_BYTES = 1 << 16
TAIL_CHARS = 2000
"""The tail's limits: in lines, in bytes of output, in characters of each line."""

_CUT = b" [...] "

_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_STAMP = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}")
_RANK = re.compile(rb"\[rank(\d+)\]: ?")
_ORIGIN = datetime(1970, 1, 1)
_MILLISECOND = timedelta(milliseconds=1)


class LogMark(NamedTuple):
    """One recognised line; a tuple, for a long run makes hundreds of thousands.

    Attributes:
        index: The number in the line (of a chunk), where its rule reads one.
        value_ms: The duration in the line, where its rule reads one.
        stamp_ms: The line's own wall-clock stamp in milliseconds from an arbitrary origin: only differences
            mean something, and the child's clock may jump.
        at_s: Monotonic time of arrival here.
        line: From its own stamp on, or from where its rule fits.
        rank: From torchrun's `[rank1]: ` prefix, where there is one.
    """

    kind: MarkKind
    at_s: float
    line: bytes
    index: int | None = None  # type: ignore[assignment]  # stands for tuple.index, which nobody needs here
    value_ms: float | None = None
    stamp_ms: float | None = None
    rank: int | None = None

    @property
    def text(self) -> str:
        """The line for people, at most `TEXT_CHARS` of it."""
        return plain(self.line, TEXT_CHARS)


class LogScanner:
    """Reads a stream of blocks once, for every consumer.

    Attributes:
        first_output_at: Arrival of the first byte (monotonic seconds), None before it.
    """

    def __init__(self, rules: Sequence[LogRule], watch: Callable[[bytes], None] | None = None) -> None:
        """Prepare to scan.

        Args:
            rules: The lines to recognise.
            watch: Called with every run of complete lines, for a reader with needles of its own.
        """
        needles = list(dict.fromkeys(rule.needle for rule in rules))
        self._find = literals.finder(needles)
        self._rules = [[rule for rule in rules if rule.needle == needle] for needle in needles]
        self._watch = watch
        self._pending = _PendingLine()
        self._tail = _Tail()
        self.first_output_at: float | None = None

    def feed(self, block: bytes, at_s: float) -> list[LogMark]:
        """Read a block that arrived at `at_s` (monotonic seconds); marks come in the order of the text."""
        if not block:
            return []
        if self.first_output_at is None:
            self.first_output_at = at_s
        end = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        if end == 0:
            self._pending.append(block)
            return []
        lines = self._pending.take() + memoryview(block)[:end]
        self._pending.append(block[end:])
        return self._scan(lines, at_s)

    def finish(self, at_s: float) -> list[LogMark]:
        """Read what is left: a last line that was never ended."""
        rest = self._pending.take()
        return self._scan(rest + b"\n", at_s) if rest else []

    def tail(self) -> list[str]:
        """The last lines of the output, oldest first; a progress bar appears once, in its last state."""
        return self._tail.lines(self._pending.peek())

    def _scan(self, lines: bytes, at_s: float) -> list[LogMark]:
        self._tail.append(lines)
        if self._watch is not None:
            self._watch(lines)
        lines = _without_ansi(lines).replace(b"\r", b"\n")
        marks: list[LogMark] = []
        for line, numbers in _lines_with(self._find(lines), lines):
            if len(numbers) > 1:
                marks += self._all_marks(line, numbers, at_s)
                continue
            for rule in self._rules[numbers[0]]:
                match = rule.pattern.search(line)
                if match:
                    marks.append(_mark(rule.kind, line, match, at_s))
        return marks

    def _all_marks(self, line: bytes, numbers: Sequence[int], at_s: float) -> list[LogMark]:
        """Every mark in a line with several literals: two ranks can write into the same one."""
        rules = [rule for number in dict.fromkeys(numbers) for rule in self._rules[number]]
        found = [(match, rule.kind) for rule in rules for match in rule.pattern.finditer(line)]
        found.sort(key=lambda entry: entry[0].start())
        return [_mark(kind, line, match, at_s) for match, kind in found]


class _PendingLine:
    """A line whose end has not come yet, in bounded memory: its head and its tail."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = False

    def append(self, piece: bytes) -> None:
        room = LINE_BYTES // 2 - len(self._head)
        self._head += piece[:room]
        self._tail += piece[room:]
        if len(self._tail) > LINE_BYTES // 2:
            del self._tail[: -(LINE_BYTES // 2)]
            self._dropped = True

    def peek(self) -> bytes:
        return bytes(self._head + (_CUT if self._dropped else b"") + self._tail)

    def take(self) -> bytes:
        line = self.peek()
        self._head.clear()
        self._tail.clear()
        self._dropped = False
        return line


class _Tail:
    """The end of the output, raw until somebody asks for it."""

    def __init__(self) -> None:
        self._raw = bytearray()

    def append(self, lines: bytes) -> None:
        if b"\n" not in lines:
            # A bar that rewrites itself for hours must not push everything else out.
            del self._raw[self._raw.rfind(b"\n") + 1 :]
        self._raw += lines[-TAIL_BYTES:]
        if len(self._raw) > 2 * TAIL_BYTES:
            del self._raw[:-TAIL_BYTES]

    def lines(self, pending: bytes) -> list[str]:
        raw = bytes(self._raw[-TAIL_BYTES:]) + pending
        rows = (plain(_last_state(row), TAIL_CHARS) for row in raw.split(b"\n"))
        return [row for row in rows if row.strip()][-TAIL_LINES:]


def _last_state(row: bytes) -> bytes:
    """What a terminal would show of a line that rewrites itself."""
    states = [state for state in row.split(b"\r") if state.strip()]
    return states[-1] if states else b""


def _lines_with(hits: Sequence[tuple[int, int, int]], lines: bytes) -> Iterator[tuple[bytes, list[int]]]:
    """The lines that contain literals, clipped, in order; and the literals' numbers."""
    start = end = 0
    numbers: list[int] = []
    for number, position, _ in hits:
        if position < end:
            numbers.append(number)
            continue
        if numbers:
            yield clip(lines[start:end]), numbers
        start = lines.rfind(b"\n", 0, position) + 1
        end = lines.find(b"\n", position)
        numbers = [number]
    if numbers:
        yield clip(lines[start:end]), numbers


def clip(line: bytes) -> bytes:
    """A line within `LINE_BYTES`: its head and its tail."""
    if len(line) <= LINE_BYTES:
        return line
    half = LINE_BYTES // 2
    return line[:half] + _CUT + line[-half:]


def plain(line: bytes, limit: int) -> str:
    """A line as text for people: no colour, no NULs, invalid UTF-8 replaced, hardly more than `limit` long.

    Of a longer line the end is kept too, for it may hold the point ("returned non-zero exit status 1").
    """
    if b"\x1b" in line:
        line = _ANSI.sub(b"", line)
    text = line.replace(b"\0", b"").decode("utf-8", "replace").rstrip()
    if len(text) <= limit:
        return text
    return text[: limit * 3 // 4] + _CUT.decode() + text[-(limit // 4) :]


def _without_ansi(lines: bytes) -> bytes:
    if b"\x1b" not in lines:
        return lines
    rows = lines.splitlines()
    if max(map(len, rows)) > LINE_BYTES:
        lines = b"".join(clip(row) + b"\n" for row in rows)
    return _ANSI.sub(b"", lines)


def _mark(kind: MarkKind, line: bytes, match: re.Match[bytes], at_s: float) -> LogMark:
    start = match.start()
    before = line[:start]
    stamp = _last(_STAMP, before) if before else None
    rank = _last(_RANK, before) if b"[rank" in before else None
    groups = match.groupdict()
    index, seconds, value_ms = (_number(groups.get(name)) for name in ("index", "seconds", "ms"))
    return LogMark(
        kind,
        at_s,
        line[stamp.start() if stamp else start :],
        None if index is None else int(index),
        value_ms if seconds is None else seconds * 1000,
        _stamp_ms(stamp[0]) if stamp else None,
        int(rank[1]) if rank else None,
    )


def _last(pattern: re.Pattern[bytes], text: bytes) -> re.Match[bytes] | None:
    last = None
    for last in pattern.finditer(text):  # noqa: B007
        pass
    return last


def _number(digits: bytes | None) -> float | None:
    """A number, or None for anything that is none or not finite: the text is a stranger's."""
    if digits is None:
        return None
    try:
        value = float(digits)
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None


def _stamp_ms(stamp: bytes) -> float | None:
    try:
        return (datetime.fromisoformat(stamp.decode()) - _ORIGIN) / _MILLISECOND
    except ValueError:
        return None
