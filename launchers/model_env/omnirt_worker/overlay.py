"""Settings that hold for one request: laid over the checkout's own, and taken off again whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Overlay:
    """Where settings go, and which.

    Attributes:
        place: A dictionary, or a module's names.
        title: Of the place, for an error.
        values: Name -> value; the place has each name already.
    """

    place: MutableMapping[str, Any]
    title: str
    values: Mapping[str, Any]

    @classmethod
    def of_module(cls, module: ModuleType, values: Mapping[str, Any]) -> Overlay:
        """Constants of a module."""
        return cls(vars(module), module.__name__, values)

    def check(self) -> None:
        """Raises AttributeError where the place lacks a name."""
        for name in self.values:
            if name not in self.place:
                raise AttributeError(f"{self.title} has no {name}")


def lay(overlays: list[Overlay]) -> None:
    """For as long as this process lives.

    Raises:
        AttributeError: A place lacks a name; nothing was set.
    """
    for overlay in overlays:
        overlay.check()
    for overlay in overlays:
        overlay.place.update(overlay.values)


@contextlib.contextmanager
def laid(overlays: list[Overlay]) -> Iterator[None]:
    """While this holds.

    Raises:
        AttributeError: A place lacks a name; nothing was set.
    """
    before = [{name: overlay.place.get(name) for name in overlay.values} for overlay in overlays]
    lay(overlays)
    try:
        yield
    finally:
        for overlay, values in zip(reversed(overlays), reversed(before), strict=True):
            overlay.place.update(values)
