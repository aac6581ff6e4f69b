"""The benchmark that groxaxo's FlashTalk fork (be00237) brings along: `bench_rtf.py`.

How it is called, which of its lines tell something, and the table that it prints in the end. It runs in one process,
writes no video, and ends with 0 where its own target is missed; where quantizing fails it goes on without and still
prints the name of what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from omnirt_cli.checkout import CheckoutFacts
from omnirt_cli.errors import ModelFailedError, UsageError
from omnirt_cli.models.base import LogRule, MarkKind, ScriptCall

SCRIPT = "bench_rtf.py"

_SHARED_FLAGS = frozenset(
    {
        "--ckpt_dir",
        "--wav2vec_dir",
        "--audio_path",
        "--cond_image",
        "--input_prompt",
        "--base_seed",
        "--cpu_offload",
        "--quantize",
        "--audio_encode_mode",
    }
)
"""Those that it has in common with the script that renders."""

LOG_RULES = (
    LogRule(MarkKind.READY, b"benchmark chunks...", re.compile(rb"Running \d+ warmup \+ \d+ benchmark chunks")),
    LogRule(
        MarkKind.CHUNK,
        b"] chunk ",
        re.compile(rb"\[(?:WARMUP|BENCH )\] chunk (?P<index>\d+): (?P<seconds>\d+\.\d+)s"),
    ),
)

_ROW = re.compile(r"^ {2}(?P<name>[A-Z][\w /]+): +(?P<value>.+?)\s*$")
_RTF = re.compile(r"\*\*\* RTF = (\d+\.\d+) \*\*\*")
_NUMBERS = re.compile(r"\d+(?:\.\d+)?")
_UNQUANTIZED = "None"
_MILLI = 1000.0
_MIB_PER_GIB = 1024.0


@dataclass(frozen=True)
class HarnessTable:
    """What it printed in the end.

    Attributes:
        rows: Name -> value, as printed.
        figures: The same as numbers, by the names that a benchmark has for them.
    """

    rows: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def quantization(self) -> str | None:
        """The mode that it says it ran in; None for plain bf16."""
        value = self.rows.get("Quantization", _UNQUANTIZED)
        return None if value.startswith(_UNQUANTIZED) else value


def require_harness(checkout: CheckoutFacts) -> None:
    """See that a checkout has it.

    Raises:
        UsageError: It has not.
    """
    if SCRIPT not in checkout.scripts:
        raise UsageError(
            f"{checkout.path} has no {SCRIPT}",
            hint="the quantizing FlashTalk fork (groxaxo/SoulX-FlashTalk) has one; leave out --harness elsewhere",
        )


def harness_args(call: ScriptCall, *, warmup_chunks: int, num_chunks: int) -> tuple[str, ...]:
    """Its arguments, from those of the script that renders."""
    shared = [word for word in call.args if word.partition("=")[0] in _SHARED_FLAGS]
    return (*shared, f"--num_chunks={num_chunks}", f"--warmup_chunks={warmup_chunks}")


def read_table(lines: Sequence[str]) -> HarnessTable:
    """The table among the lines of its output.

    Raises:
        ModelFailedError: There is none.
    """
    rows = {found["name"]: found["value"] for line in lines if (found := _ROW.match(line))}
    rtf = next((found[1] for line in lines if (found := _RTF.search(line))), None)
    if rtf is None or "Latency mean" not in rows:
        raise ModelFailedError(f"{SCRIPT} ended well, but printed no table", hint="its log is kept beside the results")
    return HarnessTable({**rows, "RTF": rtf}, {**_figures(rows), "rtf": float(rtf), "steady_rtf": float(rtf)})


def _figures(rows: Mapping[str, str]) -> dict[str, float]:
    """A zero (no CUDA device: 0 MB) says that nothing was measured, and is left out; a spread may be none."""
    mean, std = _numbers(rows, "Latency mean", 2)
    least, most = _numbers(rows, "Latency min/max", 2)
    (rate,) = _numbers(rows, "Throughput", 1)
    (load,) = _numbers(rows, "Pipeline load time", 1)
    (peak,) = _numbers(rows, "VRAM peak", 1)
    figures = {
        "steady_chunk_core_ms_mean": mean * _MILLI,
        "steady_chunk_core_ms_std": std * _MILLI,
        "steady_chunk_core_ms_min": least * _MILLI,
        "steady_chunk_core_ms_max": most * _MILLI,
        "steady_frames_per_second": rate,
        "model_load_ms": load * _MILLI,
        "memory_peak_gib": round(peak / _MIB_PER_GIB, 3),
    }
    return {name: value for name, value in figures.items() if value or name.endswith("_std")}


def _numbers(rows: Mapping[str, str], name: str, count: int) -> list[float]:
    found = [float(number) for number in _NUMBERS.findall(rows.get(name, ""))]
    if len(found) < count:
        raise ModelFailedError(f"{SCRIPT} printed `{name}: {rows.get(name)}`, which is not understood")
    return found[:count]
