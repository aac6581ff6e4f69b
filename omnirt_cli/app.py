"""The Typer app. A command's module is imported only when that command is called; the list of commands is a table."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.main

COMMANDS = {
    "generate": "Render one talking-head video from a portrait and a recording.",
    "validate": "Check a request and everything it needs; launch nothing.",
    "doctor": "This machine, its devices and the configured models: can a render work?",
    "models": "The models: inputs, knobs, presets, memory, backends.",
    "presets": "What each preset sets for each model.",
    "runs": "What was run here: list, show, logs, compare, rerun.",
    "serve": "The same renders over HTTP: jobs, progress, videos.",
    "bench": "Cold and hot measurements: compared, and gated by exit code.",
    "worker": "Resident workers: start, list, status, stop, logs.",
    "config": "Every setting with its value and where it came from.",
    "schema": "JSON Schema of a document: request, report, event, plan.",
}
"""Command -> the line in `omnirt --help`. Each lives in `omnirt_cli.commands.<name>` and registers itself on an app."""

USAGE_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
"""What the option parser raises; reached through Typer's own name, for Typer may carry its own Click."""


def build_app(argv: list[str]) -> Callable[..., Any]:
    """The command line, complete only for the command that `argv` calls."""
    app = typer.Typer(
        name="omnirt",
        help="Talking-head videos from external SoulX checkouts: launched, watched, verified, reported.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    called = next((word for word in argv if not word.startswith("-")), None)
    # Shell completion asks for every command's flags, without naming one.
    completing = any(name.startswith("_OMNIRT") and name.endswith("COMPLETE") for name in os.environ)
    for name, help_line in COMMANDS.items():
        if completing or name == called:
            import_module(f"omnirt_cli.commands.{name}").register(app)
        else:
            app.command(name, help=help_line)(_placeholder)
    return typer.main.get_command(app)


def _placeholder() -> None:
    """Stands in the list for a command that was not called."""


def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,  # noqa: FBT002
) -> None:
    if version:
        from omnirt_cli import __version__, console

        console.say(f"omnirt {__version__}")
        raise typer.Exit
