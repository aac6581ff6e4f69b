"""Samples and rows made by hand, with the figures of the published realtime profile."""

from __future__ import annotations

from typing import Any

from omnirt_cli.bench.document import Conditions, Row, Sample
from omnirt_cli.report import ChunkInfo, ErrorInfo, RunStatus

MEDIA_MS = 1120.0
FRAMES = 28


def chunk(index: int, core_ms: float, interval_ms: float | None = None, at_ms: float | None = None) -> ChunkInfo:
    return ChunkInfo(
        index=index,
        core_ms=core_ms,
        core_scope="core",
        interval_ms=core_ms + 60 if interval_ms is None else interval_ms,
        at_ms=at_ms,
    )


def sample(*chunks: ChunkInfo, **changes: Any) -> Sample:
    """A hot request of three chunks that went well."""
    facts: dict[str, Any] = {
        "heat": "hot",
        "status": RunStatus.SUCCEEDED,
        "run_id": "733e5eb5-faf3-4c37-9867-5dddca30c6c4",
        "end_to_end_ms": 5514.0,
        "chunks": list(chunks) or [chunk(0, 900.0, at_ms=1400.0), chunk(1, 890.0), chunk(2, 892.0)],
    }
    return Sample.model_validate({**facts, **changes})


def failure(**changes: Any) -> Sample:
    error = ErrorInfo(code="model_failed", message="the script failed", exit_code=10)
    return sample(**{"status": RunStatus.FAILED, "chunks": [], "end_to_end_ms": 900.0, "error": error, **changes})


def conditions(**changes: Any) -> Conditions:
    facts: dict[str, Any] = {
        "model": "soulx-flashtalk-14b",
        "variant": "ascend",
        "revision": "f54dc79",
        "backend": "ascend",
        "devices": ["910B2"] * 8,
        "processes": 8,
        "picture": "416*704, 25 FPS, 937 frames",
        "knobs": {"sample_steps": 2, "seed": 9999},
        "core_scope": "core",
        "chunk_media_ms": MEDIA_MS,
        "chunk_frames": FRAMES,
        "warmup_chunks": 1,
        "host": {"name": "a", "cpus": 64},
        "versions": {"omnirt": "0.1.0"},
    }
    return Conditions.model_validate({**facts, **changes})


def row(heat: str = "hot", **changes: Any) -> Row:
    facts: dict[str, Any] = {
        "heat": heat,
        "figures": {"steady_rtf": 0.85, "end_to_end_ms_p50": 2672.0, "steady_chunk_core_ms_mean": 891.0},
        "conditions": conditions(),
        "folder": "/out",
    }
    return Row.model_validate({**facts, **changes})
