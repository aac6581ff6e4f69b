"""Every knob with its value: said by somebody, else the preset's, else what the checkout runs anyway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omnirt_cli.errors import UsageError
from omnirt_cli.models.base import MODEL_DEFAULT, Carrier, KnobValue
from omnirt_cli.planner.low_vram import mode_that_fits
from omnirt_cli.planner.planning import Planning
from omnirt_cli.request import Config, Panel, PresetChoice, option_facts

DEFAULT_PRESET = PresetChoice.BALANCED.value
LOW_VRAM = PresetChoice.LOW_VRAM.value
KNOB_PANELS = frozenset(panel.value for panel in (Panel.GENERATION, Panel.FLASHTALK, Panel.FLASHHEAD, Panel.LIVEACT))


def knob_names() -> frozenset[str]:
    """Config keys that are generation knobs of some model."""
    return frozenset(
        name
        for name, info in Config.model_fields.items()
        if option_facts(info).get("panel") in KNOB_PANELS and name != "preset"
    )


def refuse_foreign_knobs(planning: Planning) -> None:
    """A knob said for this run that the model does not have is a mistake; one in a shared file may be another's.

    Raises:
        UsageError: There is one.
    """
    adapter = planning.adapter
    known, every = set(adapter.knobs()), knob_names()
    for key, setting in planning.draft.settings.values.items():
        if key not in every or key in known:
            continue
        if setting.source == "flag" or setting.source.startswith("request file"):
            raise UsageError(
                f"--{key.replace('_', '-')} is not a knob of {adapter.info.id}",
                hint="it has: " + ", ".join(f"--{name.replace('_', '-')}" for name in sorted(known)),
            )
    if planning.request.inputs.prompt and "prompt" not in adapter.info.optional_inputs:
        raise UsageError(f"{adapter.info.id} takes no prompt", hint="leave out --prompt")


def resolve_knobs(planning: Planning) -> dict[str, KnobValue]:
    """The knobs of this run, each with its source and its carrier."""
    adapter = planning.adapter
    checkout, variant, _ = planning.facts()
    preset_name = planning.get("preset") or DEFAULT_PRESET
    presets = {preset.name: preset for preset in adapter.presets(checkout, variant)}
    preset = presets[preset_name].knobs if preset_name in presets else {}
    if preset_name == LOW_VRAM and not checkout.miniature:
        preset = mode_that_fits(planning, preset, with_preset)
    return with_preset(planning, preset, f"preset {preset_name}")


def with_preset(planning: Planning, preset: Mapping[str, Any], source: str) -> dict[str, KnobValue]:
    """The knobs with these values where nobody said otherwise."""
    checkout, variant, backend = planning.facts()
    defaults = planning.adapter.defaults(checkout, variant, backend)
    knobs = {}
    for name in planning.adapter.knobs():
        if planning.get(name) is not None:
            value, where = planning.get(name), planning.source(name) or "flag"
        elif name in preset:
            value, where = preset[name], source
        else:
            value, where = defaults.get(name), MODEL_DEFAULT
        knobs[name] = KnobValue(value, where, planning.adapter.carrier(name, checkout, variant))
    return knobs


def refuse_private_knobs(planning: Planning) -> None:
    """A script that runs in its checkout opens the checkout's own YAML, which is never written.

    Raises:
        UsageError: A knob would have to travel there.
    """
    if not planning.runs_in_checkout:
        return
    for name, knob in planning.draft.config.items():
        if knob.carrier is Carrier.INFER_PARAMS and knob.source != MODEL_DEFAULT:
            raise UsageError(
                f"--{name.replace('_', '-')} travels in the private infer_params.yaml, which a script does not see "
                "with --working-directory checkout",
                hint="leave out one of the two",
            )
