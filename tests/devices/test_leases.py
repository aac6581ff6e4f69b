"""Leases: never two runs on one device, never a part of what was asked for, never held by nobody."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launchers.process import GuardedProcess, ProcessSpec
from omnirt_cli.devices.device import Device
from omnirt_cli.devices.leases import LeaseDirectory, LeaseNote, WaitCancelledError, acquire
from omnirt_cli.devices.selection import Choice, DeviceRequest, choose
from omnirt_cli.errors import BusyError, DevicesUnavailableError
from omnirt_cli.models.base import Backend
from omnirt_cli.run.cancel import CancelToken
from tests.lease_processes import ROOT, answer, lease_worker, leave_now, start_together

NOTE = LeaseNote("run-1", "generate flashtalk")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "leases"


@pytest.fixture
def directory(folder: Path) -> LeaseDirectory:
    return _opened(folder)


def _opened(folder: Path) -> LeaseDirectory:
    return LeaseDirectory.open({"OMNIRT_LOCK_DIR": str(folder)})


def _eventually(true: Callable[[], bool], within_s: float = 20.0) -> bool:
    give_up = time.monotonic() + within_s
    while not true():
        if time.monotonic() >= give_up:
            return False
        time.sleep(0.01)
    return True


def _device(number: int) -> Device:
    return Device(id=str(number), key=f"npu-{number}")


def _wanting(*devices: Device) -> Callable[[Callable[[Device], bool]], Choice]:
    request = DeviceRequest(Backend.ASCEND, devices, len(devices), chosen_by_user=True)
    return lambda free: choose(request, free)


# One lease


def test_a_lease_keeps_others_out_until_it_is_closed(directory: LeaseDirectory) -> None:
    with directory.try_acquire(["a", "b"], NOTE) or pytest.fail("both were free") as lease:
        assert lease.keys == ("a", "b")
        assert directory.try_acquire(["b"], NOTE) is None

    assert lease.fds == ()
    lease.close()
    assert directory.try_acquire(["b"], NOTE) is not None


def test_a_refused_lease_holds_no_part(directory: LeaseDirectory) -> None:
    held = directory.try_acquire(["b"], NOTE)

    assert directory.try_acquire(["c", "a", "b"], NOTE) is None
    assert held is not None
    assert directory.holder("a") is None
    assert directory.try_acquire(["a", "c"], NOTE) is not None


def test_a_key_given_twice_is_one_device(directory: LeaseDirectory) -> None:
    lease = directory.try_acquire(["a", "a"], NOTE)

    assert lease is not None
    assert (lease.keys, len(lease.fds)) == (("a",), 1)


def test_the_holder_says_who_it_is(directory: LeaseDirectory) -> None:
    lease = directory.try_acquire(["0000:3b:00.0"], NOTE)
    holder = directory.holder("0000:3b:00.0")

    assert lease is not None
    assert holder is not None
    assert (holder.run_id, holder.what, holder.pid) == ("run-1", "generate flashtalk", os.getpid())
    assert holder.host == os.uname().nodename
    assert holder.described.startswith("run run-1 (generate flashtalk) of ")
    assert f"pid {os.getpid()} on {holder.host}, since 20" in holder.described


def test_a_note_covers_a_longer_one_before_it(directory: LeaseDirectory) -> None:
    for run_id in ("r" * 100, "short"):
        lease = directory.try_acquire(["a"], LeaseNote(run_id, ""))
        holder = directory.holder("a")
        assert lease is not None
        assert holder is not None
        assert holder.run_id == run_id
        lease.close()


def test_a_note_without_a_lock_is_stale(directory: LeaseDirectory) -> None:
    lease = directory.try_acquire(["a"], NOTE)
    assert lease is not None
    lease.close()

    assert "run-1" in (directory.path / "device-a").read_text()
    assert directory.holder("a") is None
    assert directory.holder("never seen") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 5000, b"null", b'{"run_id": 7, "pid": "x"}', b"\xff\xfe", b'{"pid":' + b"9" * 4000 + b"}"],
)
def test_a_note_that_cannot_be_read_only_leaves_the_holder_unknown(directory: LeaseDirectory, content: bytes) -> None:
    lease = directory.try_acquire(["a"], NOTE)
    (directory.path / "device-a").write_bytes(content)
    holder = directory.holder("a")

    assert lease is not None
    assert holder is not None
    assert (holder.run_id, holder.pid) == (None, None)
    assert holder.described == "another OmniRT that has not said which"


def test_a_forged_note_does_nothing_to_the_terminal(directory: LeaseDirectory) -> None:
    lease = directory.try_acquire(["a"], NOTE)
    forged = {"run_id": "\x1b[2J\u202eevil\n", "user": "u" * 3000, "pid": True}
    (directory.path / "device-a").write_text(json.dumps(forged))
    holder = directory.holder("a")

    assert lease is not None
    assert holder is not None
    assert holder.run_id == "?[2J?evil?"
    assert holder.described.isprintable()
    assert len(holder.described) < 200
    assert holder.pid is None


def test_a_note_that_cannot_be_written_costs_only_the_name(
    directory: LeaseDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data, offset)

    earlier = directory.try_acquire(["a"], LeaseNote("run-0", "generate"))
    assert earlier is not None
    earlier.close()
    monkeypatch.setattr(os, "pwrite", full)
    lease = directory.try_acquire(["a"], NOTE)
    holder = directory.holder("a")

    assert lease is not None
    assert holder is not None
    assert holder.run_id is None


def test_eight_devices_are_taken_in_under_5_ms(directory: LeaseDirectory) -> None:
    def once() -> float:
        began = time.perf_counter()
        lease = directory.try_acquire([f"npu-{number}" for number in range(8)], NOTE)
        taken = time.perf_counter() - began
        assert lease is not None
        lease.close()
        return taken

    assert min(once() for _ in range(20)) < 0.005


def test_descriptors_lie_above_the_standard_ones_even_where_those_are_closed(folder: Path) -> None:
    program = (
        "import os, sys; from omnirt_cli.devices.leases import *\n"
        "lease = LeaseDirectory.open(os.environ).try_acquire(['a', 'b'], LeaseNote('r', 'w'))\n"
        "os.write(1, repr(min(lease.fds) > 2).encode())"
    )
    shell = [
        "/bin/sh", "-c", 'exec "$0" -c "$1" <&- 2>&-', sys.executable, program,
    ]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMNIRT_LOCK_DIR": str(folder)}

    assert subprocess.run(shell, env=environ, stdout=subprocess.PIPE, check=False).stdout == b"True"


# Several processes


def test_racing_processes_never_share_a_device_and_never_keep_a_part(folder: Path, tmp_path: Path) -> None:
    markers = tmp_path / "markers"
    markers.mkdir()
    orders = {"do": "race", "folder": folder, "markers": str(markers), "keys": ["a", "b", "c", "d"], "rounds": 400}
    with (
        lease_worker(**orders, seed=1) as one,
        lease_worker(**orders, seed=2) as two,
        lease_worker(**orders, seed=3) as three,
    ):
        start_together(one, two, three)
        results = [answer(process) for process in (one, two, three)]

    assert [(result["shared"], result["leaked"]) for result in results] == [(0, 0)] * 3
    assert all(result["got"] > 0 for result in results)
    assert sum(result["refused"] for result in results) > 0
    assert all(_opened(folder).holder(key) is None for key in orders["keys"])


def test_processes_that_choose_at_once_get_different_devices(folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        pickers = [stack.enter_context(lease_worker(do="pick", folder=folder, of=8, count=2)) for _ in range(4)]
        start_together(*pickers)
        picked = [answer(process) for process in pickers]

    assert sorted(device for pick in picked for device in pick["devices"]) == list("01234567")


def test_sigkill_of_the_holder_frees_at_once(folder: Path, directory: LeaseDirectory) -> None:
    with lease_worker(do="hold", folder=folder, keys=["a", "b"]) as process:
        assert answer(process) == {"got": True}
        holder = directory.holder("b")
        assert holder is not None
        assert (holder.pid, holder.run_id) == (process.pid, "run-of-worker")

        process.send_signal(signal.SIGKILL)
        process.wait()

        assert directory.try_acquire(["a", "b"], NOTE) is not None


def test_a_child_with_the_descriptors_keeps_the_lease_after_its_parent(folder: Path, directory: LeaseDirectory) -> None:
    with lease_worker(do="hold", folder=folder, keys=["a", "b"], bequeath=True) as process:
        assert answer(process) == {"got": True}
        process.wait(timeout=20)
        held = [directory.holder(key) for key in ("a", "b")]
        assert [holder and holder.run_id for holder in held] == ["run-of-worker"] * 2
        assert directory.try_acquire(["b"], NOTE) is None

        leave_now(process)  # the child reads from the same pipe

        assert _eventually(lambda: directory.holder("a") is None)
        assert directory.try_acquire(["a", "b"], NOTE) is not None


def test_the_guard_keeps_the_lease_until_the_run_is_gone(directory: LeaseDirectory, tmp_path: Path) -> None:
    lease = directory.try_acquire(["a"], NOTE)
    assert lease is not None
    spec = ProcessSpec(("/bin/sleep", "60"), tmp_path, dict(os.environ), "lease-test")
    with GuardedProcess.start(spec, pass_fds=lease.fds) as process:
        lease.close()
        assert directory.holder("a") is not None

        process.kill()
        assert process.wait(20)

    assert _eventually(lambda: directory.holder("a") is None)


def test_looking_at_a_lease_keeps_nobody_from_taking_it(folder: Path, directory: LeaseDirectory) -> None:
    with (
        lease_worker(do="look", folder=folder, keys=["a"]) as looker,
        lease_worker(do="look", folder=folder, keys=["a"]) as two,
    ):
        first = directory.try_acquire(["a"], NOTE)
        assert first is not None
        first.close()
        assert [answer(process) for process in (looker, two)] == [{"looking": True}] * 2
        for _ in range(500):
            lease = directory.try_acquire(["a"], NOTE)
            assert lease is not None
            lease.close()


def test_a_lock_file_that_a_cleaner_removed_is_made_again(directory: LeaseDirectory) -> None:
    first = directory.try_acquire(["a"], NOTE)
    assert first is not None
    first.close()
    (directory.path / "device-a").unlink()
    directory.path.rmdir()

    assert directory.try_acquire(["a"], NOTE) is not None


def test_a_lock_file_that_goes_while_it_is_opened_is_not_taken_for_the_lease(
    directory: LeaseDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = fcntl.flock, []

    def cleaned_meanwhile(descriptor: int, kind: int) -> None:
        if not removed:
            removed.append(True)
            (directory.path / "device-a").unlink()
        real(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", cleaned_meanwhile)
    lease = directory.try_acquire(["a"], NOTE)

    assert removed
    assert lease is not None
    assert directory.try_acquire(["a"], NOTE) is None


# Waiting


def test_busy_devices_are_refused_at_once_with_who_has_them(folder: Path, directory: LeaseDirectory) -> None:
    with lease_worker(do="hold", folder=folder, keys=["npu-1"]) as process:
        assert answer(process) == {"got": True}
        began = time.monotonic()
        with pytest.raises(BusyError) as caught:
            acquire(directory, _wanting(_device(0), _device(1)), note=NOTE)

    assert time.monotonic() - began < 1.0
    assert caught.value.message.startswith("device 1 is leased by run run-of-worker (generate) of ")
    assert f"pid {process.pid} on " in caught.value.message
    assert "--wait SECONDS" in (caught.value.hint or "")
    assert directory.holder("npu-0") is None


def test_a_wait_ends_when_the_holder_leaves(folder: Path, directory: LeaseDirectory) -> None:
    said: list[str] = []
    with lease_worker(do="hold", folder=folder, keys=["npu-1"]) as process:
        assert answer(process) == {"got": True}

        def leave(who: str) -> None:
            said.append(who)
            leave_now(process)

        lease, devices = acquire(
            directory, _wanting(_device(0), _device(1)), note=NOTE, wait_s=60, poll_s=0.01, on_wait=leave
        )

    assert [device.id for device in devices] == ["0", "1"]
    assert lease.keys == ("npu-0", "npu-1")
    assert len(said) == 1
    assert said[0].startswith("device 1 is leased by run run-of-worker")


def test_a_wait_ends_with_its_time(directory: LeaseDirectory) -> None:
    held = directory.try_acquire(["npu-0"], NOTE)
    said: list[str] = []
    began = time.monotonic()

    with pytest.raises(BusyError, match=r"waited 0\.3 s"):
        acquire(directory, _wanting(_device(0)), note=NOTE, wait_s=0.3, poll_s=0.05, on_wait=said.append)
    assert held is not None
    assert len(said) == 1
    assert 0.3 <= time.monotonic() - began < 5


def test_a_wait_can_be_cancelled(directory: LeaseDirectory) -> None:
    held = directory.try_acquire(["npu-0"], NOTE)
    token = CancelToken()
    threading.Timer(0.1, token.cancel).start()
    began = time.monotonic()

    with pytest.raises(WaitCancelledError):
        acquire(directory, _wanting(_device(0)), note=NOTE, wait_s=60, poll_s=30, cancel=token)
    assert held is not None
    assert time.monotonic() - began < 5
    token.close()


def test_what_the_choice_refuses_is_not_waited_for(directory: LeaseDirectory) -> None:
    request = DeviceRequest(Backend.ASCEND, (_device(0),), 2, chosen_by_user=False)

    with pytest.raises(DevicesUnavailableError):
        acquire(directory, lambda free: choose(request, free), note=NOTE, wait_s=60)


def test_a_run_that_lost_a_race_chooses_again_though_it_does_not_wait(directory: LeaseDirectory) -> None:
    devices = (_device(0), _device(1))
    faster = []

    def late_choice(free: Callable[[Device], bool]) -> Choice:
        choice = choose(DeviceRequest(Backend.ASCEND, devices, 1, chosen_by_user=False), free)
        if not faster:
            faster.append(directory.try_acquire(["npu-0"], NOTE))
        return choice

    lease, chosen = acquire(directory, late_choice, note=NOTE)

    assert faster[0] is not None
    assert [device.id for device in chosen] == ["1"]
    assert lease.keys == ("npu-1",)


def test_a_shared_lock_that_stays_ends_as_busy(directory: LeaseDirectory) -> None:
    first = directory.try_acquire(["npu-0"], NOTE)
    assert first is not None
    first.close()
    with (directory.path / "device-npu-0").open() as stuck:
        fcntl.flock(stuck, fcntl.LOCK_SH)

        assert directory.try_acquire(["npu-0"], NOTE) is None
        with pytest.raises(BusyError, match="device"):
            acquire(directory, _wanting(_device(0)), note=NOTE)


def test_random_requests_are_granted_whole_or_not_at_all(directory: LeaseDirectory) -> None:
    rng = random.Random(5)
    held: dict[str, Any] = {}
    for _ in range(300):
        keys = rng.sample("abcdef", rng.randint(1, 4))
        lease = directory.try_acquire(keys, NOTE)
        assert (lease is None) == any(key in held for key in keys)
        if lease is not None:
            held.update(dict.fromkeys(keys, lease))
        if held and rng.random() < 0.5:
            gone = held[rng.choice(sorted(held))]
            gone.close()
            held = {key: other for key, other in held.items() if other is not gone}
