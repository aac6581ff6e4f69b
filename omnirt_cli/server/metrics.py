"""What Prometheus is told, under the published server's names where it has them.

Listens to jobs and requests; asks nobody.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from omnirt_cli.run.events import BaseEvent, ChunkFinished, RunStarted, StageFinished
from omnirt_cli.server.jobs.job import Job
from omnirt_cli.server.jobs.orders import RunEnd
from omnirt_cli.server.jobs.states import JobState

CONTENT_TYPE = CONTENT_TYPE_LATEST

_STAGES = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_CHUNKS = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 5, 10, 30, 60)
_REQUESTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)


class Metrics:
    """One server's figures."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        facts: dict[str, Any] = {"registry": self.registry}
        self.jobs = Counter("omnirt_jobs", "Jobs that ended.", ["task", "model", "execution_mode", "state"], **facts)
        self.running = Gauge("omnirt_jobs_running", "Jobs that are being rendered.", **facts)
        self.waiting = Gauge("omnirt_queue_depth", "Jobs that wait.", ["priority"], **facts)
        self.stages = Histogram(
            "omnirt_stage_duration_seconds", "A render's stages.", ["stage", "model"], buckets=_STAGES, **facts
        )
        self.seconds = Histogram("omnirt_job_seconds", "From start to end.", ["model"], buckets=_STAGES, **facts)
        self.queued = Histogram(
            "omnirt_queue_wait_seconds", "From order to start.", ["model"], buckets=_STAGES, **facts
        )
        self.first = Histogram(
            "omnirt_time_to_first_chunk_seconds", "From start to the first chunk.", ["model"], buckets=_STAGES, **facts
        )
        self.chunks = Histogram(
            "omnirt_chunk_seconds", "Wall time between chunks.", ["model"], buckets=_CHUNKS, **facts
        )
        self.cache_hits = Counter("omnirt_cache_hits", "Renders that found their conditions prepared.", **facts)
        self.peak = Gauge("omnirt_vram_peak_bytes", "The most a device held in its last render.", ["device"], **facts)
        self.ready = Gauge("omnirt_ready", "Whether something can be rendered.", **facts)
        self.requests = Counter("omnirt_http_requests", "Answered requests.", ["method", "route", "status"], **facts)
        self.request_seconds = Histogram(
            "omnirt_http_request_seconds", "Until an answer began.", ["route"], buckets=_REQUESTS, **facts
        )

    def happened(self, job: Job, event: BaseEvent) -> None:
        """Something happened in a job's run."""
        model = job.order.model
        if isinstance(event, RunStarted) and job.started_at_ms is not None:
            self.queued.labels(model).observe(max(0, job.started_at_ms - job.enqueued_at_ms) / 1000)
        elif isinstance(event, StageFinished):
            self.stages.labels(event.stage.value, model).observe(event.duration_ms / 1000)
        elif isinstance(event, ChunkFinished):
            if event.index == 0:
                self.first.labels(model).observe(event.at_ms / 1000)
            if event.interval_ms is not None:
                self.chunks.labels(model).observe(event.interval_ms / 1000)

    def ended(self, job: Job, state: JobState, end: RunEnd, seconds: float) -> None:
        """A job is final."""
        model = job.order.model
        self.jobs.labels("audio2video", model, end.execution_mode or "", state.value).inc()
        self.seconds.labels(model).observe(seconds)
        self.cache_hits.inc(end.cache_hits)
        for device, gib in end.memory_peak_gib.items():
            self.peak.labels(device).set(gib * 2**30)

    def never_started(self, job: Job) -> None:
        """A job was cancelled while it waited."""
        self.jobs.labels("audio2video", job.order.model, "", job.state.value).inc()

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)
