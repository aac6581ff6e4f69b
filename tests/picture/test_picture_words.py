"""Times, amounts, foreign text and axes as a page shows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirt_cli.picture.scale import Scale
from omnirt_cli.picture.words import MOST_CHARACTERS, Listing, amount, moment, number, printable, span, value


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0 ms"),
        (2.46, "2.5 ms"),
        (451.0, "451 ms"),
        (999.6, "1.00 s"),
        (3_299.4, "3.30 s"),
        (99_940.0, "99.9 s"),
        (125_000.0, "2 min 05 s"),
        (4_020_000.0, "1 h 07 min"),
    ],
)
def test_times_are_said_as_people_do(milliseconds: float | None, words: str) -> None:
    assert span(milliseconds) == words


def test_plain_values() -> None:
    assert [number(0.48), number(9.0), number(None)] == ["0.48", "9", "\N{EN DASH}"]
    assert [amount(12), amount(200_580), amount(5 << 30)] == ["12 bytes", "195.9 KiB", "5.0 GiB"]
    assert moment("2026-11-20T10:01:12.600Z") == "2026-11-20 10:01:12 UTC"
    assert value({"width": 768, "alpha": False, "of": [1.5, None]}) == "width 768, alpha no, of 1.5, \N{EN DASH}"


@given(st.text(st.characters()))
def test_foreign_text_becomes_what_any_browser_takes(text: str) -> None:
    shown = printable(text)

    shown.encode("utf-8")
    assert not [
        letter for letter in shown if (ord(letter) < 0x20 and letter not in "\n\t") or 0x7F <= ord(letter) < 0xA0
    ]


def test_control_characters_are_shown_and_half_characters_replaced() -> None:
    assert printable("\x1b[31mred\x00") == "\N{SYMBOL FOR ESCAPE}[31mred\N{SYMBOL FOR NULL}"
    assert printable("a\udc80b") == "a?b"
    assert printable("Grüße, 你好, 🙂") == "Grüße, 你好, 🙂"


def test_long_text_is_cut_and_that_is_said() -> None:
    shown = printable("x" * (MOST_CHARACTERS + 1_234))

    assert len(shown) < MOST_CHARACTERS + 40
    assert shown.endswith("x… (1234 more characters)")


def test_long_lists_are_cut_and_that_is_said() -> None:
    assert Listing.of(range(5), most=3) == Listing((0, 1, 2), more=2)
    assert not Listing.of([])


@given(st.floats(0.01, 1e10))
def test_an_axis_of_times_has_few_marks_and_all_of_them_inside(top: float) -> None:
    marks = Scale.time(top).marks

    assert len(marks) <= 6
    assert all(0 < at <= max(top, 1.0) * 1.000001 for at, _ in marks)
    assert len({words for _, words in marks}) == len(marks)


@given(st.floats(0.01, 1e6))
def test_an_axis_of_figures_has_few_marks_and_all_of_them_inside(top: float) -> None:
    marks = Scale.plain(top).marks

    assert 0 < len(marks) <= 5
    assert all(0 < at <= top * 1.001 for at, _ in marks)


def test_places_are_percentages_of_the_axis() -> None:
    scale = Scale.time(2_000.0)

    assert (scale.at(500.0), scale.down(500.0), scale.length(500.0, 1_000.0)) == ("25%", "75%", "25%")
    assert (scale.at(9_999.0), scale.at(-1.0)) == ("100%", "0%")
    assert scale.length(500.0, 500.1) == "0.35%", "what is there at all is seen"
    assert [words for _, words in Scale.time(60_000.0).marks] == ["10 s", "20 s", "30 s", "40 s", "50 s", "1 min"]
