"""The models that OmniRT can run, by id."""

from __future__ import annotations

import difflib
from pathlib import Path

from omnirt_cli.errors import UsageError
from omnirt_cli.models.base import ModelInfo
from omnirt_cli.models.flashhead import FlashHeadAdapter
from omnirt_cli.models.flashtalk import FlashTalkAdapter
from omnirt_cli.models.liveact import LiveActAdapter
from omnirt_cli.models.soulx_script import SoulXScriptAdapter

_ADAPTERS: dict[str, SoulXScriptAdapter] = {
    adapter.info.id: adapter for adapter in (FlashTalkAdapter(), FlashHeadAdapter(), LiveActAdapter())
}


def model_ids() -> tuple[str, ...]:
    """Every model's id, in the order they are listed."""
    return tuple(_ADAPTERS)


def model_keys() -> tuple[str, ...]:
    """Every model's short name, as settings and environment variables have it."""
    return tuple(known.info.key for known in _ADAPTERS.values())


def miniature_checkout(info: ModelInfo) -> Path:
    """The miniature checkout of a model, inside this package; launched, never imported."""
    return Path(__file__).parents[1] / "miniature" / "checkouts" / info.miniature


def adapters() -> tuple[SoulXScriptAdapter, ...]:
    """Every model's adapter, in the same order."""
    return tuple(_ADAPTERS.values())


def adapter(model_id: str) -> SoulXScriptAdapter:
    """The adapter of a model, by its id or its short key (`flashtalk`).

    Raises:
        UsageError: There is no such model.
    """
    by_key = {known.info.key: known for known in _ADAPTERS.values()}
    found = _ADAPTERS.get(model_id) or by_key.get(model_id)
    if found:
        return found
    near = difflib.get_close_matches(model_id, [*_ADAPTERS, *by_key], n=1, cutoff=0.3)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(f"There is no model {model_id!r}.", hint=f"{meant}The models are {', '.join(_ADAPTERS)}.")
