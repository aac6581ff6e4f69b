"""One earlier run, as far as a later one is compared with it. Knows nothing of where runs are kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PastRun:
    """An earlier run that succeeded; a figure is None where the run did not have it.

    Attributes:
        run_id: Its id.
        total_ms: From the request to the published video.
        model_load_ms: Until the model was loaded; None for a hot run.
        first_chunk_ms: The first generation step.
        steady_chunk_ms: A later one, on average.
        rtf: Generation time / media duration.
        steady_rtf: The same for the steady chunks alone.
        save_ms: From the last chunk until the script had written the video.
        chunk_count: Generation steps.
        started_at: UTC, ISO 8601.
    """

    run_id: str
    total_ms: float | None
    model_load_ms: float | None
    first_chunk_ms: float | None
    steady_chunk_ms: float | None
    rtf: float | None
    steady_rtf: float | None
    save_ms: float | None
    chunk_count: int | None
    started_at: str
