"""Finds many literals in a long run of bytes, in one pass.

The work is `ahocorasick_rs`'s, which searches with vector instructions: one `bytes.find` for each literal takes some
twenty times as long, and a log can be gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ahocorasick_rs

Finder = Callable[[bytes], Sequence[tuple[int, int, int]]]
"""Gives every occurrence as (the literal's number, start, end), in the order of the text.

Of two literals that overlap in the text only one is sure to be given.
"""


def finder(literals: Sequence[bytes]) -> Finder:
    """A function that finds these literals in a text."""
    # The library uses vector instructions for the leftmost kinds of match only.
    automaton = ahocorasick_rs.BytesAhoCorasick(literals, matchkind=ahocorasick_rs.MatchKind.LeftmostFirst)
    return automaton.find_matches_as_indexes
