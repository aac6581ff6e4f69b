"""The environment script: what comes back, what is kept out, and every way in which a script can go wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest
from guarded import is_alive, open_descriptors

from launchers import env_script
from launchers.env_script import CapturedEnv, capture_env_script
from launchers.errors import EnvScriptFailedError, EnvScriptUnreadableError, ProgramMissingError

BASE = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KEPT": "yes"}


@pytest.fixture
def script(tmp_path: Path):
    def write(text: str, name: str = "set_env.sh") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def capture(path: Path, base: dict[str, str] | None = None, **options: float) -> CapturedEnv:
    return capture_env_script(path, base or BASE, **options)


def all_gone(pid_file: Path) -> bool:
    """Whether the processes named in the file are gone; a killed one needs a moment for its last way."""
    pids = [int(pid) for pid in pid_file.read_text().split()]
    deadline = time.monotonic() + 2
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(pids) and not any(map(is_alive, pids))


def test_adds_changes_and_unsets_variables(script):
    captured = capture(script("export ADDED=1 PATH=/opt/bin:$PATH\nunset KEPT\nunexported=1\n"))
    assert captured.env == {"PATH": f"/opt/bin:{BASE['PATH']}", "HOME": "/nonexistent", "ADDED": "1"}
    assert captured.warnings == ()
    assert captured.output == b""


def test_values_come_back_exactly(script):
    captured = capture(script("export LINES_=$'one\\ntwo\\n' QUOTES='\"' BYTES=$'\\xff\\xe9' EMPTY=\n"))
    assert captured.env["LINES_"] == "one\ntwo\n"
    assert captured.env["QUOTES"] == '"'
    assert os.fsencode(captured.env["BYTES"]) == b"\xff\xe9"
    assert captured.env["EMPTY"] == ""


@pytest.mark.parametrize(
    "name", ["with space.sh", "line\nbreak.sh", "q'u\"o`t$e.sh", "-n", "ünïcode 声.sh", "$(touch pwned)", "a;exit 3"]
)
def test_any_file_name_is_only_a_name(script, name):
    assert capture(script("export FOUND=1\n", name)).env["FOUND"] == "1"


def test_relative_path_is_not_looked_up_in_path(script, tmp_path, monkeypatch):
    script("export WHICH=here\n", "env.sh")
    monkeypatch.chdir(tmp_path)
    assert capture(Path("env.sh")).env["WHICH"] == "here"


def test_the_shell_is_plain(script):
    captured = capture(
        script('export COUNT=$# FIRST="$1" OPTIONS=$-\nshopt -q login_shell && export LOGIN=1\necho "$UNSET_NAME"\n')
    )
    assert captured.env["COUNT"] == "0"
    assert captured.env["FIRST"] == ""
    assert "u" not in captured.env["OPTIONS"]
    assert "LOGIN" not in captured.env


def test_start_up_files_and_shell_options_of_the_caller_do_nothing(script, tmp_path):
    start_up = script("export STARTED_UP=1\necho started\n", "startup.sh")
    base = {**BASE, "BASH_ENV": str(start_up), "ENV": str(start_up), "SHELLOPTS": "nounset", "HOME": str(tmp_path)}
    (tmp_path / ".bashrc").write_text("export STARTED_UP=1\n")
    captured = capture(script('echo "$NEVER_SET"\nexport RAN=1\n'), base)
    assert "STARTED_UP" not in captured.env
    assert captured.env["RAN"] == "1"
    assert captured.env["BASH_ENV"] == str(start_up)
    assert captured.env["SHELLOPTS"] == "nounset"


def test_shell_state_and_functions_stay_out(script):
    base = {**BASE, "BASH_FUNC_module%%": "() { export MODULE=$1; }", "OMNIRT_RUN_ID": "mine"}
    captured = capture(script("module cann\nown() { :; }\nexport -f own\ncd /usr\n"), base)
    assert captured.env == {**BASE, "MODULE": "cann", "OMNIRT_RUN_ID": "mine"}


def test_printed_text_is_kept_apart(script):
    captured = capture(script("echo to stdout\necho to stderr >&2\nexport A=1\n"))
    assert captured.output == b"to stdout\nto stderr\n"
    assert captured.env["A"] == "1"


def test_ten_megabytes_of_printing_are_bounded(script):
    captured = capture(script("head -c 10000000 /dev/zero | tr '\\0' x\necho the end\nexport A=1\n"))
    assert len(captured.output) < env_script.OUTPUT_BOUND + 100
    assert captured.output.startswith(b"[99")
    assert captured.output.endswith(b"xthe end\n")
    assert captured.env["A"] == "1"


@pytest.mark.parametrize(("text", "status"), [("export A=1\nfalse\n", 1), ("export A=1\nreturn 3\n", 3)])
def test_last_status_is_only_a_warning(script, text, status):
    captured = capture(script(text))
    assert captured.env["A"] == "1"
    (warning,) = captured.warnings
    assert warning.endswith(f"ended with status {status}")


def test_a_script_that_is_valid_under_its_own_options_is_accepted(script):
    captured = capture(script("shopt -s extglob\ncase ab in +(a|b)) export A=1;; esac\n"))
    assert captured.env["A"] == "1"


def test_stdin_is_empty(script):
    captured = capture(script('read line\nexport GOT="<$line>"\n'), timeout_s=5)
    assert captured.env["GOT"] == "<>"


@pytest.mark.parametrize(
    "text", ["exec 3>&- 4>&- 5>&-\nexport A=1\n", "exec >&- 2>&-\nexport A=1\n", "set -eu\nexport A=1\n"]
)
def test_scripts_that_change_the_shell_still_come_back(script, text):
    assert capture(script(text)).env["A"] == "1"


def test_redefined_words_do_not_matter(script):
    captured = capture(script("env() { :; }\nprintf() { :; }\nalias exec=true\nPATH=\nexport A=1\n"))
    assert captured.env["A"] == "1"


@pytest.mark.parametrize(
    "text",
    [
        "export A=1\nexit 0\n",
        "exit 3\n",
        "set -e\nfalse\nexport A=1\n",
        "exec true\n",
        "kill -9 $$\n",
        'for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ $fd -gt 2 ] && eval "exec $fd>&-"; done\n',
    ],
)
def test_a_script_that_leaves_the_shell_fails(script, text):
    with pytest.raises(EnvScriptFailedError, match="left the shell before its end") as caught:
        capture(script("echo before\n" + text))
    assert caught.value.hint
    assert b"before" in caught.value.output


@pytest.mark.parametrize("text", ["if true; then echo hi\n", 'echo "unterminated\n', "foo ( bar\nexport C=2\n"])
def test_a_syntax_error_fails_and_names_the_line(script, text):
    with pytest.raises(EnvScriptFailedError, match=r"has a syntax error: .*line [23]"):
        capture(script("export A=1\n" + text))


def test_a_sleeping_script_is_killed_with_its_children(script, tmp_path):
    pids = tmp_path / "pids"
    began = time.monotonic()
    with pytest.raises(EnvScriptFailedError, match=r"took longer than 0\.5 s"):
        capture(script(f"trap '' TERM\nsleep 60 & echo $$ $! > {pids}\nsleep 60\n"), timeout_s=0.5)
    assert time.monotonic() - began < 5
    assert all_gone(pids)


@pytest.mark.parametrize("start", ["sleep 60 &", "setsid sleep 60 &", "env -i sleep 60 &", "yes &"])
def test_background_processes_are_neither_waited_for_nor_left(script, tmp_path, start):
    """Each holds both descriptors; the one in a session of its own is found by its mark."""
    pid_file = tmp_path / "pid"
    began = time.monotonic()
    captured = capture(script(f"{start}\necho $! > {pid_file}\nexport A=1\n"))
    assert time.monotonic() - began < 5
    assert captured.env["A"] == "1"
    assert all_gone(pid_file)


def test_missing_directory_and_unreadable_scripts_are_told_apart_from_failing_ones(tmp_path):
    for path in (tmp_path / "none.sh", tmp_path):
        with pytest.raises(EnvScriptUnreadableError, match="not there"):
            capture(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_script_without_read_permission_is_unreadable(script):
    path = script("export A=1\n")
    path.chmod(0)
    with pytest.raises(EnvScriptUnreadableError, match="Permission denied"):
        capture(path)


def test_a_machine_without_bash_is_told_so(script, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ProgramMissingError, match="bash"):
        capture(script("export A=1\n"))


def test_leaves_no_descriptor_and_no_child(script):
    path = script("export A=1\n")
    capture(path)
    before, children = open_descriptors(), psutil.Process().children()
    for _ in range(3):
        capture(path)
    assert open_descriptors() == before
    assert psutil.Process().children() == children
