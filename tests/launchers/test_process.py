"""The launcher's surroundings: descriptors, signals, output, exit status, and what cannot be started."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from guarded import follow, open_descriptors, python, spec_for

from launchers.errors import GuardError, LaunchError, ProgramMissingError
from launchers.process import Done, Exited, ExitStatus, GuardedProcess, ProcessSpec


def run(*argv: str, **options: object):
    """A whole run: how it ended, what it printed, what happened."""
    with GuardedProcess.start(spec_for(*argv, **options)) as process:
        followed = follow(process)
    return process.exit, bytes(followed.output), followed.events


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", ExitStatus(0, None)),
        ("raise SystemExit(7)", ExitStatus(7, None)),
        ("raise SystemExit(255)", ExitStatus(255, None)),
        ("import os; os.kill(os.getpid(), 9)", ExitStatus(None, 9)),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", ExitStatus(None, signal.SIGINT)),
        ("import os; os.abort()", ExitStatus(None, signal.SIGABRT)),
    ],
)
def test_the_exit_is_told_as_it_was(code, expected):
    exit_status, _, events = run(*python(code))
    assert exit_status == expected
    assert events == [Exited(expected), Done()]


def test_stdout_and_stderr_keep_their_order():
    code = "import os\nfor i in range(500): os.write(1, b'out%d\\n' % i); os.write(2, b'err%d\\n' % i)"
    _, output, _ = run(*python(code))
    assert output.decode().split() == [word for i in range(500) for word in (f"out{i}", f"err{i}")]


def test_no_byte_of_a_large_output_is_lost_at_the_exit():
    code = "import os\nfor i in range(640): os.write(1, bytes([i % 256]) * 65536)"
    _, output, _ = run(*python(code))
    assert output == b"".join(bytes([i % 256]) * 65536 for i in range(640))


def test_output_that_nobody_read_before_the_end_is_still_there():
    with GuardedProcess.start(spec_for("/bin/echo", "last words")) as process:
        assert process.wait(10)
        assert os.read(process.output_fd, 100) == b"last words\n"
        assert os.read(process.output_fd, 100) == b""


def test_stdin_is_empty():
    assert run("/bin/cat")[1] == b""


def test_the_launcher_gets_its_directory_and_exactly_its_environment(tmp_path):
    directory = tmp_path / "a b\nc"
    directory.mkdir()
    awkward = {"NAME": "line\nbreak", "BYTES": os.fsdecode(b"\xff"), "EMPTY": ""}
    spec = ProcessSpec(("/usr/bin/env", "-0"), directory, awkward, "run-1")
    with GuardedProcess.start(spec) as process:
        entries = bytes(follow(process).output).split(b"\0")
    assert sorted(entries) == [b"", b"BYTES=\xff", b"EMPTY=", b"NAME=line\nbreak", b"OMNIRT_RUN_ID=run-1"]
    assert run("/bin/pwd", cwd=directory)[1].decode() == f"{directory}\n"


def test_arguments_arrive_byte_for_byte():
    args = ["", "-1", "line\nbreak", "é", os.fsdecode(b"\xff\x01"), '"$(x)`', "x" * 100_000]
    _, output, _ = run("/usr/bin/printf", "%s\\0", *args)
    assert output.split(b"\0")[:-1] == [os.fsencode(arg) for arg in args]


def test_a_launch_larger_than_a_pipe_arrives():
    many = {f"NAME_{i}": "x" * 1000 for i in range(500)}
    _, output, _ = run("/usr/bin/env", **many)
    assert output.count(b"NAME_") == 500


def test_the_launcher_inherits_no_descriptor(tmp_path):
    descriptor = os.open(tmp_path / "lease", os.O_RDWR | os.O_CREAT)
    leaking = os.dup(descriptor)
    os.set_inheritable(leaking, True)
    try:
        spec = spec_for("/bin/ls", "-l", "/proc/self/fd")
        with GuardedProcess.start(spec, pass_fds=(descriptor,)) as process:
            listing = bytes(follow(process).output).decode()
    finally:
        os.close(descriptor)
        os.close(leaking)
    targets = [line.rpartition(" -> ")[2] for line in listing.splitlines() if " -> " in line]
    assert targets[0] == "/dev/null"
    assert targets[1] == targets[2] != "/dev/null"
    assert len(targets) == 4, "the fourth is the listing's own"
    assert "lease" not in listing


def signal_sets(output: bytes) -> dict[str, int]:
    pairs = (line.split(":\t") for line in output.decode().splitlines())
    return {name: int(value, 16) for name, value in pairs}


def test_blocked_and_ignored_signals_of_the_caller_do_not_reach_the_launcher():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGINT})
    try:
        _, output, _ = run("/bin/grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    assert signal_sets(output) == {"SigBlk": 0, "SigIgn": 0}


def test_nohup_reaches_the_launcher():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        _, output, _ = run("/bin/grep", "SigIgn", "/proc/self/status")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal_sets(output) == {"SigIgn": 1 << (signal.SIGHUP - 1)}


def test_the_caller_stays_as_it_was_and_may_be_any_thread():
    is_subreaper = ctypes.c_int(-1)
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    results = []
    thread = threading.Thread(target=lambda: results.append(run("/bin/echo", "from a thread")[1]))
    thread.start()
    thread.join()
    ctypes.CDLL(None).prctl(37, ctypes.byref(is_subreaper))  # PR_GET_CHILD_SUBREAPER
    assert results == [b"from a thread\n"]
    assert is_subreaper.value == 0
    assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers


def test_a_thread_that_ends_takes_no_launcher_with_it():
    """PDEATHSIG follows the thread that forked, so the guard must be the one that forks."""
    started = []
    thread = threading.Thread(
        target=lambda: started.append(GuardedProcess.start(spec_for("/bin/sh", "-c", "sleep 0.5; echo done")))
    )
    thread.start()
    thread.join()
    with started[0] as process:
        assert bytes(follow(process).output) == b"done\n"


def test_leaves_no_descriptor_and_no_zombie():
    run("/bin/true")
    before, children = open_descriptors(), psutil.Process().children()
    for _ in range(3):
        run("/bin/true")
        with pytest.raises(ProgramMissingError):
            run("/nonexistent/program")
    assert open_descriptors() == before
    assert psutil.Process().children() == children


def test_a_program_that_cannot_be_executed_is_named(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    bad_interpreter = tmp_path / "script"
    bad_interpreter.write_text("#!/nonexistent/python\n")
    bad_interpreter.chmod(0o755)
    for path, said in [
        ("/nonexistent/python", "No such file"),
        (str(plain), "Permission denied"),
        (str(tmp_path), "Permission denied"),
        (str(bad_interpreter), "No such file"),
    ]:
        with pytest.raises(ProgramMissingError, match=said) as caught:
            run(path)
        assert path in caught.value.message
        assert caught.value.hint


def test_a_missing_working_directory_is_named():
    with pytest.raises(GuardError, match="working directory cannot be entered: /nonexistent"):
        run("/bin/true", cwd=Path("/nonexistent"))


@pytest.mark.parametrize("word", ["nul\0here", "\ud800"])
def test_what_no_process_can_be_given_is_refused_before_anything_starts(word):
    with pytest.raises(LaunchError, match="cannot be given to a process"):
        run("/bin/echo", word)


def test_a_guard_that_does_not_start_is_told_with_its_own_words(monkeypatch, tmp_path):
    broken = tmp_path / "guard.py"
    broken.write_text("raise SystemExit('no such luck')\n")
    monkeypatch.setattr("launchers.process._GUARD_PROGRAM", str(broken))
    with pytest.raises(GuardError, match="no such luck"):
        run("/bin/true")
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with pytest.raises(GuardError, match="/nonexistent/python"):
        run("/bin/true")


def test_standard_descriptors_cannot_be_leases():
    with pytest.raises(ValueError, match="standard descriptors"):
        GuardedProcess.start(spec_for("/bin/true"), pass_fds=(1,))


def test_a_launch_can_have_a_umask_of_its_own(tmp_path):
    spec = replace(spec_for(*python("open('made', 'w')"), cwd=tmp_path), umask=0o077)
    with GuardedProcess.start(spec) as process:
        follow(process)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
