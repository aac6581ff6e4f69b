"""Traces of jobs for OpenTelemetry, where the environment names a collector: a span a job, and one for each stage.

`OTEL_EXPORTER_OTLP_ENDPOINT` turns them on; the SDK's other variables mean what its documentation says. Told in the
event loop; a thread of the SDK's sends them.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnirt_cli.run.events import BaseEvent, ChunkFinished, RunStarted, StageFinished
from omnirt_cli.server.jobs.job import Job
from omnirt_cli.server.jobs.orders import RunEnd
from omnirt_cli.server.jobs.states import JobState

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVICE_NAME = "OTEL_SERVICE_NAME"
_NS_A_MS = 1_000_000

logger = logging.getLogger("omnirt.server")


def from_environment() -> Traces | None:
    """What sends traces; None where no collector is named, or the library is not installed."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        told = {"error": str(error), "hint": "install them with `pip install 'omnirt[traces]'`"}
        logger.warning("traces are asked for and their libraries are missing", extra={"facts": told})
        return None
    name = os.environ.get(_SERVICE_NAME) or "omnirt"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider)


@dataclass
class _Trace:
    """A job's span, which is open while the job runs."""

    span: Span
    chunks: int = 0


class Traces:
    """The open spans: one for each job that runs."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("omnirt")
        self._open: dict[str, _Trace] = {}

    def happened(self, job: Job, event: BaseEvent) -> None:
        """Something happened in a job's run."""
        if isinstance(event, RunStarted):
            self._begun(job)
        elif isinstance(event, StageFinished):
            now = time.time_ns()
            self._part(job, event.stage.value, now - int(event.duration_ms * _NS_A_MS), now)
        elif isinstance(event, ChunkFinished) and job.id in self._open:
            self._open[job.id].chunks = event.index + 1

    def ended(self, job: Job, state: JobState, end: RunEnd) -> None:
        """A job is final."""
        from opentelemetry.trace import StatusCode

        # A request that is refused ends without having begun.
        self._begun(job)
        trace = self._open.pop(job.id)
        code = end.error.code if end.error else None
        known = {"state": state.value, "chunks": trace.chunks, "execution_mode": end.execution_mode, "error": code}
        trace.span.set_attributes({f"omnirt.{name}": value for name, value in known.items() if value is not None})
        if state is JobState.FAILED:
            trace.span.set_status(StatusCode.ERROR, end.error.message if end.error else None)
        trace.span.end()

    def close(self) -> None:
        """Send what is left; takes as long as the exporter's timeout where the collector is gone."""
        self._provider.shutdown()

    def _begun(self, job: Job) -> None:
        """A job that is started again goes on in the same trace."""
        if job.id in self._open:
            return
        asked = job.enqueued_at_ms * _NS_A_MS
        facts: dict[str, str | int] = {
            "omnirt.job_id": job.id,
            "omnirt.model": job.order.model,
            "omnirt.attempt": job.attempt,
        }
        self._open[job.id] = _Trace(self._tracer.start_span("job", start_time=asked, attributes=facts))
        if job.started_at_ms is not None:
            self._part(job, "queue", asked, max(asked, job.started_at_ms * _NS_A_MS))

    def _part(self, job: Job, name: str, start_ns: int, end_ns: int) -> None:
        from opentelemetry.trace import set_span_in_context

        trace = self._open.get(job.id)
        if trace is not None:
            inside = set_span_in_context(trace.span)
            self._tracer.start_span(name, context=inside, start_time=start_ns).end(end_ns)
