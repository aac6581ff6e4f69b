"""Ranks: the process group as torchrun sets it up, over gloo, and nothing at all in a single process."""

import datetime as dt
import math
import os

from engine import arrays, log

_INIT_TIMEOUT = dt.timedelta(days=7)  # the real scripts' own: a lost peer can hang for good


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def get_parallel_degree(world: int, num_heads: int) -> tuple[int, int]:
    """The (ulysses, ring) degrees: as much ulysses as divides the heads."""
    ulysses = math.gcd(world, num_heads)
    return ulysses, world // ulysses


def _distributed():
    if arrays.torch is None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    import torch.distributed as dist

    return dist


def get_device(ulysses_degree: int, ring_degree: int) -> str:
    """Join the process group if there are several ranks; the device is always the CPU."""
    if ulysses_degree * ring_degree > 1:
        join()
        log.info(f"rank={rank()} device=cpu")
    return "cpu"


def join() -> None:
    """Enter the process group of torchrun's variables."""
    _distributed().init_process_group("gloo", timeout=_INIT_TIMEOUT)


def meet() -> None:
    """One collective of all ranks, as each chunk of the real models has: a lost peer is noticed here."""
    if world_size() > 1:
        _distributed().all_reduce(arrays.torch.ones(1))


def leave() -> None:
    """The barrier at the end of a script, after rank 0 has saved."""
    if world_size() > 1:
        _distributed().barrier()
        part()


def part() -> None:
    """Leave the process group without waiting for the others."""
    if world_size() > 1:
        _distributed().destroy_process_group()
