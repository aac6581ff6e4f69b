"""The plain script against OmniRT's run: turns, medians, and halves that fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from omnirt_cli.bench.document import Sample
from omnirt_cli.bench.overhead import Pairs
from omnirt_cli.errors import CancelledRunError, ModelFailedError
from tests.bench.bench_samples import failure, sample


class Turns:
    """Both sides of the pairs, with times made up; `calls` is who had its turn."""

    def __init__(self, plain_ms: list[float], ours_ms: list[float]) -> None:
        self.calls = ""
        self._plain = iter(plain_ms)
        self._ours = iter(ours_ms)

    def plain(self) -> dict[str, float]:
        self.calls += "P"
        return {"denoise_loop_ms": next(self._plain), "model_load_ms": 50.0}

    def ours(self) -> Sample:
        self.calls += "O"
        whole = next(self._ours)
        return sample(timings={"total_ms": whole, "denoise_loop_ms": whole - 300, "export_ms": 200.0})


def never() -> bool:
    return False


def test_every_second_pair_goes_the_other_way_round() -> None:
    turns, pairs = Turns([1000.0] * 4, [1500.0] * 4), Pairs()

    pairs.run(4, turns.plain, turns.ours, never)

    assert turns.calls == "POOPPOOP"


def test_the_overhead_is_the_median_of_the_pairs() -> None:
    turns, pairs = Turns([1000.0, 1000.0, 2000.0], [1400.0, 1600.0, 2500.0]), Pairs()
    pairs.run(3, turns.plain, turns.ours, never)

    found = pairs.overhead()

    assert found.pairs == 3
    assert found.overhead_ms_p50 == 500.0
    assert found.overhead_ms_p90 == 600.0
    assert found.unverified_ms_p50 == 300.0
    phases = {pair.name: (pair.a, pair.b, pair.ratio) for pair in found.phases}
    assert phases["total_ms"] == (1000.0, 1600.0, 1.6)
    assert phases["export_ms"] == (None, 200.0, None)
    assert phases["model_load_ms"] == (50.0, None, None)


def test_core_times_that_cover_unlike_things_are_left_out() -> None:
    turns, pairs = Turns([1000.0], [1500.0]), Pairs()
    pairs.run(1, turns.plain, turns.ours, never)

    assert "steady_chunk_core_ms_avg" in {pair.name for pair in pairs.overhead().phases}
    assert "steady_chunk_core_ms_avg" not in {pair.name for pair in pairs.overhead(same_core=False).phases}


def test_a_pair_of_which_one_half_failed_does_not_count() -> None:
    turns, pairs = Turns([1000.0, 1000.0], [1500.0]), Pairs()
    halves = iter([turns.ours, failure])

    pairs.run(2, turns.plain, lambda: next(halves)(), never)

    assert pairs.overhead().pairs == 1


@pytest.mark.parametrize(
    ("error", "told"), [(ModelFailedError("exit code 1"), ["exit code 1"]), (CancelledRunError("x"), [])]
)
def test_a_plain_script_that_fails_is_told_and_a_stopped_one_is_none(error: Exception, told: list[str]) -> None:
    def plain() -> dict[str, float]:
        raise error

    pairs = Pairs()
    pairs.run(1, plain, sample, never)

    assert pairs.overhead().errors == told
    assert pairs.overhead().overhead_ms_p50 is None


def test_a_stop_ends_it_between_two_turns() -> None:
    turns, pairs = Turns([1000.0] * 4, [1500.0] * 4), Pairs()
    stopped: Callable[[], bool] = lambda: len(turns.calls) >= 3  # noqa: E731

    pairs.run(4, turns.plain, turns.ours, stopped)

    assert turns.calls == "POO"
    assert pairs.overhead().pairs == 1
