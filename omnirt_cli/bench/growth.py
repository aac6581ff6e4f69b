"""Whether memory grows from request to request: a straight line laid through a soak's requests.

The rule: the first fifth of the requests is left out (caches fill, allocators settle), a line is fitted to the rest by
least squares, and what it rises from its first to its last point is the growth. More than 2 % of where it starts, and
more than 50 MiB, is too much. Fewer than 5 points tell nothing. OmniRT's own memory is told and not judged: this
process keeps every sample.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from omnirt_cli.bench.document import Growth, Sample
from omnirt_cli.checks import Check, failed, passed, skipped

LEFT_OUT_SHARE = 0.2
FEWEST_POINTS = 5
ALLOWED_SHARE = 0.02
ALLOWED_GIB = 50 / 1024

KINDS = {
    "host_peak_gib": "memory of the model's processes",
    "device_peak_gib": "device memory",
}
_OWN = "own_rss_gib"


def growth_of(name: str, values: Sequence[float]) -> Growth | None:
    """The line through one kind of memory; None where there are too few points."""
    settled = values[int(len(values) * LEFT_OUT_SHARE) :]
    if len(settled) < FEWEST_POINTS:
        return None
    slope, start = statistics.linear_regression(range(len(settled)), settled)
    return Growth(
        name=name,
        requests=len(settled),
        start_gib=round(start, 4),
        slope_mib=round(slope * 1024, 4),
        grown_gib=round(slope * (len(settled) - 1), 4),
    )


def measure(samples: Sequence[Sample]) -> list[Growth]:
    """Every kind of memory that the samples tell of."""
    found = [growth_of(name, _values(samples, name)) for name in (*KINDS, _OWN)]
    return [growth for growth in found if growth is not None]


def _values(samples: Sequence[Sample], name: str) -> list[float]:
    return [sample.memory[name] for sample in samples if sample.measured and sample.succeeded and name in sample.memory]


def judge(samples: Sequence[Sample], found: Sequence[Growth], *, has_devices: bool) -> list[Check]:
    """A soak's own gates: no request failed, and no memory grew.

    Args:
        samples: All of the soak's.
        found: What `measure` made of them.
        has_devices: The model computes on devices, whose memory must then be known.
    """
    grown = {growth.name: growth for growth in found}
    checks = [_failures(samples)]
    for name, words in KINDS.items():
        if name in grown:
            checks.append(_verdict(words, grown[name]))
        elif name == "device_peak_gib" and not has_devices:
            checks.append(skipped("growth of device memory", "the model ran on the CPU"))
        else:
            points = len(_values(samples, name))
            why = f"{points} requests tell of it: too few for a line" if points else "it was not measured"
            checks.append(failed(f"growth of {words}", detail=why, hint="a longer --duration" if points else None))
    return checks


def _failures(samples: Sequence[Sample]) -> Check:
    count = sum(not sample.succeeded for sample in samples)
    verdict = failed if count or not samples else passed
    return verdict("failures", expected="0", actual=count, detail=f"{len(samples)} requests")


def _verdict(words: str, growth: Growth) -> Check:
    allowed = max(ALLOWED_GIB, ALLOWED_SHARE * growth.start_gib)
    verdict = failed if growth.grown_gib > allowed else passed
    return verdict(
        f"growth of {words}",
        expected=f"<= {allowed:.3f} GiB",
        actual=growth.grown_gib,
        detail=f"{growth.slope_mib:+.2f} MiB a request over {growth.requests} requests, "
        f"from {growth.start_gib:.2f} GiB",
    )
