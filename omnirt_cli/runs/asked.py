"""What was asked for, as a report keeps it: one request that gives the same run again, with no other settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.secrets import without_secrets
from omnirt_cli.settings import Settings

_NOT_CONFIG = ("model", "backend")


def asked_request(
    request: Audio2VideoRequest, settings: Settings, *, model: str | None, backend: str | None, cwd: Path
) -> dict[str, Any]:
    """A request with every setting that any layer gave, for `RunReport.request`.

    Args:
        request: As it came in.
        settings: The merged layers.
        model: The model's id that was chosen.
        backend: The backend that was chosen.
        cwd: What the inputs' paths are relative to.
    """
    config = {key: setting.value for key, setting in settings.values.items() if key not in _NOT_CONFIG}
    if config.get("env"):
        config["env"] = without_secrets(config["env"])
    inputs = request.inputs
    return {
        "task": request.task,
        "model": model or request.model,
        "backend": backend or request.backend,
        "inputs": {
            "image": str(cwd / inputs.image) if inputs.image else None,
            "audio": str(cwd / inputs.audio) if inputs.audio else None,
            "prompt": inputs.prompt,
        },
        "config": config,
    }
