"""Nothing that a run started outlives it, whoever is killed: real launchers, real ranks, real signals."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from guarded import (
    RANK,
    STOP_BOUND_S,
    follow,
    is_alive,
    new_run_id,
    python,
    seconds_until_gone,
    spec_for,
    wait_for_pids,
)

from launchers import sweep
from launchers.command import Launcher, build_argv, free_port
from launchers.process import Done, Exited, ExitStatus, GuardedProcess, GuardLost, Killing, ProcessSpec, Stopping

SHORT_GRACE_S = 0.5

HOLDER = """
import json, os, signal, sys, time
from pathlib import Path
from launchers.process import GuardedProcess, ProcessSpec
fields = json.loads(sys.argv[1])
spec = ProcessSpec(tuple(fields["argv"]), Path(fields["cwd"]), fields["env"], fields["run_id"])
process = GuardedProcess.start(spec, grace_s=fields["grace_s"], pass_fds=fields["pass_fds"])
if fields["forked"] and os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(120)
elif not fields["forked"]:
    print(0, flush=True)
signal.pause()
"""
"""Stands for OmniRT: starts a run, and is killed by the test."""


def hold(spec: ProcessSpec, *, grace_s: float = SHORT_GRACE_S, pass_fds: tuple[int, ...] = (), forked: bool = False):
    """A process that holds a run, and the number of the fork that shares its descriptors (0 for none)."""
    fields = {
        "argv": spec.argv,
        "cwd": str(spec.cwd),
        "env": dict(spec.env),
        "run_id": spec.run_id,
        "grace_s": grace_s,
        "pass_fds": pass_fds,
        "forked": forked,
    }
    root = str(Path(__file__).parents[2])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, json.dumps(fields)],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        pass_fds=pass_fds,
    )
    return holder, int(holder.stdout.readline())


def end_holder(holder: subprocess.Popen) -> None:
    holder.kill()
    holder.wait()
    holder.stdout.close()


@pytest.fixture(params=[Launcher.PYTHON, Launcher.TORCHRUN, Launcher.ACCELERATE], ids=lambda launcher: launcher.value)
def launcher(request) -> Launcher:
    if request.param is not Launcher.PYTHON:
        pytest.importorskip("torch")
    return request.param


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    (tmp_path / "rank.py").write_text(RANK)
    return tmp_path


def rank_spec(launcher: Launcher, ranks: Path, behaviour: str) -> tuple[ProcessSpec, int]:
    """A launch of ranks that work for two minutes, and how many there are."""
    processes = 1 if launcher is Launcher.PYTHON else 2
    accelerate = None
    if launcher is Launcher.ACCELERATE:
        accelerate = shutil.which("accelerate", path=str(Path(sys.executable).parent))
        if accelerate is None:
            pytest.skip("accelerate is not installed beside this Python")
    argv = build_argv(
        launcher,
        python=Path(sys.executable),
        script=ranks / "rank.py",
        args=[str(ranks), behaviour],
        processes=processes,
        accelerate=Path(accelerate) if accelerate else None,
        port=free_port(),
    )
    return spec_for(*argv, cwd=ranks, HOME=str(ranks)), processes


def test_after_sigkill_of_omnirt_nothing_survives(launcher, ranks):
    spec, count = rank_spec(launcher, ranks, "stubborn")
    holder, _ = hold(spec)
    pids = wait_for_pids(ranks, count)
    assert set(pids) <= set(sweep.find_marked(spec.run_id))
    end_holder(holder)
    assert seconds_until_gone(spec.run_id, pids) < STOP_BOUND_S


def test_after_sigkill_of_omnirt_ranks_may_still_tidy_up(launcher, ranks):
    spec, count = rank_spec(launcher, ranks, "tidy")
    holder, _ = hold(spec, grace_s=5.0)
    pids = wait_for_pids(ranks, count)
    end_holder(holder)
    assert seconds_until_gone(spec.run_id, pids) < STOP_BOUND_S
    assert len(list(ranks.glob("*.tidied"))) == count


def test_after_sigkill_of_the_guard_nothing_survives(launcher, ranks):
    spec, count = rank_spec(launcher, ranks, "stubborn")
    with GuardedProcess.start(spec) as process:
        pids = wait_for_pids(ranks, count)
        os.kill(process._guard.pid, signal.SIGKILL)
        events = follow(process).events
        assert seconds_until_gone(spec.run_id, pids) < STOP_BOUND_S
    assert isinstance(events[-1], GuardLost)
    assert not events[-1].survivors
    assert process.guard_lost


def test_a_launcher_without_the_runs_mark_dies_with_the_guard():
    """No sweep can find it; the kernel kills it, for it was told to when the guard started it."""
    with GuardedProcess.start(spec_for("/usr/bin/env", "-i", "/bin/sleep", "120")) as process:
        os.kill(process._guard.pid, signal.SIGKILL)
        assert seconds_until_gone("none", [process.pid], 2) < 2


def test_a_guard_that_breaks_ends_the_run_first(tmp_path):
    """Even what carries no mark and left its session."""
    code = "env -i setsid sh -c 'echo $$ > x; mv x 0.pid; exec sleep 120' & wait"
    with GuardedProcess.start(spec_for("/bin/sh", "-c", code, cwd=tmp_path)) as process:
        pids = wait_for_pids(tmp_path, 1)
        os.write(process._control_fd, b"no such request\n")
        events = follow(process).events
        assert seconds_until_gone("none", [process.pid, *pids], 2) < 2
    assert isinstance(events[-1], GuardLost)


def test_after_sigkill_of_the_launcher_nothing_survives(launcher, ranks):
    spec, count = rank_spec(launcher, ranks, "stubborn")
    with GuardedProcess.start(spec, grace_s=SHORT_GRACE_S) as process:
        pids = wait_for_pids(ranks, count)
        os.kill(process.pid, signal.SIGKILL)
        events = follow(process).events
        assert seconds_until_gone(spec.run_id, pids) < STOP_BOUND_S
    assert events[0] == Exited(ExitStatus(code=None, signal=signal.SIGKILL))
    done = events[-1]
    assert isinstance(done, Done)
    if launcher is not Launcher.PYTHON:
        assert set(pids) <= {note.pid for note in done.leftovers}
        assert set(pids) <= {note.pid for note in done.killed}


def test_a_stop_ends_stubborn_ranks_within_its_bound_at_the_default_grace(launcher, ranks):
    spec, count = rank_spec(launcher, ranks, "stubborn")
    with GuardedProcess.start(spec) as process:
        pids = wait_for_pids(ranks, count)
        began = time.monotonic()
        process.request_stop()
        events = follow(process).events
        took = time.monotonic() - began
        assert seconds_until_gone(spec.run_id, pids) < 0.1
    assert 5.0 <= took < STOP_BOUND_S
    assert Stopping("stop") in events
    assert Killing("grace_over") in events
    assert set(pids) <= {note.pid for note in events[-1].killed}
    assert process.exit is not None


def test_a_stop_ends_willing_ranks_at_once(launcher, ranks):
    spec, count = rank_spec(launcher, ranks, "willing")
    with GuardedProcess.start(spec) as process:
        pids = wait_for_pids(ranks, count)
        began = time.monotonic()
        process.request_stop()
        events = follow(process).events
        assert time.monotonic() - began < 4
        assert seconds_until_gone(spec.run_id, pids) < 0.1
    assert events[-1].survivors == ()


def test_a_suspended_rank_is_woken_to_end(ranks):
    spec, count = rank_spec(Launcher.PYTHON, ranks, "willing")
    with GuardedProcess.start(spec) as process:
        (pid,) = wait_for_pids(ranks, count)
        os.kill(pid, signal.SIGSTOP)
        process.request_stop()
        assert process.wait(2)
    assert process.exit == ExitStatus(code=None, signal=signal.SIGTERM)


@pytest.mark.parametrize("second", ["request_stop", "kill"])
def test_a_second_stop_does_not_wait_for_the_grace(ranks, second):
    spec, count = rank_spec(Launcher.PYTHON, ranks, "stubborn")
    with GuardedProcess.start(spec, grace_s=60) as process:
        (pid,) = wait_for_pids(ranks, count)
        process.request_stop()
        assert not process.wait(0.3)
        began = time.monotonic()
        getattr(process, second)()
        events = follow(process).events
        assert time.monotonic() - began < 1
    assert events[-1].killed[0].pid == pid
    assert process.exit == ExitStatus(code=None, signal=signal.SIGKILL)


def test_a_kill_needs_no_stop_before(ranks):
    spec, count = rank_spec(Launcher.PYTHON, ranks, "stubborn")
    with GuardedProcess.start(spec, grace_s=60) as process:
        wait_for_pids(ranks, count)
        process.kill()
        assert process.wait(1)


def test_close_leaves_nothing_of_a_running_run(ranks):
    spec, count = rank_spec(Launcher.PYTHON, ranks, "stubborn")
    process = GuardedProcess.start(spec, grace_s=60)
    pids = wait_for_pids(ranks, count)
    process.close()
    assert not sweep.find_marked(spec.run_id)
    assert not any(map(is_alive, pids))
    process.close()


def test_an_interrupted_start_leaves_nothing(ranks, monkeypatch):
    spec, count = rank_spec(Launcher.PYTHON, ranks, "stubborn")

    def interrupted(self, deadline):
        wait_for_pids(ranks, count)
        raise KeyboardInterrupt

    monkeypatch.setattr(GuardedProcess, "_first_answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        GuardedProcess.start(spec, grace_s=60)
    assert not sweep.find_marked(spec.run_id)


def test_close_ends_a_run_whose_guard_does_not_answer(ranks, monkeypatch):
    monkeypatch.setattr("launchers.process.CLOSE_BOUND_S", 0.3)
    spec, count = rank_spec(Launcher.PYTHON, ranks, "stubborn")
    process = GuardedProcess.start(spec)
    pids = wait_for_pids(ranks, count)
    os.kill(process._guard.pid, signal.SIGSTOP)
    process.close()
    assert seconds_until_gone(spec.run_id, pids, 1) < 1
    assert process.guard_lost


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_guard_is_a_stop(ranks, number):
    spec, count = rank_spec(Launcher.PYTHON, ranks, "willing")
    with GuardedProcess.start(spec) as process:
        wait_for_pids(ranks, count)
        os.kill(process._guard.pid, number)
        events = follow(process).events
    assert events == [Stopping("stop"), Exited(ExitStatus(code=None, signal=signal.SIGTERM)), Done()]


def test_omnirts_end_is_noticed_though_a_fork_of_it_holds_the_pipe(ranks):
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this Python has no pidfd")
    spec, count = rank_spec(Launcher.PYTHON, ranks, "willing")
    holder, fork = hold(spec, forked=True)
    try:
        pids = wait_for_pids(ranks, count)
        end_holder(holder)
        assert seconds_until_gone(spec.run_id, pids, 3) < 3
        assert is_alive(fork)
    finally:
        os.kill(fork, signal.SIGKILL)


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1] + "/daemon.pid", "w") as file:
            file.write(str(os.getpid()))
        os.execve("/bin/sleep", ["sleep", "120"], {})
    os._exit(0)
os.wait()
while not os.path.exists(sys.argv[1] + "/daemon.pid"):
    time.sleep(0.01)
print("the launcher is done")
"""


def test_a_daemon_without_the_runs_mark_does_not_outlive_a_normal_end(tmp_path):
    """It left its session, its parents and its environment, and it holds the output."""
    with GuardedProcess.start(spec_for(*python(DAEMON, str(tmp_path)))) as process:
        began = time.monotonic()
        followed = follow(process)
        took = time.monotonic() - began
    daemon = int((tmp_path / "daemon.pid").read_text())
    assert not is_alive(daemon)
    assert 0.9 < took < 3
    assert followed.events[0] == Exited(ExitStatus(code=0, signal=None))
    assert Stopping("leftovers") in followed.events
    assert [(note.pid, note.name) for note in followed.events[-1].leftovers] == [(daemon, "sleep")]
    assert bytes(followed.output) == b"the launcher is done\n"
    assert followed.at_end


def test_a_straggler_that_ends_by_itself_is_let_be(tmp_path):
    code = "import subprocess; subprocess.Popen(['sh', '-c', 'sleep 0.3; echo late'])"
    with GuardedProcess.start(
        spec_for(*python(f"import warnings; warnings.simplefilter('ignore'); {code}"))
    ) as process:
        followed = follow(process)
    assert followed.events == [Exited(ExitStatus(code=0, signal=None)), Done()]
    assert bytes(followed.output) == b"late\n"


COMET = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    if os.fork():
        os._exit(0)
"""
"""Never the same process for longer than a fork takes."""

HYDRA = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        os.setsid()
        time.sleep(120)
    time.sleep(0.02)
"""
"""A parent that makes a new session every 20 ms."""


@pytest.mark.parametrize("code", [COMET, HYDRA], ids=["comet", "hydra"])
def test_processes_that_fork_all_the_time_are_ended(code):
    spec = spec_for(*python(code))
    with GuardedProcess.start(spec, grace_s=SHORT_GRACE_S) as process:
        time.sleep(0.3)
        began = time.monotonic()
        process.request_stop()
        done = follow(process).events[-1]
        assert time.monotonic() - began < SHORT_GRACE_S + 3.5
        assert isinstance(done, Done)
        assert done.survivors == ()
        assert seconds_until_gone(spec.run_id, [], 0.2) < 0.2


def test_a_lease_lives_exactly_as_long_as_the_runs_last_process(ranks):
    """Through SIGKILL of OmniRT, while a rank ignores TERM, until that rank is dead."""
    spec, count = rank_spec(Launcher.PYTHON, ranks, "stubborn")
    lock = ranks / "lease"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    holder, _ = hold(spec, grace_s=1.0, pass_fds=(descriptor,))
    os.close(descriptor)
    (rank,) = wait_for_pids(ranks, count)
    end_holder(holder)
    with lock.open() as other:
        while is_alive(rank):
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(0.05)
        deadline = time.monotonic() + 3
        while True:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.02)


def test_two_runs_do_not_touch_each_other(ranks):
    first, count = rank_spec(Launcher.PYTHON, ranks, "willing")
    second_id = new_run_id()
    with (
        GuardedProcess.start(first) as process,
        GuardedProcess.start(spec_for("/bin/sleep", "120", run_id=second_id)) as second,
    ):
        wait_for_pids(ranks, count)
        process.kill()
        assert process.wait(3)
        assert sweep.find_marked(second_id) == (second.pid,)
        assert sweep.kill_marked(second_id[:-1]).killed == ()
        assert is_alive(second.pid)
