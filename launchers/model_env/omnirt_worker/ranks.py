"""Which rank this process is, and how it leaves the others. It never makes a process group: the checkout does."""

from __future__ import annotations

import os
import sys


def rank() -> int:
    """0 in a process of its own."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """1 in a process of its own."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leave() -> None:
    """Wait for every rank, then leave the group, as the scripts do at their end."""
    distributed = sys.modules.get("torch.distributed")
    if world_size() > 1 and distributed is not None and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
