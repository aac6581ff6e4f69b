"""Requests to a resident worker, through a real daemon: served in order, cancelled, failed, and told truly."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from launchers.process import Done, Exited, ExitStatus
from omnirt_cli.errors import InputMissingError
from omnirt_cli.resident.client import Connection
from omnirt_cli.resident.spec import FailureReason, WorkerState
from tests.resident.resident_runs import Followed, ask, follow, info, render, spec, wait_for


def test_a_request_that_waits_for_the_model_sees_it_load(daemon: Connection) -> None:
    worker = daemon.start_worker(spec(load_s=0.3))

    request, seen = render(daemon, worker, chunks=3)

    assert seen.events == [Exited(ExitStatus(0, None)), Done()]
    assert request.exit == ExitStatus(0, None)
    assert [message.type for message in seen.messages] == ["started", "prepared", "chunk", "chunk", "chunk"]
    assert seen.text.startswith("stand-in worker, start 1\n[worker] request")
    assert request.pid > 0
    assert request.facts is not None
    assert request.facts.was_loading
    assert request.facts.load_ms is not None
    assert request.facts.load_ms >= 300
    assert request.facts.queue_wait_ms < 300
    assert (request.facts.chunks, request.facts.reused, request.facts.rss_bytes) == (3, False, 1 << 20)


def test_a_second_request_is_hot_and_sees_only_its_own_output(daemon: Connection) -> None:
    worker = daemon.start_worker(spec())
    render(daemon, worker)

    request, seen = render(daemon, worker, talk=10)

    assert request.facts is not None
    assert not request.facts.was_loading
    assert request.facts.load_ms is None
    assert seen.text.splitlines()[1:2] == ["x" * 10]
    assert "stand-in worker" not in seen.text
    assert info(daemon, worker).requests_done == 2  # type: ignore[union-attr]


def test_two_clients_are_served_one_after_the_other(daemon: Connection, environ: Mapping[str, str]) -> None:
    worker = daemon.start_worker(spec())
    first, second = Followed(), Followed()
    with (
        Connection.open(environ) as other,
        ask(daemon, worker, first, chunks=4, chunk_s=0.1) as one,
        ask(other, worker, second) as two,
        Connection.open(environ) as third,
    ):
        follow(one, first, until=lambda: first.count("chunk"))
        now = info(third, worker)
        assert now is not None
        assert (now.state, now.queue) == (WorkerState.BUSY, 1)
        assert (one.waiting, two.waiting) == (False, True)
        follow(two, second)
        follow(one, first)

    assert one.facts is not None
    assert two.facts is not None
    assert one.facts.reason is two.facts.reason is None
    assert two.facts.queue_wait_ms >= 250
    assert second.text.count("[worker] request") == 2


def test_a_cancelled_request_ends_between_two_chunks_and_the_worker_goes_on(daemon: Connection) -> None:
    worker = daemon.start_worker(spec())
    seen = Followed()
    with ask(daemon, worker, seen, chunks=200, chunk_s=0.02) as request:
        follow(request, seen, until=lambda: seen.count("chunk") > 2)
        request.request_stop()
        follow(request, seen)

    assert request.exit == ExitStatus(1, None)
    assert request.facts is not None
    assert request.facts.reason is FailureReason.CANCELLED
    again, _ = render(daemon, worker)
    assert again.facts is not None
    assert again.facts.reason is None
    assert not again.facts.was_loading


def test_a_request_that_is_cancelled_while_it_waits_is_never_begun(
    daemon: Connection, environ: Mapping[str, str]
) -> None:
    worker = daemon.start_worker(spec())
    first, second = Followed(), Followed()
    with (
        Connection.open(environ) as other,
        ask(daemon, worker, first, chunks=10, chunk_s=0.05) as one,
        ask(other, worker, second) as two,
    ):
        two.request_stop()
        follow(two, second, seconds=1)
        assert not one.finished
        follow(one, first)

    assert two.facts is not None
    assert two.facts.reason is FailureReason.CANCELLED
    assert second.messages == []


def test_a_worker_that_ignores_a_dropped_request_is_started_anew(daemon: Connection) -> None:
    worker = daemon.start_worker(spec(grace_s=0.3, leave_s=0.3))
    seen = Followed()
    with ask(daemon, worker, seen, chunks=1000, chunk_s=0.05, ignore_cancel=True) as request:
        follow(request, seen, until=lambda: seen.count("chunk"))
        asked = time.monotonic()
        request.kill()
        follow(request, seen, seconds=1)
        assert time.monotonic() - asked < 0.3, "who drops a request is not kept waiting"

    assert request.facts is not None
    assert request.facts.reason is FailureReason.CANCELLED
    again, _ = render(daemon, worker)
    assert again.facts is not None
    assert again.facts.reason is None
    assert info(daemon, worker).restarts == 1  # type: ignore[union-attr]


def test_a_client_that_vanishes_cancels_its_request(daemon: Connection, environ: Mapping[str, str]) -> None:
    worker = daemon.start_worker(spec())
    seen = Followed()
    with Connection.open(environ) as other:
        request = ask(other, worker, seen, chunks=500, chunk_s=0.02)
        follow(request, seen, until=lambda: seen.count("chunk"))
        other.close()  # as the kernel does for a killed process
        os.close(request.output_fd)

    wait_for(lambda: info(daemon, worker).state is WorkerState.READY, seconds=3, what="an idle worker")  # type: ignore[union-attr]


def test_a_client_that_reads_nothing_is_left_behind(daemon: Connection, environ: Mapping[str, str]) -> None:
    """Its chunks hold up neither the worker nor the next client."""
    worker = daemon.start_worker(spec())
    seen = Followed()
    with Connection.open(environ) as other, ask(other, worker, seen, chunks=30, bytes=10 << 20) as slow:
        render(daemon, worker)
        follow(slow, seen)

    assert slow.guard_lost, "its connection was given up at 256 MiB"


def test_output_that_nobody_reads_in_time_is_left_out_and_that_is_said(
    daemon: Connection, environ: Mapping[str, str]
) -> None:
    worker = daemon.start_worker(spec())
    seen = Followed()
    with Connection.open(environ) as other, ask(other, worker, seen, talk=4 << 20) as slow:
        render(daemon, worker)
        follow(slow, seen)

    assert slow.facts is not None
    assert slow.facts.reason is None
    assert b"bytes are left out here" in seen.output


def test_large_chunks_come_whole(daemon: Connection) -> None:
    worker = daemon.start_worker(spec())

    _, seen = render(daemon, worker, chunks=3, bytes=24 << 20)

    bodies = [message.body for message in seen.messages if message.type == "chunk"]
    assert [len(body) for body in bodies] == [24 << 20] * 3
    assert set(bodies[2][::65536]) == {1}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [({"refuse": True}, FailureReason.REFUSED), ({"error": True}, FailureReason.ERROR)],
)
def test_a_failed_request_tells_why_and_leaves_the_worker_alone(
    daemon: Connection, asked: dict[str, bool], reason: FailureReason
) -> None:
    worker = daemon.start_worker(spec())

    request, _ = render(daemon, worker, **asked)

    assert request.exit == ExitStatus(1, None)
    assert request.facts is not None
    assert request.facts.reason is reason
    assert request.facts.failure is not None
    assert request.facts.failure.startswith("ValueError: ")
    now = info(daemon, worker)
    assert now is not None
    assert (now.state, now.restarts) == (WorkerState.READY, 0)


def test_a_request_for_a_worker_that_is_not_there_is_refused(daemon: Connection) -> None:
    worker = daemon.start_worker(spec())
    daemon.stop([worker.id], 10.0)

    with pytest.raises(InputMissingError):
        render(daemon, worker)
    assert daemon.workers() == ()


def test_thirty_requests_leave_no_descriptor_behind(daemon: Connection, environ: Mapping[str, str]) -> None:
    worker = daemon.start_worker(spec())
    render(daemon, worker)
    before = descriptors(daemon.daemon.pid)

    for _ in range(30):
        with Connection.open(environ) as other:
            render(other, worker, chunks=2)

    wait_for(lambda: descriptors(daemon.daemon.pid) <= before, seconds=3, what="a daemon that has not grown")


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
