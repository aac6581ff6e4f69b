"""Memory over the requests of a soak: growth is told from noise, and too little is told from nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from omnirt_cli.bench.document import Sample
from omnirt_cli.bench.growth import growth_of, judge, measure
from omnirt_cli.checks import CheckStatus
from tests.bench.bench_samples import failure, sample

NOISE = (0.0, 0.01, -0.01, 0.005, -0.005)


def soak(values: Sequence[float], name: str = "host_peak_gib") -> list[Sample]:
    steady = {"own_rss_gib": 0.1}
    return [sample(memory={**steady, name: value}) for value in values]


def verdicts(samples: list[Sample], *, has_devices: bool = False) -> dict[str, CheckStatus]:
    checks = judge(samples, measure(samples), has_devices=has_devices)
    return {check.name: check.status for check in checks}


def test_a_line_is_laid_through_what_comes_after_the_first_fifth() -> None:
    found = growth_of("host_peak_gib", [1.0, 9.0, *(2.0 + 0.1 * number for number in range(8))])

    assert found is not None
    assert found.requests == 8
    assert found.start_gib == pytest.approx(2.0)
    assert found.slope_mib == pytest.approx(102.4, abs=0.01)
    assert found.grown_gib == pytest.approx(0.7)


def test_memory_that_only_wavers_passes() -> None:
    values = [30.0 + NOISE[number % 5] for number in range(50)]

    assert verdicts(soak(values))["growth of memory of the model's processes"] is CheckStatus.PASSED


def test_memory_that_grows_with_every_request_is_found() -> None:
    values = [4.0 + 0.005 * number + NOISE[number % 5] for number in range(50)]

    assert verdicts(soak(values))["growth of memory of the model's processes"] is CheckStatus.FAILED


def test_the_first_requests_may_fill_caches() -> None:
    values = [1.0, 2.0, *(3.0 for _ in range(18))]

    assert verdicts(soak(values))["growth of memory of the model's processes"] is CheckStatus.PASSED


def test_too_few_requests_tell_nothing_and_do_not_pass() -> None:
    found = judge(soak([1.0] * 4), measure(soak([1.0] * 4)), has_devices=False)

    host = next(check for check in found if "model's processes" in check.name)
    assert host.status is CheckStatus.FAILED
    assert "too few" in (host.detail or "")


@pytest.mark.parametrize(("has_devices", "status"), [(False, CheckStatus.SKIPPED), (True, CheckStatus.FAILED)])
def test_device_memory_must_be_known_where_there_are_devices(has_devices: bool, status: CheckStatus) -> None:
    assert verdicts(soak([1.0] * 20), has_devices=has_devices)["growth of device memory"] is status


def test_device_memory_that_grows_is_found() -> None:
    found = verdicts(soak([20 + 0.05 * number for number in range(20)], "device_peak_gib"), has_devices=True)

    assert found["growth of device memory"] is CheckStatus.FAILED


def test_a_failed_request_misses() -> None:
    assert verdicts([*soak([1.0] * 20), failure()])["failures"] is CheckStatus.FAILED
    assert verdicts(soak([1.0] * 20))["failures"] is CheckStatus.PASSED


def test_no_request_at_all_is_no_good_soak() -> None:
    assert verdicts([])["failures"] is CheckStatus.FAILED
