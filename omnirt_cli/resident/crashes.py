"""How often workers of one kind have crashed, and what follows: how long to wait before the next start, or none."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

WINDOW_S = 600.0
MOST_CRASHES = 3
"""So many within the window, and nothing is started for a while."""

PAUSE_S = 60.0
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class Crash:
    """One of them.

    Attributes:
        at: On the pool's clock.
        why: In words.
    """

    at: float
    why: str


class CrashHistory:
    """Crashes by what crashed; workers come and go, what makes them crash stays."""

    def __init__(self) -> None:
        self._crashes: defaultdict[object, list[Crash]] = defaultdict(list)

    def note(self, what: object, why: str, now: float) -> None:
        """One more."""
        self._crashes[what] = [*self.recent(what, now), Crash(now, why)]

    def recent(self, what: object, now: float) -> list[Crash]:
        """Those within the window; older ones are forgotten."""
        recent = [crash for crash in self._crashes.get(what, []) if now - crash.at < WINDOW_S]
        if recent:
            self._crashes[what] = recent
        else:
            self._crashes.pop(what, None)
        return recent

    def too_many(self, what: object, now: float) -> bool:
        """Whether it is not worth another start now."""
        return len(self.recent(what, now)) >= MOST_CRASHES

    def wait_s(self, what: object, now: float) -> float:
        """Seconds before the next start: 1, 2, 4 and so on."""
        count = len(self.recent(what, now))
        return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (count - 1)) if count else 0.0

    def paused_s(self, what: object, now: float) -> float:
        """Seconds for which nothing of the kind is started yet; 0 where it may be."""
        recent = self.recent(what, now)
        return max(0.0, recent[-1].at + PAUSE_S - now) if len(recent) >= MOST_CRASHES else 0.0

    def last(self, what: object, now: float) -> str:
        """Why it crashed last."""
        recent = self.recent(what, now)
        return recent[-1].why if recent else ""

    def forget(self, what: object) -> None:
        """A person stopped it by hand: the next start is a new beginning."""
        self._crashes.pop(what, None)
