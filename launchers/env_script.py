"""Source an environment script (`set_env.sh`) in bash, and bring back the environment that it leaves.

The script runs as if sourced in a fresh shell: no login shell, no `set -u`, no positional parameters, stdin from
`/dev/null`. The environment comes back on a descriptor of its own, each entry ended by NUL, the last an end mark;
what the script prints is kept apart for the log. Paths travel as arguments, never as shell text.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launchers import sweep
from launchers.errors import EnvScriptFailedError, EnvScriptUnreadableError, ProgramMissingError
from launchers.proctable import RUN_MARK

TIMEOUT_S = 60.0
OUTPUT_BOUND = 64 * 1024

# `source` gets no arguments, so that the script sees the shell's own, of which `shift` leaves none. What is
# needed afterwards is one command, named by a path, because the script may redefine any word.
_SHELL_TEXT = """
__omnirt_script=$1 __omnirt_env=$2 __omnirt_fd=$3
shift 3
source -- "$__omnirt_script"
exec "$__omnirt_env" -0 "OMNIRT_ENV_SCRIPT_END=$?" >&"$__omnirt_fd"
"""
_END_MARK = b"OMNIRT_ENV_SCRIPT_END="

_SHELL_STATE = frozenset({"PWD", "OLDPWD", "SHLVL", "_"})
_SHELL_BEHAVIOUR = frozenset({"BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "POSIXLY_CORRECT"})
"""Variables by which a caller's environment would change what bash does; they pass around it unchanged."""

_TICK_S = 0.05
_LAST_TICK_S = 0.002
_READ_SIZE = 1 << 16
_PIPE_BOUND = 1 << 20
"""What a pipe can hold at most (`/proc/sys/fs/pipe-max-size`)."""


@dataclass(frozen=True)
class CapturedEnv:
    """What an environment script left.

    Attributes:
        env: The whole environment after it, without the shell's own state and exported functions.
        warnings: What a person should know though it stops nothing.
        output: The end of what it printed, at most `OUTPUT_BOUND` bytes.
    """

    env: Mapping[str, str]
    warnings: tuple[str, ...]
    output: bytes


def capture_env_script(path: Path, base: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> CapturedEnv:
    """Source the script over the base environment.

    Every process that it leaves behind is killed, daemons too, so that none holds a device or a descriptor.

    Args:
        path: The script.
        base: The environment that it starts from.
        timeout_s: How long it may take.

    Raises:
        EnvScriptUnreadableError: It is not there, is no file, or may not be read.
        EnvScriptFailedError: It has a syntax error, leaves the shell, or takes too long.
        ProgramMissingError: There is no bash or no `env`.
    """
    script = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    _require_readable(script)
    run = _Run(script, base)
    try:
        in_time = run.follow(time.monotonic() + timeout_s)
    finally:
        run.end()
    if not in_time:
        raise _failed(script, f"took longer than {timeout_s:g} s", run, hint=_SLOW_HINT)
    entries = run.environment.split(b"\0")
    if len(entries) < 2 or entries[-1] or not entries[-2].startswith(_END_MARK):
        raise _failed(script, "left the shell before its end", run, hint=_LEFT_HINT)
    status = int(entries[-2][len(_END_MARK) :])
    if status and (complaint := _syntax_error(script, base)):
        raise _failed(script, f"has a syntax error: {complaint}", run)
    warnings = (f"the env script {script} ended with status {status}",) if status else ()
    return CapturedEnv(env=_environment(entries[:-2], base), warnings=warnings, output=run.printed())


_SLOW_HINT = "Source it in a shell to see what it waits for; it must need no input."
_LEFT_HINT = "It must not call `exit` or `exec`, fail under `set -e`, or close descriptors that it did not open."


class _Run:
    """One bash with the script in it, from start to end."""

    def __init__(self, script: Path, base: Mapping[str, str]) -> None:
        self._run_id = f"env-script-{uuid.uuid4()}"
        self.environment = bytearray()
        self._printed = bytearray()
        self._left_out = 0
        self._environment_fd, environment_write = os.pipe()
        self._output_fd, output_write = os.pipe()
        try:
            self._bash = subprocess.Popen(
                [
                    *(_program("bash"), "--noprofile", "--norc", "-c", _SHELL_TEXT, "bash"),
                    *(str(script), _program("env"), str(environment_write)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                env={**_without_shell_behaviour(base), RUN_MARK: self._run_id},
                pass_fds=(environment_write,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._environment_fd)
            os.close(self._output_fd)
            raise
        finally:
            os.close(environment_write)
            os.close(output_write)

    def follow(self, deadline: float) -> bool:
        """Collect what comes until bash has ended; processes left in the background are not waited for.

        Returns:
            Whether it ended in time.
        """
        with selectors.DefaultSelector() as selector:
            for descriptor in (self._environment_fd, self._output_fd):
                os.set_blocking(descriptor, False)
                selector.register(descriptor, selectors.EVENT_READ)
            while time.monotonic() < deadline:
                if self._has_ended():
                    self._drain()
                    return True
                # With both pipes at their end bash is about to end, and nothing else will wake this loop.
                for key, _ in selector.select(_TICK_S if selector.get_map() else _LAST_TICK_S):
                    if not self._read(key.fd):
                        selector.unregister(key.fileobj)
        return False

    def end(self) -> None:
        """Kill whatever the script left, collect bash, and let go of the descriptors."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)  # the number is still its own: it is not collected yet
        sweep.kill_marked(self._run_id)
        self._bash.wait()
        os.close(self._environment_fd)
        os.close(self._output_fd)

    def printed(self) -> bytes:
        """The end of what the script printed, led by a line that says how much is missing."""
        if not self._left_out:
            return bytes(self._printed)
        return b"[%d bytes left out]\n" % self._left_out + bytes(self._printed)

    def _has_ended(self) -> bool:
        """Whether bash has ended, without collecting it, so that its group's number stays taken."""
        try:
            return os.waitid(os.P_PID, self._bash.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # the caller ignores SIGCHLD
            return True

    def _drain(self) -> None:
        """Take what bash wrote before its end; a process it left may go on writing, hence the bound."""
        for descriptor in (self._environment_fd, self._output_fd):
            with contextlib.suppress(BlockingIOError):
                for _ in range(_PIPE_BOUND // _READ_SIZE):
                    if not self._read(descriptor):
                        break

    def _read(self, descriptor: int) -> bool:
        """Take one piece; False at the pipe's end."""
        data = os.read(descriptor, _READ_SIZE)
        if descriptor == self._environment_fd:
            self.environment += data
        else:
            self._printed += data
            excess = max(0, len(self._printed) - OUTPUT_BOUND)
            del self._printed[:excess]
            self._left_out += excess
        return bool(data)


def _require_readable(script: Path) -> None:
    try:
        if not script.is_file():
            raise EnvScriptUnreadableError(f"the env script is not there, or is no file: {script}")
        with script.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise EnvScriptUnreadableError(f"the env script cannot be read: {script}: {error.strerror}") from error


def _program(name: str) -> str:
    """A program's path, found by OmniRT's own `PATH` before the script changes it."""
    found = shutil.which(name)
    if found is None:
        raise ProgramMissingError(f"{name} is not there; it is needed to source an env script", hint=f"Install {name}.")
    return os.path.abspath(found)  # noqa: PTH100 - PATH entries may be relative


def _without_shell_behaviour(base: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in base.items() if name not in _SHELL_BEHAVIOUR}


def _environment(entries: list[bytearray], base: Mapping[str, str]) -> dict[str, str]:
    """The captured entries as a child may have them."""
    pairs = (os.fsdecode(bytes(entry)).partition("=") for entry in entries)
    env = {name: value for name, _, value in pairs if _belongs_to_a_child(name)}
    passed_around = {name: base[name] for name in (*_SHELL_BEHAVIOUR, RUN_MARK) if name in base}
    return {**passed_around, **env}


def _belongs_to_a_child(name: str) -> bool:
    return name not in _SHELL_STATE and name != RUN_MARK and not name.startswith("BASH_FUNC_")


def _syntax_error(script: Path, base: Mapping[str, str]) -> str | None:
    """What bash has against the script's syntax, without running it; None if nothing.

    Asked only of a script that did not end well: a script may be valid only under options that it sets itself.
    """
    checked = subprocess.run(
        [_program("bash"), "--noprofile", "--norc", "-O", "extglob", "-n", "--", str(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_without_shell_behaviour(base),
        check=False,
    )
    if not checked.returncode:
        return None
    return next(iter(checked.stderr.decode(errors="replace").splitlines()), "bash does not say which")


def _failed(script: Path, what: str, run: _Run, *, hint: str | None = None) -> EnvScriptFailedError:
    return EnvScriptFailedError(f"the env script {script} {what}", hint=hint, output=run.printed())
