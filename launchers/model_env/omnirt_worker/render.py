"""One render: chunks in order, each with its frames and its times. Where the frames go is the caller's business.

Every rank runs the same loop, for the model's collectives need them all; only those who want the frames keep them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import windows
from .checkout import Checkout
from .requests import RenderRequest


@dataclass(frozen=True)
class Chunk:
    """One generation step.

    Attributes:
        frames: Those that were not shown before, (frames, height, width, 3) in 0..255, still on their device.
        embedding_s: Time to encode the chunk's own sound; in `once` all of it counts for the first chunk.
        core_s: Time of `run_pipeline` alone.
    """

    index: int
    frames: Any
    embedding_s: float
    core_s: float


def chunks(checkout: Checkout, request: RenderRequest, ready: Callable[[], None] | None = None) -> Iterator[Chunk]:
    """Generate.

    Args:
        checkout: The loaded model.
        request: What to render.
        ready: Called once portrait and sound are at hand.

    Yields:
        The chunks in order. Each holds its own frames only.
    """
    checkout.prepare(request.base)
    slices = windows.Slices.of(checkout.params)
    sound = windows.read_wav(request.audio, checkout.params["sample_rate"])
    if ready is not None:
        ready()
    embed = _once if request.mode == "once" else _stream
    embeddings = embed(checkout, request, slices, sound)
    for index in range(request.chunks):
        began = time.monotonic()
        embedding = next(embeddings)
        embedded = time.monotonic()
        made = checkout.generate(embedding)
        computed = time.monotonic()
        # Some pipelines cut the repeated frames off themselves; what is new stands at the end either way. The first
        # chunk of `once` repeats nothing, and a pipeline that leaves its frames in place shows them all.
        new = made if request.mode == "once" and index == 0 else made[len(made) - slices.new_frames :]
        yield Chunk(index, new, embedded - began, computed - embedded)


def _stream(checkout: Checkout, request: RenderRequest, slices: windows.Slices, sound: Any) -> Iterator[Any]:
    end = slices.window_frames
    for window in windows.stream_windows(sound, slices, request.chunks):
        yield checkout.embed(window, end - slices.frame_num, end)


def _once(checkout: Checkout, request: RenderRequest, slices: windows.Slices, sound: Any) -> Iterator[Any]:
    whole = checkout.embed(windows.once_sound(sound, slices, pads=request.pads, chunks=request.chunks))
    for piece in windows.once_pieces(slices, request.chunks):
        yield whole[:, piece].contiguous()
