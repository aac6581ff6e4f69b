"""A model's card: the facts that people read and presets set, from `configs/models/<id>.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from omnirt_cli.config_data import config_text
from omnirt_cli.models.base import Variant
from omnirt_cli.yaml_document import load_yaml


class CardPart(BaseModel):
    """Base of the card's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PresetCard(CardPart):
    """What a preset sets: `knobs` everywhere, and `variants` on top where a checkout is that variant."""

    summary: str
    knobs: dict[str, Any] = Field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def for_variant(self, variant: Variant | None) -> Mapping[str, Any]:
        """The knobs for one variant; the common ones where none is known."""
        return {**self.knobs, **self.variants.get(variant.name if variant else "", {})}


class MemoryRow(CardPart):
    """What one way of running needs.

    Attributes:
        mode: The settings that it holds for, in words.
        when: The same as knobs; the first row whose knobs all agree is the one that holds.
        per_device_gib: On each device; every process holds all weights.
        aggregate_gib: Over all devices, where only that was published.
        kind: `measured` by somebody on a device, `published` as a claim, or `estimated` by us from what is known.
    """

    mode: str
    backend: str
    when: dict[str, Any] = Field(default_factory=dict)
    per_device_gib: float | None = None
    aggregate_gib: float | None = None
    host: str | None = None
    kind: str
    source: str


class TimingRow(CardPart):
    """A published time to compare a run with."""

    what: str
    value_ms: float
    hardware: str
    settings: str
    source: str


class ProcessesCard(CardPart):
    """Process counts that the model's authors or adapters have shown."""

    published: int
    counts: dict[str, list[int]]


class ModelCard(CardPart):
    """The whole card."""

    id: str
    summary: str
    inputs: dict[str, str]
    processes: ProcessesCard
    knobs: dict[str, str]
    presets: dict[str, PresetCard]
    memory: list[MemoryRow]
    timing: list[TimingRow]


@lru_cache
def model_card(model_id: str) -> ModelCard:
    """The card of a model that OmniRT knows."""
    return ModelCard.model_validate(load_yaml(config_text("models", f"{model_id}.yaml")))
