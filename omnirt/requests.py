"""Requests as Python calls: `audio2video(model=..., image=..., audio=..., preset="balanced")`."""

from __future__ import annotations

import os
from typing import Any

from pydantic import ValidationError

from omnirt_cli.errors import UsageError
from omnirt_cli.request import Audio2VideoRequest, Config, plain
from omnirt_cli.yaml_document import nearest

__all__ = ["Audio2VideoRequest", "audio2video"]


def audio2video(
    *,
    model: str,
    image: str | os.PathLike[str],
    audio: str | os.PathLike[str],
    prompt: str | None = None,
    backend: str | None = None,
    **config: Any,
) -> Audio2VideoRequest:
    """A request for one talking-head video.

    Args:
        model: Model id.
        image: The face portrait.
        audio: The speech.
        prompt: A hint at expression and emotion, where the model takes one.
        backend: `auto`, `ascend`, `cuda` or `cpu`.
        config: Any knob or setting by its config name, e.g. `preset`, `seed`, `repo_path`, `output_dir`.

    Raises:
        UsageError: An unknown key, or a value that does not fit.
    """
    for key in config:
        if key not in Config.model_fields:
            guess = nearest(key, Config.model_fields)
            raise UsageError(f"audio2video() has no `{key}`", hint=f"did you mean `{guess}`?" if guess else None)
    said = {
        key: os.fspath(value) if isinstance(value, os.PathLike) else value
        for key, value in config.items()
        if value is not None
    }
    try:
        return Audio2VideoRequest.model_validate(
            {
                "model": model,
                "backend": backend,
                "inputs": {"image": os.fspath(image), "audio": os.fspath(audio), "prompt": prompt},
                "config": said,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][-1]}: {plain(first['msg'])}") from error
