"""What OmniRT's run of a script costs over the plain script: both on the same profile, in turns, on one machine.

After one warm-up by OmniRT the two run in pairs, every second pair the other way round, so that both sides see the same
noise and the same caches. A pair of which one half failed does not count.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from omnirt_cli.bench.document import Overhead, Sample
from omnirt_cli.errors import CancelledRunError, OmniRTError
from omnirt_cli.run.timings import percentile
from omnirt_cli.runs.compare import Pair, pair

_PHASES = (
    "prepare_conditions_ms",
    "launch_ms",
    "model_load_ms",
    "generation_ms",
    "save_ms",
    "denoise_loop_ms",
    "export_ms",
)
_CHUNKS = ("first_chunk_ms", "steady_chunk_interval_ms_avg")
_CORE = "steady_chunk_core_ms_avg"
_WHOLE = "total_ms"
_PROCESS = "denoise_loop_ms"
_CHECKED = "export_ms"

Plain = Callable[[], "dict[str, float]"]
"""Runs the plain script; gives its times."""

Ours = Callable[[], Sample]
"""Has OmniRT run it; gives the sample, which is kept already."""


@dataclass
class Pairs:
    """The pairs so far.

    Attributes:
        both: Times of the plain script and of OmniRT's run.
        errors: Of plain scripts that failed.
    """

    both: list[tuple[dict[str, float], dict[str, float]]] = field(default_factory=list)
    errors: list[OmniRTError] = field(default_factory=list)

    def run(self, count: int, plain: Plain, ours: Ours, stopped: Callable[[], bool]) -> None:
        """Run pairs until there are enough or somebody stopped it; the machine is warm already.

        Args:
            count: How many.
            plain: One side.
            ours: The other.
            stopped: Whether to go on.
        """
        for number in range(count):
            if stopped():
                return
            if number % 2:
                sample, times = ours(), None if stopped() else self._plain(plain)
            else:
                times = self._plain(plain)
                if stopped():
                    return
                sample = ours()
            if times is not None and sample.succeeded:
                self.both.append((times, sample.timings))

    def _plain(self, plain: Plain) -> dict[str, float] | None:
        try:
            return plain()
        except CancelledRunError:
            return None
        except OmniRTError as error:
            self.errors.append(error)
            return None

    def overhead(self, *, same_core: bool = True) -> Overhead:
        """The pairs by phase, medians.

        Args:
            same_core: Both sides' core times cover the same: the script measured them in both.
        """
        found = Overhead(
            pairs=len(self.both),
            plain=[times for times, _ in self.both],
            errors=[error.message for error in self.errors],
        )
        if not self.both:
            return found
        names = (*_PHASES, *_CHUNKS, *((_CORE,) if same_core else ()))
        found.phases = [self._phase(name, name) for name in names] + [self._phase(_PROCESS, _WHOLE)]
        whole = [b[_WHOLE] - a[_PROCESS] for a, b in self.both]
        found.overhead_ms_p50 = round(percentile(whole, 50), 3)
        found.overhead_ms_p90 = round(percentile(whole, 90), 3)
        unverified = [over - b.get(_CHECKED, 0.0) for over, (_, b) in zip(whole, self.both, strict=True)]
        found.unverified_ms_p50 = round(percentile(unverified, 50), 3)
        return found

    def _phase(self, theirs: str, ours: str) -> Pair:
        """Medians of one phase; the plain script has no whole but its process."""
        return pair(ours, _median([a.get(theirs) for a, _ in self.both]), _median([b.get(ours) for _, b in self.both]))


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None
