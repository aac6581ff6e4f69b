"""Finds literals in a long run of bytes, whatever they mean.

All in one pass where `ahocorasick_rs` is installed: it searches with vector instructions. Otherwise one after the
other, which gives the same and takes some twenty times as long.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from operator import itemgetter

Finder = Callable[[bytes], Sequence[tuple[int, int, int]]]
"""Gives every occurrence as (the literal's number, start, end), in the order of the text.

Of two literals that overlap in the text only one is sure to be given.
"""


def finder(literals: Sequence[bytes]) -> Finder:
    """The quickest finder that is installed."""
    if importlib.util.find_spec("ahocorasick_rs") is None:
        return one_by_one(literals)
    return all_at_once(literals)


def all_at_once(literals: Sequence[bytes]) -> Finder:
    """A finder that reads the text once.

    Raises:
        ImportError: `ahocorasick_rs` is not installed.
    """
    library = importlib.import_module("ahocorasick_rs")
    # The library uses vector instructions for the leftmost kinds of match only.
    automaton = library.BytesAhoCorasick(literals, matchkind=library.MatchKind.LeftmostFirst)
    find: Finder = automaton.find_matches_as_indexes
    return find


def one_by_one(literals: Sequence[bytes]) -> Finder:
    """A finder that reads the text once for each literal."""

    def find(text: bytes) -> list[tuple[int, int, int]]:
        hits = [
            (number, start, start + len(literal))
            for number, literal in enumerate(literals)
            for start in _starts(literal, text)
        ]
        return sorted(hits, key=itemgetter(1))

    return find


def _starts(literal: bytes, text: bytes) -> list[int]:
    starts = []
    start = text.find(literal)
    while start >= 0:
        starts.append(start)
        start = text.find(literal, start + len(literal))
    return starts
