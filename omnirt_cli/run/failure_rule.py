"""What a rule about a known message is, and the hints that several rules give.

The rules themselves are data in `failure_rules.py` and beside it. Nothing here reads a log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from omnirt_cli.errors import ModelFailedError, OmniRTError


class Standing(IntEnum):
    """How much a message explains."""

    CAUSE = 0
    GENERIC = 1
    """An exception nobody knows."""
    FOLLOW_UP = 2
    """What a rank says when another one is gone."""


@dataclass(frozen=True)
class FailureRule:
    """One known message.

    Attributes:
        needle: A literal that every such line contains.
        pattern: Searched in the line. Its named groups fill the message; `device` is an index inside the run.
        message: A format string over the groups; `{line}` is the line itself, `{where}` the real device.
    """

    name: str
    needle: str
    pattern: re.Pattern[str]
    error: type[OmniRTError]
    message: str
    hint: str
    standing: Standing = Standing.CAUSE


def rule(
    name: str,
    needle: str,
    pattern: str,
    message: str,
    hint: str,
    *,
    error: type[OmniRTError] = ModelFailedError,
    standing: Standing = Standing.CAUSE,
) -> FailureRule:
    """A rule, as the tables write it."""
    return FailureRule(name, needle, re.compile(pattern), error, message, hint, standing)


CHECKOUT_HINT = (
    "Read the end of the log for the script's own words; `omnirt validate` with the same flags checks what can be "
    "checked beforehand."
)

KILLED_HINT = (
    "Nothing in the output explains it, so something outside killed it: most often the kernel's "
    "out-of-memory killer. `dmesg | grep -i 'killed process'` tells, and in a container `oom_kill` in "
    "/sys/fs/cgroup/memory.events. /proc/meminfo's MemAvailable and the container's own limit say how "
    "much memory a new run has."
)

FALLBACK_HINT = "Correct what the line names, or leave out what it gave up."
QUANTIZING_HINT = (
    "Install what quantizing needs in the model's Python (bitsandbytes, optimum-quanto), or run without it."
)

SHM_HINT = "Shared memory ran out, most often a container's /dev/shm: give it more (docker `--shm-size=16g`)."

SIGNAL_HINTS = {
    "SIGKILL": KILLED_HINT,
    "SIGSEGV": (
        "A native library crashed: torch, torch_npu, the driver or a compiled extension do not fit together. "
        "Run with `--env PYTHONFAULTHANDLER=1` to see the Python line."
    ),
    "SIGBUS": SHM_HINT,
    "SIGABRT": "A native library gave up; its last words stand in the log above the launcher's summary.",
    "SIGILL": "A library was built for another processor: reinstall it in the model's environment.",
    "SIGTERM": "Somebody asked it to stop: a batch system's limit, an operator, a container being shut down.",
}

ENV_SCRIPT_HINT = (
    "Give CANN's environment with `--env-script /usr/local/Ascend/ascend-toolkit/set_env.sh`; the NPU "
    "driver's libraries must be visible too (in a container, mount /usr/local/Ascend/driver)."
)
VISIBLE_HINT = (
    "Compare `--visible-devices` and `--nproc-per-node` with what `npu-smi info` or `nvidia-smi` lists; in a "
    "container, see that the devices are passed into it."
)
