"""What preparing a portrait and a prompt left behind, kept by content and restored exactly.

A checkout's `get_base_data` sets attributes of its pipeline. After it a copy of every attribute is taken, and before a
render with the same portrait and arguments the pipeline gets copies of these again, and loses what came to it since.
That is exact only as far as the state lies in such attributes, which the model's adapter has to say. What can be seen
here is checked here: an attribute of a kind that cannot be copied exactly, or a draw from a global random generator,
and the state is not kept at all. Then it is prepared anew, which is always right.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .copies import CannotCopyError, Copies, can_copy
from .device import Device
from .requests import RenderRequest

ENTRIES = 4
"""States that are kept; the one that was not used for longest goes."""


def key_of(request: RenderRequest) -> str:
    """What the state after preparing depends on, as a digest.

    Raises:
        OSError: The portrait cannot be read.
    """
    arguments = {name: value for name, value in request.base.items() if name != "image"}
    settings = (arguments, request.params, request.constants, request.inference_constants)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for place in _pictures(Path(request.base["image"])):
        data = place.read_bytes()
        digest.update(f"{place.name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _pictures(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else [place]


@dataclass(frozen=True)
class _State:
    """Attributes by name: copies, and the names of those that are as they were after loading."""

    copied: Mapping[str, Any]
    loaded: frozenset[str]


class Prepared:
    """One pipeline's kept states."""

    def __init__(self, pipeline: Any) -> None:
        """For a pipeline that was just loaded."""
        self._pipeline = pipeline
        self._loaded = dict(getattr(pipeline, "__dict__", {}))
        self._states: OrderedDict[str, _State] = OrderedDict()

    def has(self, key: str) -> bool:
        """Whether this state was kept."""
        return key in self._states

    def keep(self, key: str, prepare: Callable[[], None], device: Device) -> bool:
        """Prepare, and keep the state under this key where that can be done exactly.

        Returns:
            Whether it was kept.
        """
        before = _randomness(device)
        prepare()
        if _randomness(device) != before:
            return False
        try:
            self._states[key] = self._state()
        except CannotCopyError:
            return False
        while len(self._states) > ENTRIES:
            self._states.popitem(last=False)
        return True

    def restore(self, key: str) -> None:
        """Make the pipeline what it was when this was kept."""
        state = self._states[key]
        self._states.move_to_end(key)
        copied = Copies().of(state.copied)
        attributes = vars(self._pipeline)
        for name in set(attributes) - set(copied) - state.loaded:
            del attributes[name]
        attributes.update({name: self._loaded[name] for name in state.loaded})
        attributes.update(copied)

    def _state(self) -> _State:
        """Raises CannotCopyError."""
        if not hasattr(self._pipeline, "__dict__"):
            raise CannotCopyError(type(self._pipeline))
        copies, loaded = Copies(), set()
        copied = {}
        for name, value in vars(self._pipeline).items():
            if self._is_as_loaded(name) and not can_copy(value):
                loaded.add(name)
            else:
                copied[name] = copies.of(value)
        return _State(copied, frozenset(loaded))

    def _is_as_loaded(self, name: str) -> bool:
        return name in self._loaded and vars(self._pipeline)[name] is self._loaded[name]


def _randomness(device: Device) -> tuple[object, ...]:
    """The states of all generators that nobody owns."""
    # Of numpy's own only the legacy one is global; it tells its name, its numbers, and where it stands in them.
    name, numbers, *rest = np.random.get_state()
    own: list[object] = [random.getstate(), name, np.asarray(numbers).tobytes(), *rest]
    torch = sys.modules.get("torch")
    if torch is not None:
        own.append(torch.get_rng_state().numpy().tobytes())
        own.append(device.random_state())
    return tuple(own)
