"""One render on one rank: chunks in order, each with its frames and where its time went.

Every rank takes the same steps, for the model's collectives need them all; only those who want the frames keep them.
Where the frames go is the caller's business, and so is who says that the next step is due.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import windows
from .checkout import Checkout
from .device import Mark
from .embeddings import Embedding, Embeddings, Helper
from .requests import RenderRequest

WARMING_CHUNKS = 2
"""A process's first chunks, in which compiled models are compiled: their shapes have all been seen after these."""


@dataclass(frozen=True)
class Chunk:
    """One generation step, asked for; the device may still be at it.

    Attributes:
        frames: Those that were not shown before, (frames, height, width, 3) in 0..255, still on their device.
        embedding: The chunk's own; in `once` all of the sound counts for the first chunk.
        began: Where `run_pipeline` began.
        ended: Where the frames are there.
    """

    index: int
    frames: Any
    embedding: Embedding
    began: Mark
    ended: Mark


class Render:
    """A render whose portrait is prepared. Ends with `close`."""

    def __init__(self, checkout: Checkout, request: RenderRequest, helper: Helper) -> None:
        """Read the sound.

        Raises:
            OSError, wave.Error, ValueError: It cannot be read.
        """
        self._checkout = checkout
        self._request = request
        self._helper = helper
        self._slices = windows.Slices.of(checkout.params)
        self._heard: deque[Any] = deque()
        self._embeddings = Embeddings(_source(checkout, request, self._slices, self._heard), checkout.device)
        self._beside = (
            checkout.device.beside and not checkout.offloads and request.mode == "stream" and request.audio is not None
        )

    def step(self, index: int, heard: Any = None) -> Chunk:
        """Generate the next chunk.

        Args:
            index: Its number, from 0, one after the other.
            heard: Its slice of sound, where the render's request has no file.
        """
        if heard is not None:
            self._heard.append(heard)
        device = self._checkout.device
        embedding = self._embeddings.take()
        if self._beside and index + 1 < self._request.chunks and self._checkout.chunks >= WARMING_CHUNKS:
            self._embeddings.begin_next(self._helper)
        began = device.mark()
        made = self._checkout.generate(embedding.value)
        return Chunk(index, self._new(made, index), embedding, began, device.mark())

    def close(self) -> None:
        """Nothing is being made any more afterwards."""
        self._embeddings.settle()

    def _new(self, made: Any, index: int) -> Any:
        """What was not shown before.

        Some pipelines cut the repeated frames off themselves; what is new stands at the end either way. The first chunk
        of `once` repeats nothing, and a pipeline that leaves its frames in place shows them all.
        """
        if self._request.mode == "once" and index == 0:
            return made
        return made[len(made) - self._slices.new_frames :]


# The sources know nothing of their render: a ring of references would keep a request's sound until Python looks for
# such.


def _source(checkout: Checkout, request: RenderRequest, slices: windows.Slices, heard: deque[Any]) -> Iterator[Any]:
    if request.audio is None:
        return _live(checkout, slices, heard)
    sound = windows.read_wav(request.audio, checkout.params["sample_rate"])
    return (_once if request.mode == "once" else _stream)(checkout, request, slices, sound)


def _live(checkout: Checkout, slices: windows.Slices, heard: deque[Any]) -> Iterator[Any]:
    window = windows.Window(slices)
    while True:
        yield _embedded(checkout, slices, window.hear(heard.popleft()))


def _stream(checkout: Checkout, request: RenderRequest, slices: windows.Slices, sound: Any) -> Iterator[Any]:
    for window in windows.stream_windows(sound, slices, request.chunks):
        yield _embedded(checkout, slices, window)


def _embedded(checkout: Checkout, slices: windows.Slices, window: Any) -> Any:
    end = slices.window_frames
    return checkout.embed(window, end - slices.frame_num, end)


def _once(checkout: Checkout, request: RenderRequest, slices: windows.Slices, sound: Any) -> Iterator[Any]:
    whole = checkout.embed(windows.once_sound(sound, slices, pads=request.pads, chunks=request.chunks))
    for piece in windows.once_pieces(slices, request.chunks):
        yield _packed(whole[:, piece])


def _packed(piece: Any) -> Any:
    """The piece in memory of its own size.

    Of a single batch `contiguous` gives the piece as it is, with the stride of the whole: a compiled model would be
    compiled anew for every length of sound.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(piece, torch.Tensor):
        return piece.clone(memory_format=torch.contiguous_format)
    return piece.contiguous()
