"""Times, amounts and foreign text as a page shows them. Knows no report."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

MOST_CHARACTERS = 2_000
"""Of one text that comes from outside; what is longer is cut, and that is said."""

MOST_ITEMS = 100
"""Of one list that comes from outside, likewise."""

NOTHING = "\N{EN DASH}"
"""What stands where a figure is not known."""

_BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_KEPT_CONTROLS = "\n\t"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Listing(Generic[Item]):
    """The first of many things.

    Attributes:
        more: How many were left out.
    """

    items: tuple[Item, ...]
    more: int = 0

    @classmethod
    def of(cls, items: Iterable[Item], most: int = MOST_ITEMS) -> Listing[Item]:
        """The first `most` of them."""
        every = tuple(items)
        return cls(every[:most], max(0, len(every) - most))

    def __bool__(self) -> bool:
        return bool(self.items)


def span(milliseconds: float | None) -> str:
    """A time for people: `451 ms`, `3.3 s`, `2 min 05 s`, `1 h 07 min`."""
    if milliseconds is None:
        return NOTHING
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms".replace(".0 ", " ")
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def number(value: float | None) -> str:
    """A plain figure with as many digits as it needs, three at most after the point."""
    if value is None:
        return NOTHING
    return f"{value:.3f}".rstrip("0").rstrip(".")


def amount(size_bytes: int) -> str:
    """A file's size."""
    for unit, name in _BYTES:
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} bytes"


def moment(stamp: str) -> str:
    """A UTC stamp without its `T` and its fractions."""
    return f"{stamp[:19].replace('T', ' ')} UTC"


def value(found: Any) -> str:
    """Any value of a report in one line."""
    if found is None:
        return NOTHING
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, float):
        return number(found)
    if isinstance(found, dict):
        return ", ".join(f"{key} {value(inner)}" for key, inner in found.items())
    if isinstance(found, (list, tuple)):
        return ", ".join(value(inner) for inner in found)
    return str(found)


def printable(text: str) -> str:
    """Text that any browser takes: no control characters, no halves of characters, no more than so much of it."""
    kept = text[:MOST_CHARACTERS]
    whole = kept.encode("utf-8", "replace").decode("utf-8")
    shown = "".join(_visible(letter) for letter in whole)
    left_out = len(text) - len(kept)
    return f"{shown}… ({left_out} more characters)" if left_out else shown


def _visible(letter: str) -> str:
    if letter in _KEPT_CONTROLS or unicodedata.category(letter) != "Cc":
        return letter
    # The pictures of the C0 controls stand in the order of the controls.
    return chr(0x2400 + ord(letter)) if ord(letter) < 0x20 else "\N{REPLACEMENT CHARACTER}"
