"""The command line that turns a script into one or several processes.

Only spelling lives here: nothing is started, no environment is read.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from launchers.errors import ProgramMissingError

LOOPBACK = "127.0.0.1"
ACCELERATE_CONFIG = Path(__file__).with_name("accelerate.yaml")


class Launcher(str, Enum):
    """What starts the script's processes."""

    PYTHON = "python"
    TORCHRUN = "torchrun"
    ACCELERATE = "accelerate"


def build_argv(
    launcher: Launcher,
    *,
    python: Path,
    script: Path,
    args: Sequence[str],
    processes: int,
    accelerate: Path | None = None,
    port: int | None = None,
) -> tuple[str, ...]:
    """The whole command line, ready for `execve`.

    Args:
        launcher: What starts the script.
        python: The model's interpreter (unused by accelerate, which runs under its own).
        script: Absolute path of the script.
        args: The script's arguments; they may begin with `-` and hold any character but NUL. The first one
            may not be a bare `--`, which the launchers' own parsers take for themselves.
        processes: How many processes the launcher makes.
        accelerate: The `accelerate` executable; needed for that launcher.
        port: The free port for accelerate's ranks to meet; needed for several processes under that launcher.

    Raises:
        ValueError: The parts do not fit together.
    """
    if processes < 1:
        raise ValueError(f"a launch needs at least one process, not {processes}")
    called = (str(script), *args)
    if launcher is Launcher.PYTHON:
        return (*_single(python, processes), *called)
    if launcher is Launcher.TORCHRUN:
        return (*_torchrun(python, processes), *called)
    return (*_accelerate(accelerate, processes, port), *called)


def _single(python: Path, processes: int) -> tuple[str, ...]:
    if processes != 1:
        raise ValueError(f"plain python runs one process, not {processes}")
    return (str(python),)


def _torchrun(python: Path, processes: int) -> tuple[str, ...]:
    """Torchrun's flags, all of them as old as torch 2.7 and as new as 2.13.

    Without `--local-addr` the ranks look for rank 0 under the host's own name, and wait for minutes where
    that name does not resolve, as in many containers.
    """
    return (
        str(python),
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--local-addr",
        LOOPBACK,
        f"--nproc_per_node={processes}",
    )


def _accelerate(accelerate: Path | None, processes: int, port: int | None) -> tuple[str, ...]:
    """Accelerate's flags, checked with 1.15.

    `--multi_gpu` is accelerate's word for "start ranks through torch.distributed", whatever they compute on:
    it is right for NPUs and for CPU ranks too. Accelerate refuses it for one process.
    """
    if accelerate is None:
        raise ValueError("the accelerate launcher needs the accelerate executable")
    flags = (f"--config_file={ACCELERATE_CONFIG}", f"--num_processes={processes}", "--num_machines=1")
    if processes == 1:
        return (str(accelerate), "launch", *flags)
    if port is None:
        raise ValueError("accelerate needs a port for several processes")
    return (str(accelerate), "launch", *flags, "--multi_gpu", f"--main_process_port={port}")


def free_port() -> int:
    """A TCP port on the loopback address that nobody held a moment ago.

    It is not reserved: who loses the race to it gets a named port clash from the launcher.
    """
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def require_program(path: Path, what: str) -> None:
    """See that a program can be started.

    Args:
        path: The program.
        what: How a message calls it, e.g. "the model's Python".

    Raises:
        ProgramMissingError: It is not there, is no file, or may not be executed.
    """
    if not path.is_file():
        raise ProgramMissingError(f"{what} is not there: {path}", hint="Name an existing executable.")
    if not os.access(path, os.X_OK):
        raise ProgramMissingError(f"{what} may not be executed: {path}", hint=f"chmod +x {path}, or name another.")
