"""When to stop sending requests: enough of them counted, or the time is over, or nothing works any more."""

from __future__ import annotations

import threading
import time

from omnirt_cli.bench.document import Sample

LOADS_AT_MOST = 3
"""Hot requests that had to load the model, before a worker is taken for one that does not stay."""

FAILURES_IN_A_ROW = 10
"""After so many a soak has shown what there is to see."""


class Quota:
    """Shared by all who send requests of one row.

    Attributes:
        left_out: Requests that did not count.
    """

    def __init__(self, wanted: int | None, deadline: float | None) -> None:
        """Begin.

        Args:
            wanted: How many are to count (a failed one does); None for as many as the time allows.
            deadline: Monotonic seconds after which none is started; None for no limit.
        """
        self._wanted = wanted
        self._deadline = deadline
        self._lock = threading.Lock()
        self._under_way = 0
        self._counted = 0
        self._failures = 0
        self.left_out = 0

    def take(self) -> bool:
        """Whether another request is to be started; it then counts as under way until it is given back."""
        with self._lock:
            if not self._wants_more():
                return False
            self._under_way += 1
            return True

    def _wants_more(self) -> bool:
        if self._failures >= FAILURES_IN_A_ROW or self.left_out > LOADS_AT_MOST:
            return False
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return False
        return self._wanted is None or self._counted + self._under_way < self._wanted

    def give_back(self, sample: Sample) -> None:
        """A request ended."""
        with self._lock:
            self._under_way -= 1
            self._failures = 0 if sample.succeeded else self._failures + 1
            if sample.measured or not sample.succeeded:
                self._counted += 1
            else:
                self.left_out += 1
