"""The cards: the rows of their tables say what they must, and the right one is found."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from pydantic import ValidationError

from omnirt_cli.models.base import Backend, KnobValue, ModelAdapter
from omnirt_cli.models.card import CheckpointFile, FigureKind, HostRow, MemoryRow, Row, closest
from omnirt_cli.models.registry import adapters

MODELS = pytest.mark.parametrize("model", adapters(), ids=lambda model: model.info.key)
WHOLE: dict[str, Any] = {"mode": "bf16", "backend": "cuda", "kind": "measured", "source": "a bench"}


def knobs(values: dict[str, Any]) -> dict[str, KnobValue]:
    return {name: KnobValue(value, "test") for name, value in values.items()}


# --- the parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("figures", [{}, {"per_device_gib": 1, "aggregate_gib": 2}], ids=["none", "both"])
def test_a_memory_row_has_exactly_one_figure(figures: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="bf16: give per_device_gib or aggregate_gib"):
        MemoryRow(**WHOLE, **figures)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"per_device_gib": 38.5}, "38.5 GiB on each device"),
        ({"aggregate_gib": 48}, "48 GiB in all"),
        (
            {"per_device_gib": 48, "shared_bytes_per_pixel": 134400},
            "48 GiB on each device, and 37.5 GiB split between the processes at 416*720",
        ),
    ],
)
def test_a_need_can_be_told_in_words(figures: dict[str, float], words: str) -> None:
    assert MemoryRow(**WHOLE, **figures).figure((416, 720)) == words


def test_a_figure_is_of_a_known_kind() -> None:
    with pytest.raises(ValidationError, match="'measured', 'published' or 'estimated'"):
        MemoryRow(**{**WHOLE, "kind": "guessed"}, per_device_gib=1)


def test_a_misspelt_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="sizes"):
        CheckpointFile.model_validate({"file": "a.pth", "sizes": 3})


def test_a_row_holds_where_all_its_settings_agree() -> None:
    row = Row(when={"cpu_offload": True, "quantize": None})

    assert row.holds({"cpu_offload": True})
    assert row.holds({"cpu_offload": True, "quantize": None, "seed": 1})
    assert not row.holds({"cpu_offload": True, "quantize": "quanto-int4"})
    assert not row.holds({"quantize": None})


def test_the_closest_row_names_most_settings_and_the_first_wins_a_tie() -> None:
    plain, first, second, both = (Row(when=when) for when in ({}, {"a": 1}, {"b": 1}, {"a": 1, "b": 1}))

    assert closest([plain, first, second, both], {"a": 1, "b": 1}) is both
    assert closest([plain, first, second], {"a": 1, "b": 1}) is first
    assert closest([plain, first, second], {}) is plain
    assert closest([first, second], {}) is None


# --- the cards ------------------------------------------------------------------------------------


@MODELS
def test_rows_speak_of_knobs_that_the_model_has(model: ModelAdapter) -> None:
    card = model.card

    for row in (*card.memory, *card.host.rows, *card.checkpoint):
        assert set(row.when) <= set(model.knobs()), row


@MODELS
def test_every_mode_is_found_by_its_own_knobs(model: ModelAdapter) -> None:
    for row in model.card.memory:
        assert model.memory_row(Backend(row.backend), knobs(row.when)) == row
    for host in model.card.host.rows:
        assert model.host_row(Backend(host.backend or "cuda"), knobs(host.when)) == host


@MODELS
def test_every_backend_with_devices_has_a_need_for_the_usual_settings(model: ModelAdapter) -> None:
    for backend in (Backend.ASCEND, Backend.CUDA):
        usual = {"model_type": "pro"} if "model_type" in model.knobs() else {}
        assert model.memory_row(backend, knobs(usual)) is not None
        assert model.host_row(backend, knobs(usual)) is not None
    assert model.memory_row(Backend.CPU, {}) is None


@MODELS
def test_figures_have_sources_and_agree_with_themselves(model: ModelAdapter) -> None:
    rows: list[MemoryRow | HostRow] = [*model.card.memory, *model.card.host.rows]

    assert all(row.source for row in rows)
    assert all(row.at_size for row in model.card.memory if row.kind is FigureKind.MEASURED)
    assert all(row.resident_gib > 0 and row.loading_gib > 0 for row in model.card.host.rows)
    for row in model.card.memory:
        assert row.fails_under_gib is None or (row.per_device_gib or 0) > row.fails_under_gib
    assert model.card.host.frames_source


@MODELS
def test_checkpoint_files_lie_in_folders_that_can_be_named(model: ModelAdapter) -> None:
    for row in model.card.checkpoint:
        assert row.folder in ("ckpt_dir", "wav2vec_dir", *model.knobs())
        for name in (row.file, *row.instead):
            assert not PurePosixPath(name).is_absolute()
            assert ".." not in PurePosixPath(name).parts
        assert not (row.size and row.least)
        assert bool(row.size or row.least) <= bool(row.source)


@MODELS
def test_no_settings_want_the_same_file_twice(model: ModelAdapter) -> None:
    for usual in ({}, {"model_type": "pro"}, {"model_type": "lite"}, {"t5_quant": "int8"}):
        wanted = [(row.folder, row.file) for row in model.checkpoint_files(knobs(usual))]
        assert len(wanted) == len(set(wanted))
