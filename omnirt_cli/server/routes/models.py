"""The models: what there is, and what can be rendered right now."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from omnirt_cli.models import registry
from omnirt_cli.models.base import Backend
from omnirt_cli.server.knobs import GenerationConfig
from omnirt_cli.server.state import UseServices

router = APIRouter(tags=["models"])


class ModelEntry(BaseModel):
    """A model, in the published server's words and some more.

    Attributes:
        inputs: Those that must be given.
        presets: Preset -> what it sets, in words.
        knobs: Knob of this model that a request may set -> what it does.
        ready: Whether it can be rendered right now; None while nobody has looked.
    """

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "omnirt"
    task: str = "audio2video"
    status: str = "public"
    tier: str = "core"
    maturity: str = "beta"
    default_backend: str
    summary: str
    inputs: list[str]
    optional_inputs: list[str]
    presets: dict[str, str]
    knobs: dict[str, str]
    ready: bool | None = None


class ModelList(BaseModel):
    """Every model."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


class ModelStatus(BaseModel):
    """Whether a model is connected, by its short name."""

    id: str
    model: str
    connected: bool
    reason: str | None = None


class ConnectedModels(BaseModel):
    """What front ends ask before they offer a model."""

    models: list[str]
    statuses: list[ModelStatus]


@router.get("/v1/models")
async def models(services: UseServices) -> ModelList:
    """The models, with their inputs, presets and knobs."""
    states = services.survey.states
    return ModelList(
        data=[
            ModelEntry(**_facts(model_id), ready=None if states is None else states[model_id].ok)
            for model_id in registry.model_ids()
        ]
    )


def _facts(model_id: str) -> dict[str, Any]:
    adapter = registry.adapter(model_id)
    card, info = adapter.card, adapter.info
    return {
        "id": info.id,
        "default_backend": Backend.ASCEND.value if Backend.ASCEND in info.backends else info.backends[0].value,
        "summary": card.summary,
        "inputs": list(info.inputs),
        "optional_inputs": list(info.optional_inputs),
        "presets": {name: preset.summary for name, preset in card.presets.items()},
        "knobs": {name: card.knobs.get(name, "") for name in adapter.knobs() if name in GenerationConfig.model_fields},
    }


@router.get("/v1/audio2video/models")
async def audio2video_models(services: UseServices) -> ConnectedModels:
    """Which models can be rendered right now, by their short names; takes nothing away from anybody."""
    states = services.survey.states or {}
    statuses = []
    for adapter in registry.adapters():
        state = states.get(adapter.info.id)
        reason = "the models have not been looked at yet" if state is None else state.reason
        ok = state is not None and state.ok
        statuses.append(ModelStatus(id=adapter.info.key, model=adapter.info.id, connected=ok, reason=reason))
    return ConnectedModels(models=[status.id for status in statuses if status.connected], statuses=statuses)
