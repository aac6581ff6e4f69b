"""What a client may set: generation knobs, and nothing that says where or by what a render runs.

Derived from `request.Config`: a setting that names a path or needs trust, or that is about launch, place or output, is
the operator's.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, create_model
from pydantic.fields import FieldInfo

from omnirt_cli.request import Config, Panel, option_facts

_OPEN_PANELS = frozenset({Panel.GENERATION, Panel.FLASHTALK, Panel.FLASHHEAD, Panel.LIVEACT})
_OPEN_LIMITS = frozenset({"timeout", "verify", "allow_black", "allow_frozen"})
"""Settings of a run that concern nobody but who asks for it."""

_PLACEMENT = frozenset({"device", "platform", "text_cache_device", "text_cache_visible_devices"})
"""Knobs in a model's panel that say what it computes on."""


def may_be_set(name: str, field: FieldInfo) -> bool:
    """Whether a client may set this one."""
    facts = option_facts(field)
    if facts["trusted"] or facts["path"] is not None or name in _PLACEMENT:
        return False
    return Panel(facts["panel"]) in _OPEN_PANELS or name in _OPEN_LIMITS


class _ClientConfig(BaseModel):
    """Base of the derived model; reads values as `Config` does."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_enum_values=True, protected_namespaces=(), coerce_numbers_to_str=True
    )


def _open_fields() -> dict[str, Any]:
    return {
        name: (field.annotation, _without_facts(field))
        for name, field in Config.model_fields.items()
        if may_be_set(name, field)
    }


def _without_facts(field: FieldInfo) -> FieldInfo:
    """The same field; what it says to the command line is nothing for an API's schema."""
    plain = copy(field)
    plain.json_schema_extra = None
    return plain


if TYPE_CHECKING:
    GenerationConfig = _ClientConfig
else:
    GenerationConfig = create_model(
        "GenerationConfig",
        __base__=_ClientConfig,
        __doc__="The knobs of a render; those that are left out are as the server's settings and the preset say.",
        **_open_fields(),
    )
    """The `config` of a request over HTTP."""

OPERATORS = frozenset(Config.model_fields) - frozenset(GenerationConfig.model_fields)
"""Settings that exist, and that a client may not set."""
