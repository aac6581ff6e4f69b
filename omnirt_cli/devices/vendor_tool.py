"""Asking a vendor's command-line tool: where it is, one bounded call, and its own words where it fails.

A tool that is missing says nothing about the devices; one that hangs or fails says that they are not known.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

from omnirt_cli.bounded import Outcome, run

ANSWER_LIMIT = 1024 * 1024
"""Bytes. The table of sixteen devices has under 10 kB."""

_WORDS_LIMIT = 240


class VendorToolError(Exception):
    """The vendor's tool or library does not tell; the message is one sentence with its own words."""


class VendorToolMissingError(VendorToolError):
    """There is no such tool or library here."""


class VendorToolHangsError(VendorToolError):
    """The vendor's tool did not answer in time."""


def find(name: str, environ: Mapping[str, str], places: Sequence[str] = ()) -> str:
    """Where a tool is: on PATH, else in one of its usual places.

    Raises:
        VendorToolMissingError: It is nowhere.
    """
    path = os.pathsep.join((environ.get("PATH", os.defpath), *places))
    found = shutil.which(name, path=path)
    if found is None:
        where = " nor in ".join(("on PATH", *places))
        raise VendorToolMissingError(f"{name} is not {where}")
    return found


def ask(tool: str, *args: str, environ: Mapping[str, str], timeout_s: float) -> Outcome:
    """Call a tool in the C locale; how it ended is the caller's to judge.

    Raises:
        VendorToolHangsError: It does not end in time.
        VendorToolError: It cannot be started, or writes without end.
    """
    try:
        outcome = run([tool, *args], env={**environ, "LC_ALL": "C"}, timeout_s=timeout_s, limit=ANSWER_LIMIT)
    except OSError as error:
        raise VendorToolError(f"{tool} cannot be started: {error.strerror}") from error
    if outcome.timed_out:
        raise VendorToolHangsError(f"{_call(tool, args)} did not answer within {timeout_s:g} s")
    if outcome.overflowed:
        raise VendorToolError(f"{_call(tool, args)} wrote more than {ANSWER_LIMIT // 1024} KiB")
    return outcome


def failure(tool: str, args: Sequence[str], outcome: Outcome) -> VendorToolError:
    """The error for an answer that tells nothing."""
    return VendorToolError(f"{_call(tool, args)} failed with exit status {outcome.returncode}: {words(outcome)}")


def words(outcome: Outcome) -> str:
    """What a tool said outside of tables, its last two lines."""
    lines = (text(outcome) + "\n" + outcome.stderr).splitlines()
    said = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("|", "+"))]
    return "; ".join(said[-2:])[:_WORDS_LIMIT] or "it said nothing"


def text(outcome: Outcome) -> str:
    """The answer as text."""
    return outcome.stdout.decode("utf-8", "replace")


def _call(tool: str, args: Sequence[str]) -> str:
    """The call as a person would write it, without the folder and the long query."""
    return " ".join((os.path.basename(tool), *(arg.partition("=")[0] for arg in args)))  # noqa: PTH119
