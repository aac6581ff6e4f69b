"""Where the daemon's files lie, what is refused as such, and what is cleaned away."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from launchers.model_env.omnirt_worker import wire
from omnirt_cli.errors import ConfigInvalidError, NotAuthorisedError, OutputUncreatableError
from omnirt_cli.resident import folders, peer
from omnirt_cli.resident.client import Connection
from omnirt_cli.resident.folders import KEPT_LOGS, WorkerFolder, remove_abandoned
from omnirt_cli.resident.output import BoundedLog, OutputCopy
from omnirt_cli.resident.place import RuntimePlace
from omnirt_cli.resident.spec import SpecError, WorkerSpec
from tests.resident.resident_runs import environ_of, spec


def test_the_place_is_the_named_one_then_the_sessions_then_tmp(tmp_path: Path) -> None:
    named = {"OMNIRT_RUNTIME_DIR": "/a/place", "XDG_RUNTIME_DIR": str(tmp_path)}
    assert RuntimePlace.choose(named).path == Path("/a/place")
    assert RuntimePlace.choose({"XDG_RUNTIME_DIR": str(tmp_path)}).path == tmp_path / "omnirt"
    for session in ("", "/nowhere", "relative"):
        assert RuntimePlace.choose({"XDG_RUNTIME_DIR": session}).path == Path(f"/tmp/omnirt-{os.geteuid()}")


def test_another_users_session_directory_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)

    assert RuntimePlace.choose({"XDG_RUNTIME_DIR": str(tmp_path)}).path == Path("/tmp/omnirt-54321")


def test_the_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        RuntimePlace(tmp_path / "run").make()
    finally:
        os.umask(before)

    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_another_users_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)

    with pytest.raises(OutputUncreatableError, match="belongs to another user"):
        RuntimePlace(tmp_path / "run").make()


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777, 0o1777])
def test_a_directory_that_others_can_enter_is_refused_and_left_as_it_is(tmp_path: Path, mode: int) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(mode)

    with pytest.raises(OutputUncreatableError, match="open to others"):
        RuntimePlace(tmp_path / "run").make()
    assert (tmp_path / "run").stat().st_mode & 0o7777 == mode


def test_a_link_is_refused_even_to_a_directory_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "real")

    with pytest.raises(ConfigInvalidError, match="is a link"):
        RuntimePlace(tmp_path / "run", named=True).make()


def test_a_relative_place_is_refused() -> None:
    with pytest.raises(ConfigInvalidError, match="relative"):
        RuntimePlace(Path("run"), named=True).make()


def test_only_this_user_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer.is_this_user(one)
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        assert not peer.is_this_user(one)


def test_a_client_talks_to_no_other_users_daemon(
    daemon: Connection, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("omnirt_cli.resident.client.is_this_user", lambda _: False)
        with pytest.raises(NotAuthorisedError, match="another user's process"):
            Connection.open(environ_of(runtime))


def test_the_daemon_turns_another_user_away(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where who is there can be made up."""
    from omnirt_cli.resident import daemon as program

    monkeypatch.setattr(program, "is_this_user", lambda _: False)
    place = RuntimePlace(runtime)
    place.make()

    async def meet() -> bytes:
        server = wire.listen(place.path, "daemon.sock")
        daemon = program.Daemon(place, server, os.open(place.lock, os.O_RDWR | os.O_CREAT), 60.0)
        serving = asyncio.get_running_loop().create_task(daemon.serve())
        reader, writer = await asyncio.open_unix_connection(str(place.socket))
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()
        daemon.leave()
        await serving
        return answer

    assert asyncio.run(meet()) == b""


def test_a_workers_files_cannot_leave_its_directory(tmp_path: Path) -> None:
    for name in ("../evil", "/evil", "a/../../evil", ""):
        with pytest.raises(SpecError, match="leads out"):
            WorkerFolder.create(tmp_path / "workers", "12345678", {name: b""})
    assert not (tmp_path / "workers").exists()


def test_abandoned_directories_go_once_nobody_holds_their_lock(tmp_path: Path) -> None:
    workers = tmp_path / "workers"
    held, mine = (WorkerFolder.create(workers, name, {"a/b": b"x"}) for name in ("aaaaaaaa", "bbbbbbbb"))
    assert (held.path / "a" / "b").read_bytes() == b"x"
    (workers / "omnirt-worker-cccccccc").mkdir()

    assert remove_abandoned(workers, {mine.mark})
    assert sorted(path.name[-8:] for path in workers.iterdir()) == ["aaaaaaaa", "bbbbbbbb"]

    os.close(held.lock_fd)
    assert not remove_abandoned(workers, {mine.mark})
    assert [path.name[-8:] for path in workers.iterdir()] == ["bbbbbbbb"]
    mine.remove()


def test_what_carries_an_abandoned_mark_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "omnirt-worker-dddddddd"
    folder.mkdir()
    code = "import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], env={"OMNIRT_RUN_ID": folder.name}) as left:
        remove_abandoned(tmp_path, set())

        assert left.wait(5) == -9


def test_logs_of_workers_that_are_gone_are_kept_up_to_a_number(tmp_path: Path) -> None:
    for number in range(KEPT_LOGS + 3):
        log = tmp_path / f"{number:08d}.log"
        log.touch()
        os.utime(log, (number, number))
        log.with_suffix(".log.1").touch()

    folders.remove_old_logs(tmp_path)

    left = sorted(path.name for path in tmp_path.glob("*.log"))
    assert left == [f"{number:08d}.log" for number in range(3, KEPT_LOGS + 3)]
    assert len(list(tmp_path.iterdir())) == 2 * KEPT_LOGS


def test_a_log_is_bounded(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "a.log", limit=1000)
    for _ in range(100):
        log.write(b"x" * 100)
    log.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000


def test_output_that_is_finished_is_whole_before_its_end_is_told() -> None:
    async def copy() -> tuple[bytes, bool]:
        reader, writer = os.pipe()
        over = asyncio.Event()
        out = OutputCopy(writer)
        out.write(b"a" * 200_000)
        out.finish(over.set)
        early = over.is_set()
        read = b""
        while True:
            block = await asyncio.to_thread(os.read, reader, 1 << 16)
            if not block:
                break
            read += block
        os.close(reader)
        await asyncio.wait_for(over.wait(), 5)
        return read, early

    read, early = asyncio.run(copy())
    assert len(read) == 200_000
    assert not early, "what the pipe could not hold was still to come"


def test_a_reader_that_is_gone_ends_the_copy() -> None:
    async def copy() -> bool:
        reader, writer = os.pipe()
        out = OutputCopy(writer)
        os.close(reader)
        out.write(b"a")
        out.write(b"b")
        return out.closed

    assert asyncio.run(copy())


def test_documents_survive_their_journey_and_wrong_ones_are_named() -> None:
    order = spec(device_ids=("3", "1"), blob="\xff")

    assert WorkerSpec.from_document(order.to_document()) == order
    with pytest.raises(SpecError, match="argv"):
        WorkerSpec.from_document({**order.to_document(), "argv": 3})
    with pytest.raises(SpecError, match="no base64"):
        WorkerSpec.from_document({**order.to_document(), "files": {"a": "!"}})
