"""What frames and embeddings are made of: torch tensors where torch is installed, otherwise numpy arrays.

The rule is one for a whole process: ``torch`` is imported if it can be (and ``MINIATURE_TORCH`` is not ``0``), and
then everything handed out is a ``torch.Tensor``. Without it the same things are :class:`Array`, a numpy array with
the few tensor methods that a caller of ``inference.py`` uses. The numbers are the same either way, bit for bit,
because all arithmetic is numpy's.
"""

from types import ModuleType

import numpy as np

from engine import knobs


def _import_torch() -> ModuleType | None:
    if not knobs.enabled("MINIATURE_TORCH", default="1"):
        return None
    try:
        import torch
    except ModuleNotFoundError:
        return None
    return torch


torch = _import_torch()


class Array(np.ndarray):
    """A numpy array that answers to the tensor methods used around ``run_pipeline``."""

    def cpu(self) -> "Array":
        return self

    def to(self, *_args: object, **_kwargs: object) -> "Array":
        return self

    def contiguous(self) -> "Array":
        return np.ascontiguousarray(self).view(Array)

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


def wrap(values: np.ndarray):
    """``values`` as a torch tensor, or as an :class:`Array` where there is no torch."""
    values = np.ascontiguousarray(values)
    if torch is not None:
        return torch.from_numpy(values)
    return values.view(Array)


def unwrap(values) -> np.ndarray:
    """The numpy array behind what :func:`wrap` gave (any device, any slice of it)."""
    return np.asarray(values.cpu().numpy())
