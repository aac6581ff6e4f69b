"""The program's entry: the one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from omnirt_cli import __version__

if TYPE_CHECKING:
    from omnirt_cli.errors import OmniRTError


_LAST_STANDARD_FD = 2


def main() -> NoReturn:
    """Run the command line and exit."""
    _occupy_standard_descriptors()
    argv = sys.argv[1:]
    if argv == ["--version"]:
        # Answered before anything heavy is imported.
        from omnirt_cli.console_plain import write_line

        write_line(f"omnirt {__version__}")
        sys.exit(0)
    _leave(run(argv))


def _occupy_standard_descriptors() -> None:
    """Where a standard stream is closed, put /dev/null: a file of ours under its number would be taken for it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD_FD:
        continue
    os.close(descriptor)


def _leave(status: int) -> NoReturn:
    """End now: taking an interpreter with numpy and pydantic apart costs 30 ms and frees what the kernel frees anyway.

    Everything that matters is closed by then: files, locks and processes belong to `with` blocks. Only a tool that
    nobody waited for may be left, such as a vendor's that hangs.
    """
    tools = sys.modules.get("omnirt_cli.bounded")
    if tools is not None:
        tools.end_all()
    for stream in (sys.stdout, sys.stderr):
        # None where the program was started with the descriptor closed.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def run(argv: list[str]) -> int:
    """Run one command line; returns its exit code.

    Every foreseeable fault becomes a message and its code here; anything else is a bug in OmniRT, code 70.
    """
    from omnirt_cli.app import USAGE_ERROR, build_app
    from omnirt_cli.errors import CancelledRunError, InternalError, OmniRTError, UsageError

    wants_json = "--json" in argv
    try:
        status = build_app(argv)(args=argv or ["--help"], prog_name="omnirt", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except OmniRTError as error:
        return _end(error, argv, wants_json=wants_json)
    except USAGE_ERROR as error:
        usage = UsageError(error.format_message(), hint=_help_hint(argv))
        return _end(usage, argv, wants_json=wants_json)
    except KeyboardInterrupt:
        return _end(CancelledRunError("cancelled"), argv, wants_json=wants_json)
    except Exception as error:  # noqa: BLE001 - the process's edge: a bug must end in one message and one code
        bug = InternalError(f"a bug in OmniRT: {type(error).__name__}: {error}", hint=_keep_traceback())
        return _end(bug, argv, wants_json=wants_json)


def _help_hint(argv: list[str]) -> str:
    command = next((word for word in argv if not word.startswith("-")), "")
    return f"see `omnirt {command} --help`" if command else "see `omnirt --help`"


def _end(error: OmniRTError, argv: list[str], *, wants_json: bool) -> int:
    from omnirt_cli import console
    from omnirt_cli.envelopes import error_envelope

    console.tell_error(error)
    if wants_json:
        console.say_json(error_envelope(error, argv))
    return error.exit_status


def _keep_traceback() -> str:
    """Write the traceback to a file of its own; its path is the hint."""
    import tempfile
    import traceback

    try:
        with tempfile.NamedTemporaryFile("w", prefix="omnirt-bug-", suffix=".log", delete=False) as file:
            file.write(traceback.format_exc())
            return f"the traceback is in {file.name}; please report it"
    except OSError:
        traceback.print_exc()
        return "please report the traceback above"
