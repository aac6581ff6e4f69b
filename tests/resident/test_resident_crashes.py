"""Workers that crash, hang and never load, through a real daemon: what is retried, what is not, and what is left."""

from __future__ import annotations

import time

import pytest

from launchers.process import ExitStatus
from omnirt_cli.errors import BusyError, ModelFailedError
from omnirt_cli.resident.client import Connection
from omnirt_cli.resident.spec import FailureReason, WorkerState
from tests.resident.resident_runs import Followed, ask, follow, info, render, spec, wait_for, worker_processes


def test_a_request_during_which_the_worker_dies_fails_and_is_not_repeated(daemon: Connection) -> None:
    worker = daemon.start_worker(spec())

    request, seen = render(daemon, worker, chunks=5, crash_at=2)

    assert request.exit == ExitStatus(None, 9)
    assert request.facts is not None
    assert request.facts.reason is FailureReason.CRASHED
    assert not request.facts.retried
    assert request.facts.chunks == 2
    assert "Segmentation fault" in (request.facts.failure or "")
    assert seen.count("started") == 1
    assert "Segmentation fault" in seen.text
    wait_for(lambda: info(daemon, worker).state is WorkerState.READY, what="a restarted worker")  # type: ignore[union-attr]


def test_a_request_that_was_not_begun_is_repeated_once(daemon: Connection) -> None:
    worker = daemon.start_worker(spec())

    request, seen = render(daemon, worker, crash_before=True, crash_first=True)

    assert request.facts is not None
    assert request.facts.reason is None
    assert request.facts.retried
    assert request.facts.was_loading
    assert "start 2" in seen.text


def test_a_request_is_repeated_no_more_than_once(daemon: Connection) -> None:
    worker = daemon.start_worker(spec())

    request, _ = render(daemon, worker, crash_before=True)

    assert request.exit == ExitStatus(4, None)
    assert request.facts is not None
    assert request.facts.reason is FailureReason.CRASHED
    assert request.facts.retried


def test_those_who_waited_are_served_by_the_restarted_worker(daemon: Connection, environ: dict[str, str]) -> None:
    worker = daemon.start_worker(spec())
    first, second = Followed(), Followed()
    with (
        Connection.open(environ) as other,
        ask(daemon, worker, first, chunk_s=0.1, chunks=3, crash_at=2) as one,
        ask(other, worker, second) as two,
    ):
        follow(one, first)
        follow(two, second)

    assert one.facts is not None
    assert two.facts is not None
    assert (one.facts.reason, two.facts.reason) == (FailureReason.CRASHED, None)
    assert not two.facts.retried


def test_a_worker_that_dies_while_it_is_idle_is_started_again(daemon: Connection) -> None:
    worker = daemon.start_worker(spec())
    pid = daemon.wait_until_loaded(worker.id).pid

    kill(pid)

    wait_for(lambda: info(daemon, worker).restarts == 1, what="a restart")  # type: ignore[union-attr]
    assert daemon.wait_until_loaded(worker.id).pid not in (0, pid)
    request, _ = render(daemon, worker)
    assert request.facts is not None
    assert request.facts.reason is None


def test_a_load_that_fails_is_tried_once_more_for_the_request_that_waits(daemon: Connection) -> None:
    worker = daemon.start_worker(spec(load_s=0.2, crash_loads=1))

    request, seen = render(daemon, worker)

    assert request.facts is not None
    assert request.facts.reason is None
    assert request.facts.retried
    assert "RuntimeError: the stand-in cannot load" in seen.text


def test_a_load_that_always_fails_says_so_and_holds_nothing(daemon: Connection) -> None:
    worker = daemon.start_worker(spec(load_s=0.1, crash_loads=99))

    request, _ = render(daemon, worker)

    assert request.exit == ExitStatus(3, None)
    assert request.facts is not None
    assert request.facts.reason is FailureReason.NO_WORKER
    assert "the stand-in cannot load" in (request.facts.failure or "")
    assert info(daemon, worker).state is WorkerState.FAILED  # type: ignore[union-attr]
    assert worker_processes(worker.id) == []


def test_a_load_that_nobody_waits_for_is_not_repeated(daemon: Connection) -> None:
    worker = daemon.start_worker(spec(crash_loads=99))

    with pytest.raises(ModelFailedError, match="the stand-in cannot load") as raised:
        daemon.wait_until_loaded(worker.id)

    assert worker.log in (raised.value.hint or "")
    assert info(daemon, worker).restarts == 0  # type: ignore[union-attr]


def test_after_three_crashes_no_fourth_start_is_made(daemon: Connection) -> None:
    for _ in range(3):
        worker = daemon.start_worker(spec(crash_loads=99))
        with pytest.raises(ModelFailedError):
            daemon.wait_until_loaded(worker.id)

    with pytest.raises(BusyError, match="crashed 3 times within 10 minutes"):
        daemon.start_worker(spec(crash_loads=99))
    assert daemon.start_worker(spec("another")).state is WorkerState.LOADING


def test_a_worker_that_does_not_become_ready_is_killed(daemon: Connection) -> None:
    worker = daemon.start_worker(spec(hang_at_load=True, stubborn=True, start_timeout_s=0.5, grace_s=0.2))
    wait_for(lambda: worker_processes(worker.id), what="its process")

    with pytest.raises(ModelFailedError, match=r"not ready within 0\.5 s"):
        daemon.wait_until_loaded(worker.id)

    assert worker_processes(worker.id) == []


def test_a_worker_whose_program_is_missing_fails_at_once(daemon: Connection) -> None:
    from dataclasses import replace

    worker = daemon.start_worker(replace(spec(), argv=("/nowhere/python", "worker.py")))

    with pytest.raises(ModelFailedError, match="/nowhere/python"):
        daemon.wait_until_loaded(worker.id)


def test_a_worker_that_is_no_longer_sound_ends_and_comes_back(daemon: Connection) -> None:
    worker = daemon.start_worker(spec())

    request, _ = render(daemon, worker, unsound=True)

    assert request.facts is not None
    assert request.facts.reason is FailureReason.ERROR
    wait_for(lambda: info(daemon, worker).restarts == 1, what="a restart")  # type: ignore[union-attr]
    again, _ = render(daemon, worker)
    assert again.facts is not None
    assert again.facts.reason is None
    assert not again.facts.retried


def test_a_worker_that_talks_nonsense_is_ended(daemon: Connection) -> None:
    worker = daemon.start_worker(spec(grace_s=0.2))

    request, _ = render(daemon, worker, nonsense=True)

    assert request.facts is not None
    assert request.facts.reason is FailureReason.CRASHED
    assert request.facts.retried
    wait_for(lambda: info(daemon, worker).restarts == 2, what="a second restart")  # type: ignore[union-attr]


def test_backoff_holds_the_restart_up(daemon: Connection) -> None:
    worker = daemon.start_worker(spec())
    kill(daemon.wait_until_loaded(worker.id).pid)
    crashed = time.monotonic()

    wait_for(lambda: info(daemon, worker).restarts == 1, what="a restart that is due")  # type: ignore[union-attr]
    assert info(daemon, worker).pid == 0  # type: ignore[union-attr]
    wait_for(lambda: info(daemon, worker).pid, what="its process")  # type: ignore[union-attr]
    assert time.monotonic() - crashed >= 1.0


def kill(pid: int) -> None:
    import os
    import signal

    os.kill(pid, signal.SIGKILL)
