"""A resident worker holds its devices' leases for as long as a process of it lives, and no longer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from omnirt_cli.devices.leases import Lease, LeaseDirectory, LeaseNote
from omnirt_cli.errors import BusyError
from omnirt_cli.resident.client import Connection
from omnirt_cli.resident.spec import WorkerInfo, WorkerSpec
from tests.resident.resident_runs import Followed, ask, follow, info, spec, wait_for, worker_processes

DEVICE = "cuda-GPU-0"


@pytest.fixture
def leases() -> LeaseDirectory:
    return LeaseDirectory.open(os.environ)


def lease(leases: LeaseDirectory) -> Lease | None:
    return leases.try_acquire([DEVICE], LeaseNote("some-run", "generate"))


def start(daemon: Connection, leases: LeaseDirectory, order: WorkerSpec) -> WorkerInfo:
    """Hand a lease to a worker, as a client does, and let go of our own copy."""
    taken = lease(leases)
    assert taken is not None
    with taken:
        worker = daemon.start_worker(order, taken.fds)
    return daemon.wait_until_loaded(worker.id)


def test_the_worker_has_the_lease_in_its_own_words(daemon: Connection, leases: LeaseDirectory) -> None:
    worker = start(daemon, leases, spec())

    holder = leases.holder(DEVICE)
    assert holder is not None
    assert (holder.run_id, holder.what, holder.pid) == (f"worker {worker.id}", "resident stand-in", daemon.daemon.pid)
    assert lease(leases) is None


def test_an_evicted_worker_has_given_its_devices_back(daemon: Connection, leases: LeaseDirectory) -> None:
    worker = start(daemon, leases, spec())

    daemon.evict([worker.id], 5.0)

    again = lease(leases)
    assert again is not None
    again.close()
    assert worker_processes(worker.id) == []


def test_a_worker_with_work_is_not_evicted(daemon: Connection, environ: dict[str, str], leases: LeaseDirectory) -> None:
    worker, other_worker = start(daemon, leases, spec()), daemon.start_worker(spec("b"))
    daemon.wait_until_loaded(other_worker.id)
    seen = Followed()
    with Connection.open(environ) as other, ask(other, worker, seen, chunks=20, chunk_s=0.05) as request:
        follow(request, seen, until=lambda: seen.count("chunk"))
        assert [idle.id for idle in daemon.idle_workers()] == [other_worker.id]
        with pytest.raises(BusyError, match="has got work"):
            daemon.evict([other_worker.id, worker.id], 5.0)
        follow(request, seen)

    assert request.facts is not None
    assert request.facts.reason is None
    assert info(daemon, other_worker) is not None


def test_a_restarted_worker_still_has_its_devices(daemon: Connection, leases: LeaseDirectory) -> None:
    worker = start(daemon, leases, spec())
    os.kill(worker.pid, signal.SIGKILL)

    wait_for(lambda: info(daemon, worker).restarts == 1, what="the crash")  # type: ignore[union-attr]
    assert lease(leases) is None
    daemon.wait_until_loaded(worker.id)
    assert lease(leases) is None


def test_a_worker_that_failed_has_given_its_devices_back(daemon: Connection, leases: LeaseDirectory) -> None:
    taken = lease(leases)
    assert taken is not None
    with taken:
        worker = daemon.start_worker(spec(crash_loads=99), taken.fds)

    wait_for(lambda: info(daemon, worker).state.value == "failed", what="the failure")  # type: ignore[union-attr]
    assert leases.holder(DEVICE) is None


def test_a_killed_daemon_leaves_no_lease(daemon: Connection, leases: LeaseDirectory) -> None:
    start(daemon, leases, spec())

    os.kill(daemon.daemon.pid, signal.SIGKILL)

    wait_for(lambda: leases.holder(DEVICE) is None, what="a free device")


def test_a_twin_gives_the_second_lease_back(daemon: Connection, leases: LeaseDirectory) -> None:
    worker = start(daemon, leases, spec())
    second = leases.try_acquire(["cuda-GPU-1"], LeaseNote("some-run", "generate"))
    assert second is not None
    with second:
        assert daemon.start_worker(spec(), second.fds).id == worker.id

    assert leases.holder("cuda-GPU-1") is None


def test_an_idle_worker_is_stopped_and_its_devices_are_free(daemon: Connection, leases: LeaseDirectory) -> None:
    worker = start(daemon, leases, spec(idle_timeout_s=0.3))

    wait_for(lambda: info(daemon, worker) is None, what="the idle worker's end")
    assert leases.holder(DEVICE) is None


def test_the_lease_of_a_worker_that_cannot_be_made_is_given_back(
    daemon: Connection, leases: LeaseDirectory, runtime: Path
) -> None:
    (runtime / "workers").rmdir() if (runtime / "workers").exists() else None
    (runtime / "workers").write_text("in the way")
    taken = lease(leases)
    assert taken is not None
    with taken, pytest.raises(Exception, match="cannot be made"):
        daemon.start_worker(spec(), taken.fds)

    assert leases.holder(DEVICE) is None
