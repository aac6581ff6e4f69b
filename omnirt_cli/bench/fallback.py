"""A run that was to be quantized and went on in bf16: its figures are of something else than what was asked for.

The checkouts only warn of it. A worker warns while it loads: the requests after that have no word of it in their logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from omnirt_cli.bench.document import Sample
from omnirt_cli.checks import Check, failed, passed
from omnirt_cli.models.base import MarkKind
from omnirt_cli.plan import Plan

GATE = "quantized"
_KNOBS = ("quantize", "t5_quant", "wan_quant")
_MOST_BYTES = 64 << 20
"""Of a log that are looked at; quantizing is done while the model loads."""

_SENTENCE_CHARS = 300


def quantization(plan: Plan) -> str | None:
    """What a plan has quantized, e.g. `quantize=quanto-int4`; None where nothing is."""
    said = {name: plan.config[name].value for name in _KNOBS if name in plan.config}
    return ", ".join(f"{name}={value}" for name, value in said.items() if value) or None


def fallback_line(plan: Plan, log: Path) -> str | None:
    """The line in which a checkout says that it goes on without; None where it says nothing, or there is no log."""
    rules = [rule for rule in plan.adapter.log_rules(plan.variant) if rule.kind is MarkKind.FELL_BACK]
    try:
        with log.open("rb") as file:
            text = file.read(_MOST_BYTES)
    except OSError:
        return None
    for line in text.splitlines():
        if any(rule.pattern.search(line) for rule in rules):
            whole = line.decode("utf-8", "replace").strip()
            return (whole.partition(" - ")[2] or whole)[:_SENTENCE_CHARS]
    return None


def judge(case: str, heat: str, asked: str, samples: Sequence[Sample]) -> Check:
    """Whether every run of a row was quantized as it was asked to be."""
    name = f"{heat}.{GATE}" + (f" ({case})" if case else "")
    said = next(_said(samples), None)
    if said is not None:
        return failed(name, expected=asked, detail=f"it ran in bf16: {said}")
    if not any(sample.succeeded for sample in samples):
        return failed(name, expected=asked, detail="no run succeeded")
    return passed(name, expected=asked, detail="no run said that it went on without")


def _said(samples: Iterable[Sample]) -> Iterator[str]:
    return (sample.fell_back for sample in samples if sample.fell_back is not None)
