"""Requirements: their form, what they hold for, and that nothing unmeasured passes."""

from __future__ import annotations

import pytest

from omnirt_cli.bench.gates import Requirement, judge, parse_requirement, profiles, requirements
from omnirt_cli.checks import CheckStatus
from omnirt_cli.errors import UsageError
from tests.bench.bench_samples import row


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtf<=1.0", Requirement("rtf", "<=", 1.0)),
        ("memory_peak_gib<24", Requirement("memory_peak_gib", "<", 24.0)),
        (" hot.goodput >= 0.99 ", Requirement("goodput", ">=", 0.99, "hot")),
        ("cold.failed_requests==0", Requirement("failed_requests", "==", 0.0, "cold")),
        ("frames_per_second>25", Requirement("frames_per_second", ">", 25.0)),
    ],
)
def test_requirements_are_read(text: str, expected: Requirement) -> None:
    assert parse_requirement(text) == expected


@pytest.mark.parametrize("text", ["", "rtf", "rtf<=", "<=1", "rtf<=fast", "rtf=1", "rtf<=nan", "rtf<=1<=2", "a b<1"])
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a requirement"):
        parse_requirement(text)


def test_a_figure_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no figure called memory_peak_gb") as caught:
        parse_requirement("memory_peak_gb<24")

    assert caught.value.hint == "did you mean memory_peak_gib?"


def test_a_part_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="no part called warm"):
        parse_requirement("warm.rtf<=1")


@pytest.mark.parametrize(
    ("sign", "limit", "holds"),
    [
        ("<=", 0.85, True),
        ("<", 0.85, False),
        (">=", 0.85, True),
        (">", 0.85, False),
        ("==", 0.85, True),
        ("<", 1, True),
    ],
)
def test_each_sign_means_what_it_says(sign: str, limit: float, holds: bool) -> None:
    (check,) = judge([Requirement("steady_rtf", sign, limit)], [row()])

    assert (check.status is CheckStatus.PASSED) is holds
    assert check.actual == 0.85


def test_a_figure_that_was_not_measured_misses() -> None:
    (check,) = judge([parse_requirement("memory_peak_gib<24")], [row()])

    assert check.status is CheckStatus.FAILED
    assert check.detail == "it was not measured"


def test_a_part_that_was_not_measured_misses() -> None:
    (check,) = judge([parse_requirement("hot.steady_rtf<=1")], [row("cold")])

    assert check.status is CheckStatus.FAILED
    assert check.detail == "no hot request was measured"


def test_without_a_part_it_is_for_every_row() -> None:
    rows = [row("cold", case="max_chunks=1"), row("hot", case="max_chunks=1"), row("hot", case="max_chunks=3")]

    everywhere = judge([parse_requirement("steady_rtf<=1")], rows)
    hot = judge([parse_requirement("hot.steady_rtf<=1")], rows)

    assert [check.name for check in everywhere] == [
        "cold.steady_rtf (max_chunks=1)",
        "hot.steady_rtf (max_chunks=1)",
        "hot.steady_rtf (max_chunks=3)",
    ]
    assert len(hot) == 2


def test_nothing_measured_at_all_misses() -> None:
    (check,) = judge([parse_requirement("rtf<=1")], [])

    assert check.status is CheckStatus.FAILED


def test_the_guides_acceptance_criteria_are_there_by_name() -> None:
    assert requirements([], ["realtime-24gb"]) == (
        Requirement("steady_rtf", "<=", 1.0),
        Requirement("memory_peak_gib", "<", 24.0),
        Requirement("failed_requests", "==", 0.0),
    )


def test_every_profile_can_be_read() -> None:
    for name in profiles():
        assert requirements([], [name])


def test_a_profile_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        requirements([], ["realtime-24"])

    assert caught.value.hint == "did you mean realtime-24gb?"


def test_a_requirement_said_twice_is_judged_once() -> None:
    assert len(requirements(["steady_rtf<=1.0", "steady_rtf<=1"], ["realtime"])) == 3
