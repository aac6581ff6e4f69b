"""Whether a request can be carried out as it is written, before any other rank hears of it.

What is found here costs nobody anything: no step was taken, the model is as it was.
"""

from __future__ import annotations

import importlib
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import prepared, script_log, windows
from .checkout import Checkout
from .requests import PictureRequest, RenderRequest

_MODES = ("stream", "once")
_FRAMES = ("none", "raw")


class RefusedError(Exception):
    """The request cannot be carried out as it is written; the text is the error's kind and message."""


@dataclass(frozen=True)
class Accepted:
    """A request that can be carried out.

    Attributes:
        render: What to compute.
        picture: The silent video to write; None for none.
        raw: Frames are handed out chunk by chunk.
        key: Of the state after preparing, where that may be kept.
    """

    render: RenderRequest
    picture: PictureRequest | None
    raw: bool
    key: str | None


def accept(header: Mapping[str, Any], checkout: Checkout) -> Accepted:
    """Look at everything in a `render` message.

    Raises:
        RefusedError: Something in it is wrong.
    """
    try:
        accepted = _read(header)
        _check_form(accepted)
        _check_model(accepted.render, checkout)
        _check_inputs(accepted, checkout)
        key = prepared.key_of(accepted.render) if accepted.render.reuse else None
    except (ValueError, TypeError, KeyError, AttributeError, OSError, EOFError, wave.Error) as error:
        raise RefusedError(script_log.said(error)) from error
    return Accepted(accepted.render, accepted.picture, accepted.raw, key)


def _read(header: Mapping[str, Any]) -> Accepted:
    picture = header.get("picture")
    frames = header.get("frames", "none")
    if frames not in _FRAMES:
        raise ValueError(f"frames is {frames!r}; it is one of {', '.join(_FRAMES)}")
    return Accepted(
        RenderRequest(**header["render"]),
        None if picture is None else PictureRequest(**picture),
        raw=frames == "raw",
        key=None,
    )


def _check_form(asked: Accepted) -> None:
    render = asked.render
    if render.mode not in _MODES:
        raise ValueError(f"mode is {render.mode!r}; it is one of {', '.join(_MODES)}")
    for name in ("base", "params", "constants", "inference_constants"):
        if not isinstance(getattr(render, name), Mapping):
            raise TypeError(f"{name} is no object")
    if not isinstance(render.base.get("image"), str):
        raise TypeError("base has no image")
    if render.audio is None and render.mode != "stream":
        raise ValueError("a sound that comes slice by slice is encoded in stream mode only")
    if render.audio is not None and (type(render.chunks) is not int or render.chunks < 1):
        raise ValueError(f"chunks is {render.chunks!r}; it is a whole number from 1")


def _check_model(render: RenderRequest, checkout: Checkout) -> None:
    checkout.base_arguments(render.base)
    for overlay in checkout.overlays(render):
        overlay.check()


def _check_inputs(asked: Accepted, checkout: Checkout) -> None:
    _check_portrait(Path(asked.render.base["image"]))
    if asked.render.audio is not None:
        windows.read_wav(asked.render.audio, checkout.params["sample_rate"])
    if asked.picture is not None:
        _check_picture(asked.picture, checkout.params)


def _check_picture(picture: PictureRequest, params: Mapping[str, Any]) -> None:
    if not Path(picture.path).parent.is_dir():
        raise FileNotFoundError(f"{picture.path}: there is no such folder")
    size, own = (picture.width, picture.height), (params.get("width"), params.get("height"))
    if own not in (size, (None, None)):
        raise ValueError(f"the picture is to be {size[0]}x{size[1]}, and the model makes {own[0]}x{own[1]}")


def _check_portrait(place: Path) -> None:
    """Decode it as the checkouts do, with their own library."""
    places = sorted(place.glob("*.png")) if place.is_dir() else [place]
    if not places:
        raise FileNotFoundError(f"{place} has no PNG")
    try:
        pillow = importlib.import_module("PIL.Image")
    except ImportError:  # then the checkout does not decode by it
        places[0].open("rb").close()
        return
    for one in places:
        _decode(pillow, one)


def _decode(pillow: Any, place: Path) -> None:
    try:
        with pillow.open(place) as picture:
            picture.convert("RGB")
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError) as error:  # the latter is what Pillow says of some broken PNGs
        raise ValueError(f"{place} cannot be decoded: {error}") from error
