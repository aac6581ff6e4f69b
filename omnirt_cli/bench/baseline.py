"""This benchmark beside an earlier one: ratios where both measured alike, and the names of what was not alike.

Rows are compared with the row of the same case and the same heat. Another model, other devices or other knobs that
decide speed make a comparison meaningless: then they are named, and nothing is compared. A new revision or a new
version of something is named too, and is what a comparison is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from omnirt_cli.bench.document import BenchReport, Conditions, Row, RowComparison
from omnirt_cli.errors import InputInvalidError, InputMissingError
from omnirt_cli.runs.compare import Pair, differences, pair
from omnirt_cli.runs.entry import speed_knobs

MAX_BYTES = 1 << 30

_COUNTS = frozenset(
    {
        "requests",
        "failed_requests",
        "left_out_requests",
        "chunks_timed",
        "chunks_in_time",
        "chunk_count",
    }
)
"""How much was measured; that is no figure to compare."""

_CORE = "chunk_core_ms"
_DECISIVE = ("model", "variant", "backend", "execution_mode", "devices", "processes", "picture", "warmup_chunks")
_TOLD = ("revision", "dirty")


def read_baseline(path: Path) -> BenchReport:
    """A document that `omnirt bench` saved.

    Raises:
        InputMissingError: It is not there, or cannot be read.
        InputInvalidError: It is something else.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputInvalidError(f"--baseline {path}: too large for a benchmark's results")
        return BenchReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputMissingError(f"--baseline {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its top"
        raise InputInvalidError(
            f"--baseline {path}: not a benchmark's results (at {where}: {first['msg']})",
            hint="name a file that `omnirt bench --save` wrote",
        ) from error


def compare(before: BenchReport, rows: Sequence[Row]) -> list[RowComparison]:
    """Every row beside the baseline's row of that case and heat."""
    return [_compare(_row_like(before.rows, row), row) for row in rows]


def _row_like(rows: Iterable[Row], wanted: Row) -> Row | None:
    return next((row for row in rows if (row.case, row.heat) == (wanted.case, wanted.heat)), None)


def _compare(before: Row | None, now: Row) -> RowComparison:
    found = RowComparison(case=now.case, heat=now.heat, comparable=False)
    if before is None:
        found.notes.append("the baseline has no such row")
        return found
    if before.conditions is None or now.conditions is None:
        found.notes.append("one of them has no finished request")
        return found
    a, b = before.conditions, now.conditions
    found.knobs = differences(speed_knobs(a.knobs), speed_knobs(b.knobs))
    decisive = differences(_decisive(a), _decisive(b))
    found.conditions = [*decisive, *differences(_told(a), _told(b))]
    found.comparable = not decisive and not found.knobs
    if not found.comparable:
        names = ", ".join(one.name for one in (*decisive, *found.knobs))
        found.notes.append(f"measured under unlike conditions and not compared: {names}")
        return found
    same_scope = a.core_scope == b.core_scope
    if not same_scope:
        found.notes.append(
            f"the chunk times that the scripts print cover unlike things ({a.core_scope}; {b.core_scope}) "
            "and are not compared"
        )
    found.pairs = _pairs(before.figures, now.figures, core=same_scope)
    return found


def _pairs(a: dict[str, float], b: dict[str, float], *, core: bool) -> list[Pair]:
    names = dict.fromkeys((*b, *a))
    return [
        pair(name, a.get(name), b.get(name)) for name in names if name not in _COUNTS and (core or _CORE not in name)
    ]


def _decisive(conditions: Conditions) -> dict[str, Any]:
    """What must be alike. Processors do not tell their names alike everywhere: their number stands in for a CPU."""
    facts = {name: getattr(conditions, name) for name in _DECISIVE}
    return {**facts, "cpus": conditions.host.get("cpus")} if conditions.backend == "cpu" else facts


def _told(conditions: Conditions) -> dict[str, Any]:
    facts = {name: getattr(conditions, name) for name in _TOLD}
    return {**facts, **conditions.versions, "host": conditions.host.get("name")}
