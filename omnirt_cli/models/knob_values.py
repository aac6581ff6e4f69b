"""Knob values: reading them, and refusing those that no SoulX model can run, with the nearest that would do.

Nothing here knows a checkout or a flag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from omnirt_cli.errors import InputInvalidError, UsageError
from omnirt_cli.models.base import Geometry, KnobValue


def spelled(knob: str) -> str:
    """A knob's name on OmniRT's command line."""
    return "--" + knob.replace("_", "-")


def parse_size(size: str) -> tuple[int, int]:
    """Width and height of `W*H`.

    Raises:
        UsageError: It is written otherwise.
    """
    match = re.fullmatch(r"\s*(\d+)\s*[*xX]\s*(\d+)\s*", str(size))
    if not match or 0 in map(int, match.groups()):
        raise UsageError(f"--size {size!r} is not a size.", hint="Write width*height in pixels, e.g. --size '416*704'.")
    return int(match[1]), int(match[2])


def knob_value(knobs: Mapping[str, KnobValue], name: str) -> Any:
    """A knob's value, None where nobody set it."""
    knob = knobs.get(name)
    return knob.value if knob else None


def whole_number(params: Mapping[str, Any], key: str) -> int:
    """A count from a checkout's `infer_params.yaml`.

    Raises:
        InputInvalidError: It is no whole number.
    """
    value = params[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 1:
        raise InputInvalidError(
            f"{key} is {value!r} in the checkout's infer_params.yaml.",
            hint="It must be a whole number of 1 or more; restore the file from the repository.",
        )
    return int(value)


def require(holds: bool, message: str, hint: str) -> None:  # noqa: FBT001
    """Refuse a value.

    Raises:
        UsageError: The condition does not hold.
    """
    if not holds:
        raise UsageError(message, hint=hint)


def require_new_frames(geometry: Geometry) -> None:
    """Refuse frame counts that leave nothing new in a chunk.

    Raises:
        UsageError: They do.
    """
    require(
        geometry.fps >= 1 and geometry.slice_frames >= 1 and geometry.slice_samples >= 1,
        f"--motion-frames-num {geometry.motion_frames_num} leaves no new frame of --frame-num {geometry.frame_num} "
        f"at {geometry.fps} frames per second.",
        "Use fewer motion frames than frames; published pairs are 33/5, 33/9 (FlashHead lite) and 29/1.",
    )


def require_step(knob: str, value: int, step: int) -> None:
    """Refuse a frame count that is not one more than a multiple of the VAE's time step.

    Raises:
        UsageError: It is not.
    """
    lower = max(1, (value - 1) // step * step + 1)
    require(
        value >= 1 and value % step == 1 % step,
        f"{spelled(knob)} {value} does not fit: the model needs a multiple of {step}, plus 1.",
        f"The nearest that fit are {lower} and {lower + step}.",
    )


def require_multiple(geometry: Geometry, step: int) -> None:
    """Refuse a picture size that the model cannot divide.

    Raises:
        UsageError: It cannot.
    """
    width, height = (max(step, round(side / step) * step) for side in (geometry.width, geometry.height))
    require(
        geometry.width % step == 0 and geometry.height % step == 0,
        f"--size {geometry.width}*{geometry.height} does not fit: both sides must be multiples of {step}.",
        f"The nearest that fits is --size '{width}*{height}'.",
    )


def transposed_profile(geometry: Geometry, profiles: Iterable[tuple[int, int]]) -> list[str]:
    """A warning where width and height of a known profile were probably exchanged."""
    size, transpose = (geometry.width, geometry.height), (geometry.height, geometry.width)
    known = set(profiles)
    if size in known or transpose not in known:
        return []
    published = f"the published profile is --size '{transpose[0]}*{transpose[1]}'"
    return [f"--size is width*height, and {size[0]}*{size[1]} is wider than high; {published}"]


def splits_as_grid(processes: int, rows: int, columns: int) -> bool:
    """Whether some grid of `processes` tiles divides rows and columns (the 2-D split VAE needs one)."""
    return any(
        processes % down == 0 and rows % down == 0 and columns % (processes // down) == 0
        for down in range(1, processes + 1)
    )
