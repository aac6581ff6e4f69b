"""What `--preset low-vram` comes to here: the best mode that fits what is there and that the checkout supports.

Every process holds all weights, so fewer processes never hurt; where a mode fits only fewer devices than the run could
have, that many are reckoned with. The run's own process count follows the same memory (`devices.most_devices`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omnirt_cli.memory_budget import ModeChoice, fitting_mode
from omnirt_cli.models.base import KnobValue
from omnirt_cli.planner.devices import to_be_had
from omnirt_cli.planner.planning import Planning

WithPreset = Callable[[Planning, Mapping[str, Any], str], dict[str, KnobValue]]


def mode_that_fits(planning: Planning, preset: Mapping[str, Any], with_preset: WithPreset) -> Mapping[str, Any]:
    """The knobs that the preset sets for this run; a mode that cannot fit is warned about."""
    choices = _choices(planning, preset, with_preset)
    good = [choice for choice in choices if choice.warning is None]
    chosen = min(good, key=lambda choice: _rank(planning, choice)) if good else choices[-1]
    if chosen.warning:
        planning.draft.warnings.append(f"--preset low-vram: {chosen.warning}")
    return chosen.knobs


def _choices(planning: Planning, preset: Mapping[str, Any], with_preset: WithPreset) -> list[ModeChoice]:
    """The best mode for each number of processes that the run could have, the largest first."""
    adapter = planning.adapter
    checkout, variant, backend = planning.facts()
    devices = to_be_had(planning)
    geometry = adapter.geometry(checkout, with_preset(planning, preset, ""))
    return [
        fitting_mode(
            adapter,
            backend,
            with_preset(planning, {}, ""),
            geometry,
            devices=devices,
            processes=processes,
            can_set=lambda knob: planning.get(knob) is None and adapter.can_set(knob, checkout, variant),
            preset=preset,
        )
        for processes in _counts(planning, len(devices))
    ]


def _counts(planning: Planning, devices: int) -> list[int]:
    said = planning.get("nproc_per_node") or planning.get("num_processes")
    if said is not None:
        return [int(said)]
    most = min(devices, planning.adapter.info.published_processes)
    return list(range(max(most, 1), 0, -1))


def _rank(planning: Planning, choice: ModeChoice) -> int:
    """The mode's place in the card, which lists the best first."""
    modes = [row.mode for row in planning.adapter.card.memory]
    return modes.index(choice.need.mode) if choice.need and choice.need.mode in modes else 0
