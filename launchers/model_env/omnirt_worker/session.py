"""One rank's loaded model, and the render that it is at: the steps that all ranks take together.

`begin` and `end` are this rank's own affair; in `prepare` and in `step` there may be collectives.
"""

from __future__ import annotations

import contextlib
from typing import Any

from .checkout import Checkout
from .embeddings import Helper
from .overlay import laid
from .prepared import Prepared
from .render import Chunk, Render
from .requests import RenderRequest


class Session:
    """A model that stays loaded."""

    def __init__(self, checkout: Checkout) -> None:
        """For a model that was just loaded: what it is now is what every request finds."""
        self.checkout = checkout
        self._helper = Helper(checkout.device)
        self._prepared = Prepared(checkout.pipeline)
        self._settings = contextlib.ExitStack()
        self._request: RenderRequest | None = None
        self._key: str | None = None
        self._render: Render | None = None

    def begin(self, request: RenderRequest, key: str | None) -> bool:
        """Lay a request's settings.

        Args:
            request: What is to be rendered.
            key: Of the state after preparing; None where that is not to be kept.

        Returns:
            Whether this rank has kept that state.
        """
        self.end()
        self._settings.enter_context(laid(self.checkout.overlays(request)))
        self._request, self._key = request, key
        return key is not None and self._prepared.has(key)

    def prepare(self, *, known: bool) -> None:
        """Prepare portrait and prompt, or restore what was kept where every rank has it; and read the sound."""
        assert self._request is not None
        if known and self._key is not None:
            self._prepared.restore(self._key)
        elif self._key is not None:
            base = self._request.base
            self._prepared.keep(self._key, lambda: self.checkout.prepare(base), self.checkout.device)
        else:
            self.checkout.prepare(self._request.base)
        self._render = Render(self.checkout, self._request, self._helper)

    def step(self, index: int, heard: Any = None) -> Chunk:
        """One chunk; see Render."""
        assert self._render is not None
        return self._render.step(index, heard)

    def end(self) -> None:
        """Take the settings off again, and see whether the device is well. Harmless where nothing was begun."""
        if self._render is not None:
            self._render.close()
        self._render = self._request = self._key = None
        self._settings.close()
        self.checkout.device.synchronize()
