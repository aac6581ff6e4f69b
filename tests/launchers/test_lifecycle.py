"""What no real process can be made to do: to survive SIGKILL, or to get another one's number."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from launchers import lifecycle, proctable, sweep
from launchers.lifecycle import Lifecycle, Phase, Request


class Undead:
    """A run with one process that no signal ends."""

    exit_code = None
    childless = False

    def __init__(self) -> None:
        self.kills = 0

    def reap(self) -> bool:
        return False

    def alive(self) -> list[proctable.Process]:
        return [proctable.Process(7, start=1, parent=1, group=7, state="D", name="rank")]

    def terminate(self, processes) -> None:
        pass

    def kill(self, processes) -> None:
        self.kills += 1


def test_what_survives_sigkill_is_reported_at_the_bound(monkeypatch):
    monkeypatch.setattr(lifecycle, "KILL_BOUND_S", 0.1)
    told = []
    run = Undead()
    undead = Lifecycle(run, grace_s=0.05, tell=lambda event, **fields: told.append((event, fields)))
    undead.obey(Request.STOP)
    deadline = time.monotonic() + 5
    while undead.phase is not Phase.DONE and time.monotonic() < deadline:
        undead.step()
        time.sleep(undead.tick_s / 10)
    assert [process.pid for process in undead.survivors] == [7]
    assert run.kills > 1
    assert told == [("stopping", {"reason": "stop"}), ("killing", {"reason": "grace_over"})]


def test_omnirts_end_does_not_shorten_the_grace_of_a_stop_under_way():
    run = Lifecycle(Undead(), grace_s=60, tell=lambda event, **fields: None)
    run.obey(Request.STOP)
    run.obey(Request.PARENT_GONE)
    assert run.phase is Phase.TERMINATING
    run.obey(Request.STOP)
    assert run.phase is Phase.KILLING


@pytest.mark.parametrize("pidfd", [True, False], ids=["pidfd", "without pidfd"])
def test_a_process_that_got_the_number_of_another_is_not_signalled(monkeypatch, pidfd):
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        now = proctable.read_process(child.pid)
        earlier = proctable.Process(child.pid, start=now.start - 1, parent=1, group=1, state="S")
        assert not proctable.send(earlier, signal.SIGKILL)
        assert child.poll() is None
        assert proctable.send(now, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert not proctable.send(now, signal.SIGKILL)


def test_a_name_with_brackets_and_spaces_is_read(tmp_path):
    program = tmp_path / "a) R (b 1"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as child:
        try:
            deadline = time.monotonic() + 2
            while (seen := proctable.read_process(child.pid)).name != "a) R (b 1" and time.monotonic() < deadline:
                time.sleep(0.01)
            assert (seen.name, seen.parent, seen.alive) == ("a) R (b 1", os.getpid(), True)
        finally:
            child.kill()


def test_a_zombie_is_not_alive():
    with subprocess.Popen(["/bin/true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not proctable.read_process(child.pid).alive
        assert child.pid not in proctable.all_processes()


def test_a_mark_is_matched_whole_and_never_the_caller():
    with subprocess.Popen(["/bin/sleep", "60"], env={proctable.RUN_MARK: "run-10"}) as child:
        try:
            deadline = time.monotonic() + 2
            while not sweep.find_marked("run-10") and time.monotonic() < deadline:
                time.sleep(0.01)
            assert sweep.find_marked("run-10") == (child.pid,)
            assert sweep.find_marked("run-1") == ()
            assert sweep.kill_marked("run-10").killed == (child.pid,)
        finally:
            child.kill()
    with pytest.raises(ValueError, match="empty"):
        sweep.kill_marked("")
