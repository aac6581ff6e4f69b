"""`omnirt validate`: the request and every check before a launch; nothing is started."""

from __future__ import annotations

from typing import Annotated

import typer

from omnirt_cli.cli_options import RequestFlags, takes_request

HELP = """Check a request and everything it needs; launch nothing.

Example:

\b
  omnirt validate --model soulx-flashtalk-14b --image portrait.png --audio speech.wav --backend cpu
"""


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    app.command("validate", help=HELP)(takes_request(validate))


def validate(
    flags: RequestFlags,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel="Output")] = False,
) -> None:
    from omnirt_cli.commands.plan_view import show_plan

    show_plan(flags, json=json, files=False)
