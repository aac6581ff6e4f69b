"""Profiles to measure, by name, from `configs/bench/scenarios.yaml`; and the inputs that a benchmark has without any.

A scenario is a layer of settings between the request file and the environment: what the user says wins over it, what a
machine happens to be set to does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from omnirt_cli.config_data import config_text
from omnirt_cli.errors import UsageError
from omnirt_cli.models import registry
from omnirt_cli.request import Audio2VideoRequest, Config
from omnirt_cli.settings import Layer, Setting
from omnirt_cli.yaml_document import load_yaml, nearest

_SAMPLES = Path(__file__).resolve().parents[1] / "miniature" / "assets"
SAMPLE_PORTRAIT = _SAMPLES / "portrait.png"
SAMPLE_SPEECH = _SAMPLES / "speech.wav"


class Scenario(BaseModel):
    """One profile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: str
    model: str
    config: dict[str, Any]
    source: str


@lru_cache
def scenarios() -> Mapping[str, Scenario]:
    """Every scenario by its name."""
    found = load_yaml(config_text("bench", "scenarios.yaml"))
    return {name: Scenario.model_validate(value) for name, value in found.items()}


def scenario(name: str) -> Scenario:
    """The scenario of that name.

    Raises:
        UsageError: There is none.
    """
    if name in scenarios():
        return scenarios()[name]
    guess = nearest(name, scenarios())
    hint = f"did you mean {guess}?" if guess else f"one of {', '.join(scenarios())}"
    raise UsageError(f"--scenario {name}: there is no such scenario", hint=hint)


def with_scenario(
    name: str | None, request: Audio2VideoRequest, layer: Layer | None
) -> tuple[Audio2VideoRequest, Layer | None]:
    """The request as the scenario completes it, and the layer of settings that goes with it.

    Args:
        name: The scenario's, or None for a request that stands alone.
        request: What the flags say.
        layer: The `--config` file's settings.

    Raises:
        UsageError: There is no such scenario, or it is another model's.
    """
    request = _with_samples(request)
    if name is None:
        return request, layer
    chosen = scenario(name)
    if request.model is not None and registry.adapter(request.model).info.id != chosen.model:
        raise UsageError(f"--scenario {name} is for {chosen.model}, not for {request.model}", hint="leave out --model")
    said = Config.model_validate(chosen.config).said()
    settings = {key: Setting(value, f"scenario {name}") for key, value in said.items()}
    values = {**settings, **(layer.values if layer else {})}
    return request.model_copy(update={"model": chosen.model}), Layer(f"scenario {name}", values)


def _with_samples(request: Audio2VideoRequest) -> Audio2VideoRequest:
    inputs = request.inputs
    update = {"image": inputs.image or str(SAMPLE_PORTRAIT), "audio": inputs.audio or str(SAMPLE_SPEECH)}
    return request.model_copy(update={"inputs": inputs.model_copy(update=update)})
