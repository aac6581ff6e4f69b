"""The models together: their cards, presets and log rules fit what their adapters do."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from soulx_cases import CHECKOUTS, facts_of, model_of, request_for

from omnirt_cli.config_data import config_file, config_text
from omnirt_cli.errors import UsageError
from omnirt_cli.models.base import Backend, Carrier
from omnirt_cli.models.registry import adapter, adapters, model_ids

LOGS = Path(__file__).parents[1] / "data" / "logs"
NAMES = sorted(path.name for path in CHECKOUTS.iterdir() if path.is_dir())
PRESETS = ("fast", "balanced", "quality", "low-vram")


def test_a_model_is_found_by_id_and_by_key() -> None:
    assert model_ids() == ("soulx-flashtalk-14b", "soulx-flashhead-1.3b", "soulx-liveact-14b")
    assert adapter("flashhead") is adapter("soulx-flashhead-1.3b")


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no model 'soulx-flashtalk'") as caught:
        adapter("soulx-flashtalk")
    assert "Did you mean soulx-flashtalk-14b?" in (caught.value.hint or "")


@pytest.mark.parametrize("model", adapters(), ids=model_ids())
def test_the_card_describes_the_model(model) -> None:
    card = model.card
    assert card.id == model.info.id
    assert set(card.knobs) == set(model.knobs())
    assert set(card.inputs) == {*model.info.inputs, *model.info.optional_inputs}
    assert card.processes.published == model.info.published_processes
    assert tuple(card.presets) == PRESETS
    for preset in card.presets.values():
        named = itertools.chain(preset.knobs, *preset.variants.values())
        assert set(named) <= set(model.knobs())


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("checkout", NAMES)
def test_every_preset_passes_the_checks_of_every_checkout(checkout: str, name: str) -> None:
    model, facts = model_of(checkout), facts_of(checkout)
    variant = model.recognise(facts)
    backend = Backend.ASCEND if variant.name == "ascend" else Backend.CUDA
    preset = next(preset for preset in model.presets(facts, variant) if preset.name == name)
    request = request_for(checkout, backend=backend, **preset.knobs)
    assert model.check(request) == []
    assert bool(preset.knobs) is (name != "balanced")
    assert all(request.knobs[knob].carrier not in (None, Carrier.FIXED) for knob in preset.knobs)


@pytest.mark.parametrize("checkout", NAMES)
def test_defaults_have_carriers_and_need_no_warning(checkout: str) -> None:
    request = request_for(checkout)
    assert model_of(checkout).check(request) == []
    assert all(value.carrier for value in request.knobs.values())


def test_presets_can_be_told_without_a_checkout() -> None:
    for model in adapters():
        assert [preset.name for preset in model.presets(None, None)] == list(PRESETS)


def marks(model_key: str, log: Path) -> dict[str, list[re.Match[bytes]]]:
    """Every mark in a recorded log. Its lines begin with a time and a stream; carriage returns are kept."""
    model = adapter(model_key)
    rules = model.log_rules(model.recognise(facts_of("flashtalk_new" if model_key == "flashtalk" else model_key)))
    found: dict[str, list[re.Match[bytes]]] = {}
    for line in re.split(rb"[\r\n]", log.read_bytes()):
        for rule in rules:
            match = rule.pattern.search(line) if rule.needle in line else None
            if match:
                found.setdefault(rule.kind.value, []).append(match)
    return found


@pytest.mark.parametrize(
    ("key", "log", "chunks", "steps"),
    [
        ("flashtalk", "flashtalk_old.ok.2p.log", 8, 4),
        ("flashtalk", "flashtalk_new.once.1p.log", 8, None),
        ("flashtalk", "flashtalk_ascend.env.2p.log", 9, 4),
        ("flashhead", "flashhead.ok_pro.2p.log", 9, 4),
        ("flashhead", "flashhead.ok_lite.1p.log", 11, None),
        ("flashhead", "flashhead.ci_ansi.1p.log", 5, None),
    ],
)
def test_recorded_logs_are_understood(key: str, log: str, chunks: int, steps: int | None) -> None:
    found = marks(key, LOGS / log)
    assert [int(match["index"]) for match in found["chunk"]] == list(range(chunks))
    assert all(float(match["seconds"]) > 0 for match in found["chunk"])
    assert (len(found["ready"]), len(found["finished"]), len(found["saved"])) == (1, 1, 1)
    if steps:
        assert len(found["denoise_step"]) == chunks * steps
        assert len(found["vae_decode"]) == len(found["motion_encode"]) == chunks
    assert "fell_back" not in found


def test_a_needle_stands_in_every_line_that_its_pattern_takes() -> None:
    for model, log in itertools.product(adapters(), LOGS.glob("*.log")):
        for rule in model.log_rules(model.recognise(facts_of("flashtalk_new"))):
            taken = (line for line in re.split(rb"[\r\n]", log.read_bytes()) if rule.pattern.search(line))
            assert all(rule.needle in line for line in taken)


def test_configuration_data_is_found_and_a_missing_file_is_named() -> None:
    assert config_text("models", "soulx-flashtalk-14b.yaml").startswith("#")
    assert config_file("models").is_dir()
    with pytest.raises(FileNotFoundError, match=r"models/none\.yaml"):
        config_text("models", "none.yaml")
