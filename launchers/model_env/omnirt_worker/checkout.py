"""A checkout's `inference` functions under one name each, whatever a variant calls their arguments.

Known spellings are those of FlashTalk's `flash_talk/inference.py` (688982e, f54dc79, the quantizing fork at be00237)
and FlashHead's `flash_head/inference.py` (12467ce). An argument that a function does not take is refused, not dropped.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from .requests import ModelRequest

_SPELLINGS = {
    "image": ("cond_image", "cond_image_path_or_dir"),
    "seed": ("base_seed",),
    "prompt": ("input_prompt",),
    "face_crop": ("use_face_crop",),
    "quantize": ("quantize_mode",),
}


class Checkout:
    """A loaded model.

    Attributes:
        params: The checkout's `infer_params`, complete after loading.
    """

    def __init__(self, inference: ModuleType, pipeline: Any) -> None:
        """For `load` only."""
        self._inference = inference
        self._pipeline = pipeline
        self.params: Mapping[str, Any] = _params(inference)

    @classmethod
    def load(cls, request: ModelRequest, world_size: int) -> Checkout:
        """Import the checkout and load its model; with several ranks this joins their process group.

        Raises:
            TypeError: The checkout takes no such argument.
            AttributeError: It has no such constant, or lacks a function.
        """
        inference = importlib.import_module(f"{request.package}.inference")
        load = _function(inference, "get_pipeline")
        pipeline = load(**fitting(load, {"world_size": world_size, **request.load}))
        # The functions read the module's own dictionary when they are called; `get_pipeline` has written to it last.
        if request.params:
            inference.infer_params.update(request.params)
        _set_constants(sys.modules[type(pipeline).__module__], request.constants)
        return cls(inference, pipeline)

    def prepare(self, base: Mapping[str, Any]) -> None:
        """Set portrait, seed and what else there is; the next chunk is the first."""
        function = _function(self._inference, "get_base_data")
        function(**fitting(function, {"pipeline": self._pipeline, **base}))

    def embed(self, sound: Any, start: int = -1, end: int = -1) -> Any:
        """The embedding of the frames start..end of a sound; of all of them by default."""
        return self._inference.get_audio_embedding(self._pipeline, sound, start, end)

    def generate(self, embedding: Any) -> Any:
        """One chunk's frames, (frames, height, width, 3) in 0..255; when this returns, they are computed."""
        made = self._inference.run_pipeline(self._pipeline, embedding)
        self._wait_for_device()
        return made

    def _wait_for_device(self) -> None:
        """As the scripts do before they take the time: accelerators compute behind the caller's back."""
        kind = str(getattr(self._pipeline, "device", "cpu")).partition(":")[0]
        synchronize = getattr(getattr(sys.modules.get("torch"), kind, None), "synchronize", None)
        if kind != "cpu" and synchronize is not None:
            synchronize()


def fitting(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments under the names by which a function takes them; null ones that it does not take are left out.

    Raises:
        TypeError: It does not take one that says something.
    """
    known = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    fitted = {}
    for name, value in arguments.items():
        spellings = (*_SPELLINGS.get(name, ()), name)
        taken = next((spelling for spelling in spellings if spelling in known), None)
        if taken is None and takes_all:
            taken = spellings[0]
        if taken is not None:
            fitted[taken] = value
        elif value is not None:
            raise TypeError(f"{function.__module__}.{function.__name__} takes no {' or '.join(spellings)}")
    return fitted


def _function(inference: ModuleType, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(inference, name)
    return found


def _params(inference: ModuleType) -> Mapping[str, Any]:
    getter = getattr(inference, "get_infer_params", None)
    found: Mapping[str, Any] = getter() if getter is not None else inference.infer_params
    return found


def _set_constants(module: ModuleType, constants: Mapping[str, Any]) -> None:
    for name, value in constants.items():
        if not hasattr(module, name):
            raise AttributeError(f"{module.__name__} has no {name}")
        setattr(module, name, value)
