"""Starting the daemon: in a session of its own, with nothing of its client's but the environment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import omnirt_cli
from launchers.proctable import RUN_MARK
from omnirt_cli.errors import ConfigInvalidError, InternalError, IOFailureError, OmniRTError, OutputUncreatableError
from omnirt_cli.resident.place import TAKEN, VARIABLE, RuntimePlace

_SAID_AT_MOST = 2000
_FORESEEN: dict[int, type[OmniRTError]] = {
    int(kind.exit_code): kind for kind in (OutputUncreatableError, IOFailureError, ConfigInvalidError)
}


def start_daemon(place: RuntimePlace, environ: Mapping[str, str], deadline: float) -> bool:
    """Start the daemon; it listens when this returns.

    Args:
        place: Its runtime directory.
        environ: What its environment is made of.
        deadline: On the monotonic clock; it must be there by then.

    Returns:
        False where another process is the daemon.

    Raises:
        ConfigInvalidError, OutputUncreatableError: The directory cannot serve.
        InternalError: It could not be started.
    """
    place.make()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "omnirt_cli.resident.daemon", str(place.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(environ),
            cwd="/",
            start_new_session=True,
            timeout=max(1.0, deadline - time.monotonic()),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InternalError(
            f"the resident daemon cannot be started: {error}", hint=f"its log is {place.log}"
        ) from error
    if done.returncode not in (0, TAKEN):
        said = done.stderr.decode(errors="replace").strip()[-_SAID_AT_MOST:] or f"exit code {done.returncode}"
        kind = _FORESEEN.get(done.returncode)
        if kind is not None:
            reason = said.splitlines()[0].removeprefix("error: ")
            raise kind(
                f"the resident daemon cannot use {place.path}: {reason}",
                hint=f"set {VARIABLE} to a directory of your own with some room",
            )
        raise InternalError(f"the resident daemon cannot be started: {said}", hint=f"its log is {place.log}")
    return done.returncode == 0


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The client's, without its run's mark, by which the daemon would be ended with that run."""
    env = {name: value for name, value in environ.items() if name != RUN_MARK}
    here = str(Path(omnirt_cli.__file__).resolve().parents[1])
    others = (str(Path(part).absolute()) for part in env.get("PYTHONPATH", "").split(os.pathsep) if part)
    return {**env, "PYTHONPATH": os.pathsep.join((here, *others))}
