"""What a worker's processes hold of the machine's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


def resident_bytes(pid: int) -> int | None:
    """The resident memory of a process and all below it together; None where it is gone."""
    import psutil

    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return None
    return sum(_of_one(process) for process in tree) or None


def _of_one(process: psutil.Process) -> int:
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
