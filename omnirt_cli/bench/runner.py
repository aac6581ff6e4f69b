"""One request carried out, whoever does it; and the sample that is kept of it.

The engine's runner is the one that measures renders, cold and hot alike: which of the two a request is stands in the
request. Other runners (a checkout's own benchmark) give the same outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from omnirt_cli import engine
from omnirt_cli.bench.document import Heat, Sample
from omnirt_cli.errors import OmniRTError
from omnirt_cli.output_paths import OutputPaths
from omnirt_cli.preflight import VIDEO_CHECKS
from omnirt_cli.report import Artifact, RunReport, RunStatus
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.reporting import error_info
from omnirt_cli.runs.entry import Origin, RunEntry
from omnirt_cli.settings import Layer

LOADED = "it had to load the model"

_JUDGED = VIDEO_CHECKS | {"file", "decode", "video_stream", "audio_stream", "frame_count"}


@dataclass(frozen=True)
class Outcome:
    """How one request ended: with a report, with an error, or with both."""

    report: RunReport | None
    error: OmniRTError | None = None


class Runner(Protocol):
    """Who carries a request out."""

    def run(self, request: Audio2VideoRequest, cancel: CancelToken) -> Outcome:
        """Carry it out to its end; a failure is an outcome, not an exception."""


class EngineRunner:
    """Renders, as `omnirt generate` does."""

    def __init__(self, layer: Layer | None) -> None:
        self._layer = layer

    def run(self, request: Audio2VideoRequest, cancel: CancelToken) -> Outcome:
        """See base."""
        try:
            result = engine.generate(request, cancel=cancel, request_file=self._layer)
        except OmniRTError as error:
            return Outcome(error.report, error)
        return Outcome(result.metadata)


def sample_of(outcome: Outcome, request: Audio2VideoRequest, *, heat: Heat, case: str, began_ms: float) -> Sample:
    """What is kept of one request."""
    report, error = outcome.report, outcome.error
    paths = OutputPaths(Path(request.config.output or ""))
    if report is None:
        status = RunStatus.FAILED if error else RunStatus.SUCCEEDED
        info = error_info(error) if error else None
        return Sample(heat=heat, case=case, began_ms=began_ms, status=status, error=info)
    left_out = LOADED if heat == "hot" and _loaded(report) else None
    return Sample(
        heat=heat,
        case=case,
        began_ms=began_ms,
        measured=left_out is None or error is not None,
        left_out=left_out,
        status=report.status,
        run_id=report.run_id,
        worker_id=report.worker_id,
        end_to_end_ms=report.timings.get("total_ms"),
        queue_wait_ms=report.queue_wait_ms,
        picture=_picture(report.artifacts[0]) if report.artifacts else None,
        timings=report.timings,
        chunks=report.chunks,
        memory=_memory(report),
        checks={check.name: check.status.value for check in report.checks if check.name in _JUDGED},
        output=report.artifacts[0].path if report.artifacts else None,
        report_path=str(paths.report),
        log_path=report.log_path,
        error=report.error or (error_info(error) if error else None),
    )


def _loaded(report: RunReport) -> bool:
    """Whether a request to a worker had to wait for its model."""
    return RunEntry.of(report, Origin()).heat == "cold"


def _picture(video: Artifact) -> str:
    parts = [f"{video.width}x{video.height}" if video.width else None]
    parts += [f"{video.fps:g} FPS" if video.fps else None, f"{video.duration_s:.2f} s" if video.duration_s else None]
    parts += [f"{video.num_frames} frames" if video.num_frames else None]
    return " / ".join(part for part in parts if part)


def _memory(report: RunReport) -> dict[str, float]:
    """Peaks, as far as they were seen: no device that was not watched counts as empty."""
    devices = [device.memory_peak_gib for device in report.devices.used] if report.devices else []
    seen = [peak for peak in devices if peak is not None]
    memory = {"device_peak_gib": max(seen)} if seen else {}
    if "host_peak_gib" in report.memory:
        memory["host_peak_gib"] = report.memory["host_peak_gib"]
    memory["own_rss_gib"] = round(psutil.Process().memory_info().rss / 2**30, 4)
    return memory
