"""Frames from where they were computed to the host, as bytes, while the next ones are being computed.

A tensor on an accelerator becomes 8 bit there, a quarter of the bytes, and comes over on a stream of its own into
pinned memory; torch keeps such memory and hands it out again, so that no chunk reserves its own. Everything else is
converted where it is, in the calling thread.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Any

from .device import Device, Mark, StreamedDevice
from .frames import NOT_A_NUMBER, to_bytes


@dataclass(frozen=True)
class Copied:
    """A chunk's frames on the host, 8 bit red, green and blue one after another, and how long that took."""

    pixels: memoryview
    ms: float


def to_host(made: Any, computed: Mark, device: Device) -> Copied:
    """Copy; returns when the bytes are there. For any thread but the computing one.

    Args:
        made: (frames, height, width, 3) in 0..255.
        computed: Where the device has computed them.
        device: Where they are computed.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(device, StreamedDevice) or not _is_on_it(made, device):
        return _converted(made, device)
    return _brought_over(torch, made, computed, device)


def _is_on_it(made: Any, device: Device) -> bool:
    return str(getattr(made, "device", "cpu")).partition(":")[0] == device.name.partition(":")[0]


def _converted(made: Any, device: Device) -> Copied:
    start = device.mark()
    pixels = to_bytes(made)
    return Copied(pixels, device.ms_between(start, device.mark()))


def _brought_over(torch: Any, made: Any, computed: Mark, device: Device) -> Copied:
    with device.side_stream("copying"):
        device.follow(computed, made)
        start = device.mark()
        small = made.to(torch.uint8)
        strange = made.isnan().any()
        pixels = _beside(torch, small)
        told = _beside(torch, strange)
        end = device.mark()
        end.wait()  # only now may `made` and `small` go
    if bool(told):
        warnings.warn(NOT_A_NUMBER, RuntimeWarning, stacklevel=2)
    return Copied(pixels.numpy().data.cast("B"), device.ms_between(start, end))


def _beside(torch: Any, value: Any) -> Any:
    """Pinned host memory into which the value will have been copied when the stream comes to its end."""
    host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    host.copy_(value, non_blocking=True)
    return host
