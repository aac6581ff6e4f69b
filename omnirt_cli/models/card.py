"""A model's card: the facts that people read and presets set, from `configs/models/<id>.yaml`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from omnirt_cli.config_data import config_text
from omnirt_cli.yaml_document import load_yaml


class CardPart(BaseModel):
    """Base of the card's parts."""

    # Only the whole card is ever validated; validators of its parts are not built.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class PresetCard(CardPart):
    """What a preset sets: `knobs` everywhere, and `variants` on top where a checkout is that variant."""

    summary: str
    knobs: dict[str, Any] = Field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def for_variant(self, name: str | None) -> Mapping[str, Any]:
        """The knobs for the variant of that name; the common ones where none is known."""
        return {**self.knobs, **self.variants.get(name or "", {})}


class FigureKind(str, Enum):
    """How far a figure can be trusted."""

    MEASURED = "measured"
    """Somebody ran it and read the vendor's tool or torch's own count."""
    PUBLISHED = "published"
    """Claimed by the authors, without a measurement that could be read."""
    ESTIMATED = "estimated"
    """Reckoned by us; `source` says from what."""


class Row(CardPart):
    """A fact that holds for some settings only.

    Attributes:
        when: These settings as knobs; null stands for a knob that nobody set.
    """

    when: dict[str, Any] = Field(default_factory=dict)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether these knob values are the settings that the row speaks of."""
        return all(values.get(knob) == wanted for knob, wanted in self.when.items())


class MemoryRow(Row):
    """What one way of running needs of the devices; rows stand in the order of quality, best first.

    Of the rows that hold, the one with the most settings does; the first of several.

    Attributes:
        mode: The settings that it holds for, in words.
        per_device_gib: On each device; every process holds all weights.
        aggregate_gib: Over all devices, where a source says so for this backend.
        shared_bytes_per_pixel: On top of that, what grows with the picture and is split between the processes, bytes.
        at_size: Width and height that a measurement was made at; for a smaller picture the figure is an estimate.
        fails_under_gib: Somebody ran out of memory on a device with so much free; certain, whatever `kind` says.
        most_processes: More processes cannot run, or silently run another mode; None where any number can.
        selectable: Whether `low-vram` may choose it, and a refusal may offer it; False for a mode that nobody is known
            to have run.
        kind: How far the figure can be trusted.
    """

    mode: str
    backend: str
    per_device_gib: float | None = None
    aggregate_gib: float | None = None
    shared_bytes_per_pixel: float = 0
    at_size: tuple[int, int] | None = None
    fails_under_gib: float | None = None
    most_processes: int | None = None
    selectable: bool = True
    host: str | None = None
    kind: FigureKind
    source: str

    @model_validator(mode="after")
    def _one_figure(self) -> MemoryRow:
        if (self.per_device_gib is None) == (self.aggregate_gib is None):
            raise ValueError(f"{self.mode}: give per_device_gib or aggregate_gib, not both")
        return self

    def per_device_at(self, width: int, height: int, processes: int) -> float | None:
        """GiB on each device for a picture of this size; None where only a sum is known."""
        if self.per_device_gib is None:
            return None
        return self.per_device_gib + self._shared_gib(width, height) / min(processes, self.most_processes or processes)

    def _shared_gib(self, width: int, height: int) -> float:
        return self.shared_bytes_per_pixel * width * height / 2**30

    def figure(self, size: tuple[int, int]) -> str:
        """The need in words, e.g. `60 GiB on each device`; what grows with the picture is told for one size."""
        if self.per_device_gib is None:
            return f"{self.aggregate_gib:g} GiB in all"
        each = f"{self.per_device_gib:g} GiB on each device"
        if not self.shared_bytes_per_pixel:
            return each
        width, height = size
        return f"{each}, and {self._shared_gib(*size):.1f} GiB split between the processes at {width}*{height}"


class HostRow(Row):
    """What one process needs of the machine's own memory, its frames not counted.

    Of the rows that hold, the one with the most settings does; the first of several.

    Attributes:
        backend: Null for every backend.
        loading_gib: The most at any time while weights are loaded.
        resident_gib: What stays after that, while frames pile up beside it.
    """

    mode: str
    backend: str | None = None
    loading_gib: float
    resident_gib: float
    kind: FigureKind
    source: str


class HostCard(CardPart):
    """What a run needs of the machine's own memory.

    Attributes:
        frame_copies: How often the script holds each finished frame (float32 RGB) in every process, at its worst.
        frames_source: Where that was read.
    """

    frame_copies: int = Field(default=1, ge=1)
    frames_source: str = ""
    rows: list[HostRow] = Field(default_factory=list)


class CheckpointFile(Row):
    """A file that the script opens while it loads.

    Attributes:
        file: Path inside the folder.
        folder: `ckpt_dir`, `wav2vec_dir`, or a knob that names a folder (the checkpoint's where it is not set).
        itself: The knob in `folder` names the file itself, and where it is not set there is none.
        instead: Files that together do the same; then this one may be missing.
        size: Exact, bytes.
        least: Where no exact size was published: smaller than this is certainly not whole, bytes.
    """

    file: str
    folder: str = "ckpt_dir"
    itself: bool = False
    instead: list[str] = Field(default_factory=list)
    size: int | None = Field(default=None, ge=1)
    least: int | None = Field(default=None, ge=1)
    source: str = ""


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
    """The whole card.

    Attributes:
        usual_size: Width and height that the model is mostly run at; figures that depend on it are told for it.
    """

    id: str
    summary: str
    inputs: dict[str, str]
    usual_size: tuple[int, int]
    processes: ProcessesCard
    knobs: dict[str, str]
    presets: dict[str, PresetCard]
    memory: list[MemoryRow]
    host: HostCard = Field(default_factory=HostCard)
    checkpoint: list[CheckpointFile] = Field(default_factory=list)
    timing: list[TimingRow]


AnyRow = TypeVar("AnyRow", bound=Row)


def closest(rows: Iterable[AnyRow], values: Mapping[str, Any]) -> AnyRow | None:
    """The row that says the most about these settings: it holds, and no other that does names more of them."""
    return max((row for row in rows if row.holds(values)), key=lambda row: len(row.when), default=None)


@lru_cache
def model_card(model_id: str) -> ModelCard:
    """The card of a model that OmniRT knows."""
    return ModelCard.model_validate(load_yaml(config_text("models", f"{model_id}.yaml")))
