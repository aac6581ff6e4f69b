"""What the model's Python sees of the devices, against what the vendor's tool says.

The two differ where a run would fail late: a visibility list that the runtime reads differently, a torch without
support for the device, a driver whose libraries are not found. The look takes seconds, for torch is imported; it is
made in a child that is bounded and killed with everything it started.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import launchers
from omnirt_cli import bounded
from omnirt_cli.devices.device import Device, Inventory
from omnirt_cli.devices.visibility import VARIABLES, Visibility
from omnirt_cli.models.base import Backend

PROGRAM = Path(launchers.__file__).parent / "model_env" / "probe_devices.py"
TIMEOUT_S = 60.0
"""Importing torch and torch_npu from a cold network disk takes most of a minute."""

_ANSWER_LIMIT = 1024 * 1024
_BYTES_PER_GIB = 1024**3
_TOTAL_TOLERANCE = 0.1
"""Of the vendor tool's total: runtimes leave out what the driver keeps for itself."""
_MAKERS = ("nvidia", "ascend")


@dataclass(frozen=True)
class SeenDevice:
    """One device as torch sees it; None where it does not tell, and `problem` says why."""

    name: str | None = None
    total_gib: float | None = None
    free_gib: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Versions:
    """Of what the model's Python would run with; None where it is not there."""

    python: str | None = None
    torch: str | None = None
    torch_npu: str | None = None


@dataclass(frozen=True)
class ProbeResult:
    """What the model's Python sees.

    Attributes:
        devices: In the order the child sees them; None where that cannot be told.
        problem: Why there is none, or nothing can be told, in one sentence.
    """

    devices: tuple[SeenDevice, ...] | None
    versions: Versions = Versions()
    problem: str | None = None


def probe_model_python(
    python: Path, env: Mapping[str, str], kind: Backend, timeout_s: float = TIMEOUT_S
) -> ProbeResult:
    """Ask the model's Python. Never raises for what that Python does.

    Args:
        python: The interpreter that runs the model's script.
        env: The whole environment that the script would get, its visibility variable included.
        kind: Which accelerator.
        timeout_s: When it is killed, seconds.
    """
    argv = [str(python), str(PROGRAM), kind.value]
    try:
        outcome = bounded.run(argv, env=env, timeout_s=timeout_s, limit=_ANSWER_LIMIT)
    except OSError as error:
        return ProbeResult(None, problem=f"{python} cannot be started: {error.strerror}")
    if not outcome.ok:
        return ProbeResult(None, problem=f"{python} did not look for devices: {outcome.last_words(1)}")
    try:
        return _result(json.loads(outcome.stdout))
    except (ValueError, TypeError, KeyError, AttributeError):
        return ProbeResult(None, problem=f"{python} did not answer as a Python does: is it one?")


def compare(inventory: Inventory, visibility: Visibility, probe: ProbeResult) -> list[str]:
    """Where the model's Python and the vendor's tool disagree, a sentence each; empty where they do not."""
    if probe.devices is None:
        return [probe.problem or "the model's Python does not tell which devices it sees"]
    asked = visibility.ids if visibility.ids is not None else inventory.ids
    if asked is not None and len(asked) != len(probe.devices):
        return [_other_count(asked, visibility, probe)]
    pairs = zip(asked or [str(place) for place in range(len(probe.devices))], probe.devices, strict=True)
    return [
        sentence
        for device_id, seen in pairs
        for sentence in _differences(device_id, inventory.device(device_id), seen, inventory.source)
    ]


def _result(document: dict[str, Any]) -> ProbeResult:
    devices = document["devices"]
    return ProbeResult(
        devices=None if devices is None else tuple(_seen(device) for device in devices),
        versions=Versions(document["python"], document["torch"], document["torch_npu"]),
        problem=document["problem"],
    )


def _seen(device: dict[str, Any]) -> SeenDevice:
    return SeenDevice(
        device["name"], _gib(device["total_bytes"]), _gib(device["free_bytes"]), problem=device["problem"]
    )


def _gib(count: int | None) -> float | None:
    return None if count is None else count / _BYTES_PER_GIB


def _other_count(asked: tuple[str, ...], visibility: Visibility, probe: ProbeResult) -> str:
    """CANN silently drops ids that it cannot open, and CUDA stops at the first that it does not know."""
    seen = len(probe.devices or ())
    if visibility.ids is None:
        wanted = f"but this machine has {len(asked)}"
    else:
        wanted = f"but {VARIABLES[visibility.kind]}={visibility.value} names {len(asked)}"
    why = f" ({probe.problem})" if probe.problem else ""
    return f"the model's Python sees {seen} device{'s' * (seen != 1)}{why}, {wanted}"


def _differences(device_id: str, told: Device | None, seen: SeenDevice, source: str) -> Iterator[str]:
    if seen.problem:
        yield f"device {device_id} does not answer the model's Python: {seen.problem}"
    if told is None:
        return
    if told.name and seen.name and not _same_name(told.name, seen.name):
        yield f"device {device_id} is {told.name} to {source}, but {seen.name} to the model's Python"
    if told.total_gib and seen.total_gib and abs(told.total_gib - seen.total_gib) > _TOTAL_TOLERANCE * told.total_gib:
        yield (
            f"device {device_id} has {told.total_gib:.1f} GiB to {source}, "
            f"but {seen.total_gib:.1f} GiB to the model's Python"
        )


def _same_name(one: str, other: str) -> bool:
    """Vendor tools and runtimes write a name with more or less around it: `910B2`, `Ascend910B2`."""
    first, second = _bare(one), _bare(other)
    return first in second or second in first


def _bare(name: str) -> str:
    bare = re.sub(r"[^a-z0-9]", "", name.lower())
    for maker in _MAKERS:
        bare = bare.removeprefix(maker)
    return bare
