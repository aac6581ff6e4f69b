"""A short-lived tool is bounded in time and in what it writes, and leaves nothing running."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnirt_cli import bounded
from tests.omnirt_cli_runs import wait_for
from tests.vendor_tools import gone, hanging_tool, machine, processes_of


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_what_a_tool_says_and_how_it_ends_are_kept() -> None:
    outcome = bounded.run(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"), timeout_s=30)

    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (3, b"out\n", "err\n")
    assert not outcome.ok
    assert outcome.last_words() == "err"


def test_a_tool_that_hangs_dies_at_its_deadline_together_with_its_children(tmp_path: Path) -> None:
    tool = hanging_tool(tmp_path, "tool", stdout="half an answer\n")
    began = time.monotonic()

    outcome = bounded.run([str(tool)], timeout_s=2)

    assert outcome.timed_out
    assert time.monotonic() - began < 10
    assert len(processes_of(tool)) == 2
    wait_for(lambda: all(gone(pid) for pid in processes_of(tool)), seconds=5, what="the end of the tool and its child")


ABANDONED = """
import sys, threading, time
from pathlib import Path
from omnirt_cli import bounded, main
from tests.vendor_tools import processes_of

tool = Path(sys.argv[1])
threading.Thread(target=bounded.run, args=([str(tool)],), kwargs={"timeout_s": 60}, daemon=True).start()
while len(processes_of(tool)) < 2:
    time.sleep(0.01)
"""


@pytest.mark.parametrize("ending", ["sys.exit(0)", "main._leave(0)"])
def test_a_tool_that_nobody_waits_for_ends_with_its_process(ending: str, tmp_path: Path) -> None:
    tool = hanging_tool(tmp_path, "tool")

    subprocess.run([*python(ABANDONED + ending), str(tool)], check=True, timeout=30, env=machine(tmp_path))

    wait_for(lambda: all(gone(pid) for pid in processes_of(tool)), seconds=5, what="the end of the tool and its child")


def test_a_tool_that_closes_its_output_and_lives_on_is_ended_too() -> None:
    outcome = bounded.run(python("import os, time; os.close(1); os.close(2); time.sleep(60)"), timeout_s=1)

    assert outcome.timed_out


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_tool_that_writes_without_end_is_ended_and_its_words_stay_bounded(stream: str) -> None:
    endless = f"import sys\nwhile True: sys.{stream}.write('x' * 65536)"

    outcome = bounded.run(python(endless), timeout_s=1, limit=1 << 20)

    assert not outcome.ok
    assert outcome.overflowed is (stream == "stdout")
    assert outcome.stdout == b""
    assert len(outcome.stderr) <= bounded.STDERR_LIMIT


def test_the_environment_is_the_one_given() -> None:
    outcome = bounded.run(["/bin/sh", "-c", 'echo "$ONLY-$HOME"'], env={"ONLY": "this"}, timeout_s=30)

    assert outcome.stdout == b"this-\n"


def test_what_is_no_program_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        bounded.run([str(tmp_path / "nothing")], timeout_s=1)
