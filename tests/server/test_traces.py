"""Traces of jobs, as a collector for OpenTelemetry gets them over HTTP."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.server.server_runs import Server, finished, serving, submit, with_media

service = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="OpenTelemetry is not installed"
)


class Collector(HTTPServer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Any] = []
        self.services: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        sent = service.ExportTraceServiceRequest.FromString(body)
        for resource in sent.resource_spans:
            self.server.services.add(attributes(resource.resource)["service.name"])
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def attributes(holder: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in holder.attributes}


def ended_by_one_signal(server: Server) -> int:
    server.signal(signal.SIGTERM)
    return server.wait()


def test_a_job_is_a_span_with_one_for_each_stage(collector: Collector, tmp_path: Path) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "renders"}
    with serving(tmp_path, env=env) as server, with_media(server).client() as client:
        good, bad = submit(client), submit(client, config={"size": "17*17"})
        ended = {one: finished(client, one) for one in (good, bad)}
        assert ended_by_one_signal(server) == 0

    jobs = {attributes(span)["omnirt.job_id"]: span for span in collector.spans if span.name == "job"}
    assert collector.services == {"renders"}
    assert set(jobs) == {good, bad}
    assert {attributes(span)["omnirt.state"] for span in jobs.values()} == {"succeeded", "failed"}
    assert attributes(jobs[good])["omnirt.chunks"] == 2
    assert jobs[bad].status.message == ended[bad]["error"]["message"]

    stages = [span for span in collector.spans if span.parent_span_id == jobs[good].span_id]
    assert [span.name for span in stages] == ["queue", "prepare", "launch", "load", "generate", "save", "verify"]
    assert {span.trace_id for span in stages} == {jobs[good].trace_id}
    assert jobs[good].start_time_unix_nano == ended[good]["enqueued_at_ms"] * 1_000_000
    assert all(span.end_time_unix_nano <= jobs[good].end_time_unix_nano for span in stages)


def test_without_a_collector_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from omnirt_cli.server.traces import ENDPOINTS, from_environment

    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)

    assert from_environment() is None


def test_a_collector_that_is_gone_harms_no_job(tmp_path: Path) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with serving(tmp_path, env=env) as server, with_media(server).client() as client:
        job_id = submit(client)

        assert finished(client, job_id)["state"] == "succeeded"
        assert ended_by_one_signal(server) == 0
