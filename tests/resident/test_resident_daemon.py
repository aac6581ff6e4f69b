"""The daemon's own life: one per user, started by who needs it, and nothing left of it however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launchers.model_env.omnirt_worker import wire
from omnirt_cli.errors import BusyError, ConfigInvalidError, InputMissingError, OutputUncreatableError
from omnirt_cli.resident.client import Connection
from omnirt_cli.resident.place import SOCKET_NAME, TAKEN
from omnirt_cli.resident.spec import DaemonInfo, WorkerState
from omnirt_cli.resident.version import code_version
from tests.resident.resident_runs import (
    Followed,
    alive,
    ask,
    environ_of,
    follow,
    info,
    key,
    render,
    spec,
    wait_for,
    worker_processes,
)


def test_clients_that_start_at_once_get_one_daemon(environ: Mapping[str, str]) -> None:
    def pid(_: int) -> int:
        with Connection.open(environ) as connection:
            return connection.daemon.pid

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(pid, range(4)))) == 1


def test_the_daemon_is_in_a_session_of_its_own_and_says_who_it_is(daemon: Connection, runtime: Path) -> None:
    told = daemon.daemon

    assert (told.version, told.folder, told.log) == (code_version(), str(runtime), str(runtime / "daemon.log"))
    assert os.getsid(told.pid) != os.getsid(0)
    assert Path(f"/proc/{told.pid}/cwd").readlink() == Path("/")
    assert Path(f"/proc/{told.pid}/fd/0").readlink() == Path(os.devnull)
    assert "OmniRT" in Path(told.log).read_text()


def test_the_daemon_does_not_carry_its_clients_run_mark(runtime: Path) -> None:
    with Connection.open({**environ_of(runtime), "OMNIRT_RUN_ID": "some-run"}) as connection:
        assert b"some-run" not in Path(f"/proc/{connection.daemon.pid}/environ").read_bytes()


def test_looking_for_a_daemon_starts_none_and_makes_nothing(environ: Mapping[str, str], runtime: Path) -> None:
    assert Connection.running(environ) is None
    with pytest.raises(InputMissingError):
        Connection.open(environ, start=False)
    assert not runtime.exists()


def test_a_second_daemon_leaves_the_place_to_the_first(daemon: Connection, runtime: Path) -> None:
    second = subprocess.run([sys.executable, "-m", "omnirt_cli.resident.daemon", str(runtime)], check=False)

    assert second.returncode == TAKEN
    assert daemon.workers() == ()


def test_a_daemon_that_nobody_needs_leaves(runtime: Path, environ: Mapping[str, str]) -> None:
    start_with_idle_timeout(runtime, "0.4")
    with Connection.open(environ, start=False) as connection:
        pid = connection.daemon.pid
        worker = connection.start_worker(spec(idle_timeout_s=1.0))
        connection.wait_until_loaded(worker.id)

    wait_for(lambda: worker_processes(worker.id) == [], what="the idle worker's end")
    wait_for(lambda: not alive(pid), what="the daemon's end")
    assert not (runtime / SOCKET_NAME).exists()


def test_a_daemon_with_a_worker_does_not_leave(runtime: Path, environ: Mapping[str, str]) -> None:
    start_with_idle_timeout(runtime, "0.2")
    with Connection.open(environ, start=False) as connection:
        worker = connection.start_worker(spec())
        connection.wait_until_loaded(worker.id)
    threading.Event().wait(0.8)

    with Connection.open(environ, start=False) as connection:
        assert [one.id for one in connection.workers()] == [worker.id]


def test_a_daemon_that_nobody_can_reach_any_more_stops_its_workers(runtime: Path, environ: Mapping[str, str]) -> None:
    """A session's end may take its runtime directory away."""
    start_with_idle_timeout(runtime, "1.0")
    with Connection.open(environ, start=False) as connection:
        worker = connection.start_worker(spec())
        connection.wait_until_loaded(worker.id)
        shutil.rmtree(runtime)

    wait_for(lambda: worker_processes(worker.id) == [], what="the worker's end")
    wait_for(lambda: not alive(connection.daemon.pid), what="the daemon's end")


def test_a_killed_daemon_takes_its_workers_along(daemon: Connection, environ: Mapping[str, str], runtime: Path) -> None:
    idle = daemon.start_worker(spec("a", stubborn=True, grace_s=0.3))
    busy = daemon.start_worker(spec("b"))
    daemon.wait_until_loaded(idle.id)
    seen = Followed()
    with ask(daemon, busy, seen, chunks=500, chunk_s=0.02) as request:
        follow(request, seen, until=lambda: seen.count("chunk"))
        os.kill(daemon.daemon.pid, signal.SIGKILL)
        follow(request, seen)

    assert request.guard_lost
    assert request.exit is None
    for worker in (idle, busy):
        wait_for(lambda worker=worker: worker_processes(worker.id) == [], what="the worker's end")
    with Connection.open(environ) as successor:
        assert successor.daemon.pid != daemon.daemon.pid
        assert successor.workers() == ()
        assert [path.name for path in (runtime / "workers").iterdir() if path.is_dir()] == []
        render(successor, successor.start_worker(spec("a")))


def test_a_terminated_daemon_stops_its_workers_first(daemon: Connection, runtime: Path) -> None:
    idle, busy = daemon.start_worker(spec("a")), daemon.start_worker(spec("b", grace_s=0.3))
    daemon.wait_until_loaded(idle.id)
    seen = Followed()
    with ask(daemon, busy, seen, chunks=500, chunk_s=0.02, ignore_cancel=True) as request:
        follow(request, seen, until=lambda: seen.count("chunk"))
        os.kill(daemon.daemon.pid, signal.SIGTERM)
        follow(request, seen)

    wait_for(lambda: not alive(daemon.daemon.pid), what="the daemon's end")
    assert worker_processes(idle.id) == worker_processes(busy.id) == []
    assert request.finished
    assert list((runtime / "workers").glob("omnirt-worker-*")) == []
    assert (runtime / "workers" / f"{busy.id}.log").read_text().startswith("stand-in worker")


def test_who_comes_while_the_daemon_leaves_gets_the_next_one(daemon: Connection, environ: Mapping[str, str]) -> None:
    worker = daemon.start_worker(spec(deaf_at_exit=True, stubborn=True, grace_s=1.0))
    daemon.wait_until_loaded(worker.id)

    os.kill(daemon.daemon.pid, signal.SIGTERM)
    wait_for(lambda: info(daemon, worker).state is WorkerState.STOPPING, what="the stop")  # type: ignore[union-attr]
    with pytest.raises(BusyError, match="leaving"):
        daemon.start_worker(spec("b"))
    with Connection.open(environ) as successor:
        assert successor.daemon.pid != daemon.daemon.pid
        assert worker_processes(worker.id) != []
        render(successor, successor.start_worker(spec()))

    wait_for(lambda: not alive(daemon.daemon.pid), what="the daemon's end")
    assert worker_processes(worker.id) == []


def test_a_client_that_talks_nonsense_is_left_alone(daemon: Connection, runtime: Path) -> None:
    worker = daemon.start_worker(spec())
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 12, b"\0\0\0\2\0\0\0\0\0\0\0\0[]"):
        with wire.connect(runtime, SOCKET_NAME) as stranger:
            stranger.sendall(nonsense)
            stranger.settimeout(5)
            assert stranger.recv(1) == b""
    with wire.connect(runtime, SOCKET_NAME) as stranger:
        wire.send(stranger, {"type": "render", "worker_id": worker.id, "id": 3}, fds=(0, 1))
        wire.send(stranger, {"type": "start", "spec": {"key": 1}, "fds": 2})
        wire.send(stranger, {"type": "dance"})
        answers = [wire.receive(stranger) for _ in range(3)]

    assert [answer.header["code"] for answer in answers if answer] == ["usage"] * 3
    render(daemon, worker)


def test_a_worker_that_does_not_end_when_asked_is_ended_by_force(daemon: Connection) -> None:
    worker = daemon.start_worker(spec(deaf_at_exit=True, stubborn=True, grace_s=0.2))
    daemon.wait_until_loaded(worker.id)

    daemon.stop([worker.id], 5.0)

    assert worker_processes(worker.id) == []
    assert daemon.workers() == ()


def test_a_worker_that_loads_can_be_stopped(daemon: Connection) -> None:
    worker = daemon.start_worker(spec(hang_at_load=True))
    wait_for(lambda: info(daemon, worker).pid, what="its process")  # type: ignore[union-attr]

    daemon.stop([worker.id], 5.0)

    assert worker_processes(worker.id) == []


def test_a_worker_with_the_same_key_and_devices_is_not_started_twice(daemon: Connection) -> None:
    worker = daemon.start_worker(spec("a", device_ids=("2", "3")))

    assert daemon.start_worker(spec("a", device_ids=("2", "3"))).id == worker.id
    assert daemon.start_worker(spec("a", device_ids=("3", "2"))).id != worker.id
    assert daemon.start_worker(spec("b", device_ids=("2", "3"))).id != worker.id


def test_a_daemon_of_another_version_is_refused_and_can_be_ended(runtime: Path, environ: Mapping[str, str]) -> None:
    with OldDaemon(runtime):
        with pytest.raises(BusyError, match=r"is of OmniRT 0\.0\.1") as raised:
            Connection.open(environ)
        assert "omnirt worker stop --all" in (raised.value.hint or "")
        with Connection.open(environ, any_version=True) as connection:
            connection.shut_down(5.0)


def test_a_directory_that_cannot_be_used_is_named_with_what_to_do(environ: Mapping[str, str], runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    (runtime / "daemon.lock").mkdir()

    with pytest.raises(OutputUncreatableError, match="Is a directory") as raised:
        Connection.open(environ)

    assert str(runtime) in raised.value.message
    assert "OMNIRT_RUNTIME_DIR" in (raised.value.hint or "")


def test_a_directory_that_others_may_enter_is_refused(environ: Mapping[str, str], runtime: Path) -> None:
    runtime.mkdir(mode=0o755)
    runtime.chmod(0o755)

    with pytest.raises(ConfigInvalidError, match="open to others"):
        Connection.open(environ)


def start_with_idle_timeout(runtime: Path, seconds: str) -> None:
    program = [sys.executable, "-m", "omnirt_cli.resident.daemon", str(runtime), "--idle-timeout", seconds]
    subprocess.run(program, check=True, start_new_session=True)


class OldDaemon:
    """Answers as a daemon of an earlier release would."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self._server = wire.listen(folder, SOCKET_NAME)
        self._folder = folder
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> OldDaemon:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self._server.close()
        (self._folder / SOCKET_NAME).unlink()

    def _serve(self) -> None:
        told = DaemonInfo(os.getpid(), "0.0.1", str(self._folder), str(self._folder / "daemon.log"))
        while True:
            connection, _ = self._server.accept()
            with connection:
                while (message := wire.receive(connection)) is not None:
                    if message.type == "shutdown":
                        return
                    wire.send(connection, {"type": "hello", "daemon": told.to_document()})


def test_a_claim_is_told_to_others_and_ends_with_its_connection(environ: Mapping[str, str]) -> None:
    with Connection.open(environ) as one, Connection.open(environ) as other:
        one.claim(key("a"))
        assert other.coming() == (key("a"),)
        assert one.coming() == ()
        one.close()
        wait_for(lambda: other.coming() == (), what="the claim's end")
