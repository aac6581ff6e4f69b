"""Literals: every occurrence, in the order of the text."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from omnirt_cli.run.literals import finder

LITERALS = (b"Generate video chunk-", b"[generate", b"Error", b"\xff\0")

TEXTS = st.lists(st.sampled_from([*LITERALS, b"Generate video", b"[gene", b"rror", b"\n", b"\xff", b"x" * 70])).map(
    b"".join
)


def hits_of_a_pattern(text: bytes) -> list[tuple[int, int, int]]:
    """What `re` finds: slow, and surely right."""
    pattern = re.compile(b"|".join(b"(" + re.escape(literal) + b")" for literal in LITERALS))
    return [(match.lastindex - 1, *match.span()) for match in pattern.finditer(text) if match.lastindex]


@given(text=TEXTS)
def test_every_occurrence_is_found_in_order(text: bytes) -> None:
    assert list(finder(LITERALS)(text)) == hits_of_a_pattern(text)


def test_a_literal_that_follows_itself_is_found_each_time() -> None:
    assert [start for _, start, _ in finder(LITERALS)(b"ErrorErrorError")] == [0, 5, 10]


def test_no_literals_are_never_found() -> None:
    assert list(finder(())(b"anything")) == []
