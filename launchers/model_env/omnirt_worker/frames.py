"""Frames to bytes: what an encoder reads, a quarter of what the pipeline computes."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np

NOT_A_NUMBER = "invalid value encountered in cast"
"""numpy says so when it casts, and who reads the log looks for it."""


def to_bytes(made: Any) -> memoryview:
    """A chunk's frames as 8 bit red, green and blue, one after another.

    Values are cut off to whole ones, not rounded, as in the scripts' save routines; a tensor does so on its device, so
    that a quarter of the bytes comes back from there.

    Args:
        made: (frames, height, width, 3) in 0..255: a torch tensor, or what behaves like a numpy array.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(made, torch.Tensor):
        if torch.isnan(made).any():
            warnings.warn(NOT_A_NUMBER, RuntimeWarning, stacklevel=2)
        made = made.to(torch.uint8).cpu().numpy()
    return np.ascontiguousarray(np.asarray(made).astype(np.uint8, copy=False)).data.cast("B")
