"""What a run's log told that its report has no place for, and that explains a slow run or a bad picture.

The lines come through the scanner's one pass; what is kept of them is bounded. What they mean for a run is
`diagnosis_rules.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from omnirt_cli.models.base import LogRule, MarkKind

if TYPE_CHECKING:
    from omnirt_cli.run.log_scanner import LogMark

RANKS_AT_MOST = 64
REMARK_CHARS = 200

_DEVICE = re.compile(r"\bdevice[=:] ?(\w+(?::\d+)?)")


class Clue(str, Enum):
    """A remark that a library makes in passing."""

    CPU_FALLBACK = "cpu_fallback"
    """torch_npu has no code for an operator and computes it on the CPU."""
    NOT_A_NUMBER = "not_a_number"
    """numpy turned NaN or infinity into a pixel."""
    RECOMPILES = "recompiles"
    """torch.compile met so many shapes that it gave up compiling."""
    SLOW_ATTENTION = "slow_attention"
    """Wan's code found no flash attention and takes torch's own."""
    TEXT_ENCODER = "text_encoder"
    """A traceback that leads through the T5 text encoder."""


_PATTERNS = {
    Clue.CPU_FALLBACK: (
        b"will fall back to run on the CPU",
        rb"(?:operator '[^']{1,100}' .{0,80})?will fall back to run on",
    ),
    Clue.NOT_A_NUMBER: (b"invalid value encountered in cast", rb"invalid value encountered in cast"),
    Clue.RECOMPILES: (b"torch._dynamo hit config.", rb"torch\._dynamo hit config\.\w+"),
    Clue.SLOW_ATTENTION: (
        b"when using scaled_dot_product_attention",
        rb"Padding mask is disabled when using scaled_dot_product_attention",
    ),
    Clue.TEXT_ENCODER: (b't5.py", line ', rb't5\.py", line \d+'),
}
_BY_NEEDLE = {needle: clue for clue, (needle, _) in _PATTERNS.items()}

CLUE_RULES = tuple(LogRule(MarkKind.CLUE, needle, re.compile(pattern)) for needle, pattern in _PATTERNS.values())
"""For the scanner, beside a model's own rules."""


@dataclass(frozen=True)
class LogFacts:
    """What is kept of a log.

    Attributes:
        devices: Rank -> the device that it says it computes on, by its index inside the run.
        clues: Each with the first line that gave it.
    """

    devices: Mapping[int, str] = field(default_factory=dict)
    clues: Mapping[Clue, str] = field(default_factory=dict)


class LogFactsReader:
    """Collects a run's facts from its marks."""

    def __init__(self) -> None:
        self._devices: dict[int, str] = {}
        self._clues: dict[Clue, str] = {}

    def note(self, mark: LogMark) -> None:
        """Take a mark in; those of other kinds are ignored."""
        if mark.kind is MarkKind.CLUE:
            self._note_clue(mark)
        elif mark.kind is MarkKind.DEVICE and mark.index is not None and len(self._devices) < RANKS_AT_MOST:
            found = _DEVICE.search(mark.text)
            if found:
                self._devices[mark.index] = found[1]

    def _note_clue(self, mark: LogMark) -> None:
        for needle, clue in _BY_NEEDLE.items():
            if needle in mark.line:
                self._clues.setdefault(clue, mark.text[:REMARK_CHARS])

    def facts(self) -> LogFacts:
        """What was collected so far."""
        return LogFacts(dict(self._devices), dict(self._clues))
