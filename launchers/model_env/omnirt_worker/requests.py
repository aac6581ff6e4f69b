"""What a worker is asked for, as frozen data, and its JSON form. Nothing here knows how a request travels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ModelRequest:
    """The model to load: what a worker is, as long as it lives.

    Attributes:
        checkout: Its directory, absolute.
        package: The package that has `inference`, e.g. `flash_talk`.
        load: Arguments of `get_pipeline` besides the number of ranks; null ones are left out where it lacks them.
        params: Laid over the checkout's `infer_params` once the model is loaded.
        constants: Module constants of the pipeline's own module, e.g. `DEBUG_TIMING`.
    """

    checkout: str
    package: str
    load: Mapping[str, Any]
    params: Mapping[str, Any]
    constants: Mapping[str, Any]


@dataclass(frozen=True)
class RenderRequest:
    """One render with a loaded model.

    Attributes:
        base: Arguments of `get_base_data`: `image`, `seed`, and what else the checkout takes.
        audio: The prepared sound: a WAV file, 16 bit, mono, at the checkout's rate. None where it comes slice by slice
            while the render goes on.
        mode: `stream` encodes the sound slice by slice, `once` all of it before the first chunk.
        pads: In `once` the script would fill the last slice with silence before it encodes.
        chunks: How many chunks to generate; silence follows where the sound ends before. Not read where the sound comes
            slice by slice.
        params: Laid over the checkout's `infer_params` for this render alone.
        constants: Of the pipeline's module, likewise.
        inference_constants: Of the `inference` module, likewise.
        reuse: The state that `get_base_data` leaves can be restored by the pipeline's attributes alone.
    """

    base: Mapping[str, Any]
    audio: str | None
    mode: str
    pads: bool
    chunks: int
    params: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    inference_constants: Mapping[str, Any] = field(default_factory=dict)
    reuse: bool = False


@dataclass(frozen=True)
class PictureRequest:
    """The silent video to write.

    Attributes:
        ffmpeg: The program.
        path: Of the file; what is there is truncated and not replaced, so that other links to it stay.
    """

    ffmpeg: str
    path: str
    width: int
    height: int
    fps: int


@dataclass(frozen=True)
class Request:
    """A whole request: a model, one render, and where its picture goes."""

    model: ModelRequest
    render: RenderRequest
    picture: PictureRequest


@dataclass(frozen=True)
class ServeRequest:
    """A model to keep loaded, and where it is reached.

    Attributes:
        model: What to load.
        socket: Name of rank 0's socket for renders, in the working directory.
        ranks_socket: Name of the one where the other ranks meet rank 0.
        settle_s: Within this time of an error all ranks must have come out of the step.
    """

    model: ModelRequest
    socket: str
    ranks_socket: str
    settle_s: float = 10.0


def read_request(path: Path) -> Request:
    """The request of a file.

    Raises:
        OSError: It cannot be read.
        ValueError, KeyError, TypeError: It is no request.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    return Request(
        ModelRequest(**document["model"]), RenderRequest(**document["render"]), PictureRequest(**document["picture"])
    )


def read_serve(path: Path) -> ServeRequest:
    """What a file asks to keep loaded.

    Raises:
        OSError: It cannot be read.
        ValueError, KeyError, TypeError: It is no such request.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    return ServeRequest(**{**document, "model": ModelRequest(**document["model"])})
