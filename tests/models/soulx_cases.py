"""Requests against the miniature checkouts, for the adapters' tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import omnirt_cli
from omnirt_cli.checkout import CheckoutFacts, inspect_checkout
from omnirt_cli.models.base import Backend, KnobValue, ScratchNames, ScriptCall, ScriptRequest
from omnirt_cli.models.registry import adapter
from omnirt_cli.models.soulx_script import SoulXScriptAdapter

CHECKOUTS = Path(omnirt_cli.__file__).parent / "miniature" / "checkouts"


def facts_of(name: str) -> CheckoutFacts:
    return inspect_checkout(CHECKOUTS / name, model_of(name).info.script)


def model_of(name: str) -> SoulXScriptAdapter:
    return adapter(name.split("_", maxsplit=1)[0])


def request_for(
    checkout: str | CheckoutFacts,
    model: SoulXScriptAdapter | None = None,
    *,
    backend: Backend = Backend.CUDA,
    processes: int = 1,
    prompt: str | None = None,
    **knobs: Any,
) -> ScriptRequest:
    """The request of a run that sets these knobs and leaves the others at their defaults."""
    facts = facts_of(checkout) if isinstance(checkout, str) else checkout
    model = model or model_of(facts.path.name)
    variant = model.recognise(facts)
    values = {**model.defaults(facts, variant, backend), **knobs}
    return ScriptRequest(
        checkout=facts,
        variant=variant,
        backend=backend,
        knobs={knob: KnobValue(value, "test", model.carrier(knob, facts, variant)) for knob, value in values.items()},
        names=ScratchNames("image.png", "audio.wav"),
        ckpt_dir=Path("/models/ckpt"),
        wav2vec_dir=Path("/models/wav2vec"),
        processes=processes,
        prompt=prompt,
    )


def call_for(checkout: str | CheckoutFacts, **options: Any) -> ScriptCall:
    request = request_for(checkout, **options)
    model = options.get("model") or model_of(request.checkout.path.name)
    return model.script_call(request)
