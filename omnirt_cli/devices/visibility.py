"""Which devices a run may see: one source decides, one normalised value reaches the child.

`--visible-devices` if given, else the vendor's own variable, else all. A malformed list is refused with the corrected
value, because CANN silently drops what it cannot read (`1, 2` means device 1 alone) and wants ascending order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from omnirt_cli.errors import DevicesUnavailableError
from omnirt_cli.models.base import Backend

VARIABLES = {Backend.ASCEND: "ASCEND_RT_VISIBLE_DEVICES", Backend.CUDA: "CUDA_VISIBLE_DEVICES"}

_NUMBER = re.compile(r"[0-9]{1,4}")
_CUDA_NAME = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]+")


@dataclass(frozen=True)
class Visibility:
    """The devices a run may see.

    Attributes:
        ids: In the order the child sees them; None where nothing limits them.
        source: What decided: the flag, the variable, or `all`.
    """

    kind: Backend
    ids: tuple[str, ...] | None
    source: str

    @property
    def value(self) -> str | None:
        """The variable's normalised value."""
        return ",".join(self.ids) if self.ids is not None else None


def resolve_visibility(
    kind: Backend, flag: str | None, environ: Mapping[str, str], *, flag_source: str = "--visible-devices"
) -> Visibility:
    """Decide which devices a run may see.

    Raises:
        DevicesUnavailableError: A malformed list, or a flag that names devices which the variable hides.
    """
    if kind is Backend.CPU:
        return Visibility(kind, None, "cpu")
    variable = VARIABLES[kind]
    outer = environ.get(variable)
    outer_ids = parse_ids(kind, outer, variable) if outer is not None else None
    if flag is None:
        return Visibility(kind, outer_ids, variable if outer_ids is not None else "all")
    ids = parse_ids(kind, flag, flag_source)
    if outer_ids is not None:
        hidden = [device for device in ids if device not in outer_ids]
        if hidden:
            raise DevicesUnavailableError(
                f"{flag_source} names {', '.join(hidden)}, but {variable}={outer} hides it",
                hint=f"choose among {','.join(outer_ids)}, or unset {variable}",
            )
    return Visibility(kind, ids, flag_source)


def parse_ids(kind: Backend, text: str, source: str) -> tuple[str, ...]:
    """A visibility list, refused where a vendor's runtime would read it differently than it looks.

    Raises:
        DevicesUnavailableError: Empty, spaces, duplicates, or (Ascend) not ascending; the hint has the corrected value.
    """
    parts = [part.strip() for part in text.split(",")]
    good = [part for part in parts if part and _valid(kind, part)]
    corrected = _corrected(kind, good)
    if not good:
        raise DevicesUnavailableError(
            f"{source}={text!r} makes no device visible", hint=f"name devices by number, e.g. {source}=0,1"
        )
    if text != ",".join(corrected):
        raise DevicesUnavailableError(
            f"{source}={text!r} is malformed: {_complaint(kind, text, parts)}", hint=f"write {','.join(corrected)}"
        )
    return tuple(corrected)


def _valid(kind: Backend, part: str) -> bool:
    return bool(_NUMBER.fullmatch(part)) or (kind is Backend.CUDA and bool(_CUDA_NAME.fullmatch(part)))


def _corrected(kind: Backend, good: list[str]) -> list[str]:
    normal = [str(int(part)) if _NUMBER.fullmatch(part) else part for part in good]
    unique = list(dict.fromkeys(normal))
    return sorted(unique, key=int) if kind is Backend.ASCEND else unique


def _complaint(kind: Backend, text: str, parts: list[str]) -> str:
    unknown = [part for part in parts if part and not _valid(kind, part)]
    if unknown:
        return f"{unknown[0]!r} is no device number"
    if any(char.isspace() for char in text) or "" in parts:
        return "spaces and empty entries end the list early"
    if len(set(parts)) < len(parts):
        return "a device is named twice"
    return "devices must be in ascending order"
