"""Host memory of a run: the peak of what its processes held together, sampled now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

GIB = 1 << 30
SAMPLE_EVERY_S = 1.0


class HostMemory:
    """Samples a process tree's resident memory.

    Attributes:
        peak_gib: The largest sum seen; None before the first sample.
    """

    def __init__(self) -> None:
        self.peak_gib: float | None = None
        self._next = 0.0

    def sample(self, root_pid: int, now: float) -> None:
        """Look at the tree from `root_pid` down, at most once a second."""
        if now < self._next:
            return
        self._next = now + SAMPLE_EVERY_S
        import psutil

        try:
            root = psutil.Process(root_pid)
            tree = [root, *root.children(recursive=True)]
        except psutil.Error:
            return
        total = sum(_resident_bytes(process) for process in tree)
        if total:
            self.peak_gib = round(max(self.peak_gib or 0.0, total / GIB), 3)


def _resident_bytes(process: psutil.Process) -> int:
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
