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

from .device import Device, device_of
from .overlay import Overlay, lay
from .requests import ModelRequest, RenderRequest

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
        pipeline: The checkout's own object.
        device: What it computes on.
        offloads: Its weights move between host and device while it computes.
        chunks: How many it has generated since it was loaded.
    """

    def __init__(self, inference: ModuleType, pipeline: Any, *, offloads: bool = False) -> None:
        """For `load` only."""
        self._inference = inference
        self.pipeline = pipeline
        self.device: Device = device_of(pipeline)
        self.offloads = offloads
        self.chunks = 0

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
        lay([Overlay.of_module(_module_of(pipeline), request.constants)])
        return cls(inference, pipeline, offloads=bool(request.load.get("cpu_offload")))

    @property
    def params(self) -> Mapping[str, Any]:
        """The checkout's `infer_params` as they are now."""
        getter = getattr(self._inference, "get_infer_params", None)
        found: Mapping[str, Any] = getter() if getter is not None else self._inference.infer_params
        return found

    def overlays(self, request: RenderRequest) -> list[Overlay]:
        """What one request sets for itself."""
        return [
            Overlay(self._inference.infer_params, "infer_params", request.params),
            Overlay.of_module(_module_of(self.pipeline), request.constants),
            Overlay.of_module(self._inference, request.inference_constants),
        ]

    def base_arguments(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of `get_base_data` under its own names.

        Raises:
            TypeError: It does not take one that says something.
        """
        function = _function(self._inference, "get_base_data")
        return fitting(function, {"pipeline": self.pipeline, **base})

    def prepare(self, base: Mapping[str, Any]) -> None:
        """Set portrait, seed and what else there is; the next chunk is the first.

        Some pipelines draw from torch's global generators too, which their scripts leave as they are (FlashHead lite
        samples its latents so, `ltx_vae.py` at 12467ce): seeded here, the same request gives the same frames.
        """
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(base.get("seed"), int):
            torch.manual_seed(base["seed"])
        _function(self._inference, "get_base_data")(**self.base_arguments(base))

    def embed(self, sound: Any, start: int = -1, end: int = -1) -> Any:
        """The embedding of the frames start..end of a sound; of all of them by default."""
        return self._inference.get_audio_embedding(self.pipeline, sound, start, end)

    def generate(self, embedding: Any) -> Any:
        """One chunk's frames, (frames, height, width, 3) in 0..255; an accelerator may still be computing them."""
        made = self._inference.run_pipeline(self.pipeline, embedding)
        self.chunks += 1
        return made


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


def _module_of(pipeline: Any) -> ModuleType:
    return sys.modules[type(pipeline).__module__]
