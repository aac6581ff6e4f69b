"""`omnirt generate`: one render."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from omnirt_cli import console
from omnirt_cli.cli_options import RequestFlags, takes_request
from omnirt_cli.errors import UsageError
from omnirt_cli.request import Panel

if TYPE_CHECKING:
    from omnirt_cli.report import GenerateResult
    from omnirt_cli.run.events import Listener

_SERVER = "On a server"

HELP = """Render one talking-head video from a portrait and a recording.

Example:

\b
  omnirt generate --model soulx-flashtalk-14b --image portrait.png --audio speech.wav --backend cpu
"""


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    app.command("generate", help=HELP)(takes_request(generate))


def generate(
    flags: RequestFlags,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and run nothing.", rich_help_panel=Panel.RUN.value)
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document: outputs and report.", rich_help_panel="Output")
    ] = False,
    events: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads it at run time on Python 3.10 too
        typer.Option(
            "--events", help="Write events as JSON lines to a file, or - for stdout.", rich_help_panel="Output"
        ),
    ] = None,
    progress: Annotated[
        str, typer.Option("--progress", help="Show progress: auto or never.", rich_help_panel="Output")
    ] = "auto",
    server: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--server",
            help="Render on this `omnirt serve`, e.g. http://render-1:8000. Needs `pip install 'omnirt[client]'`.",
            metavar="URL",
            rich_help_panel=_SERVER,
            show_default=False,
        ),
    ] = None,
    api_key_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--api-key-file",
            help="Its API key; default: the file that OMNIRT_API_KEY_FILE names.",
            rich_help_panel=_SERVER,
            show_default=False,
        ),
    ] = None,
) -> None:
    began = time.monotonic()
    if events == "-" and json:
        raise UsageError("--events - and --json both want stdout", hint="send the events to a file")
    if progress not in ("auto", "never"):
        raise UsageError(f"--progress {progress}: write auto or never")
    if server is not None:
        if dry_run:
            raise UsageError("--dry-run does not go with --server: the plan is made there", hint="leave one out")
        _render_there(flags, server, api_key_file, json=json, events=events, progress=progress)
        return
    if api_key_file is not None:
        raise UsageError("--api-key-file goes with --server", hint="name the server, or leave it out")
    if dry_run:
        from omnirt_cli.commands.plan_view import show_plan

        show_plan(flags, json=json, files=True)
        return
    _render(flags, json=json, events=events, progress=progress, began=began)


def _render(flags: RequestFlags, *, json: bool, events: str | None, progress: str, began: float) -> None:
    from omnirt_cli.inputs import start_looking

    # ffmpeg looks at the inputs while Python imports the rest.
    looks = start_looking(flags.request.inputs, Path.cwd())
    from omnirt_cli import engine
    from omnirt_cli.run.cancel import CancelToken
    from omnirt_cli.signals import cancelling

    token = CancelToken()
    with _listener(events, progress) as listener, cancelling(token):
        result = engine.generate(
            flags.request, on_event=listener, cancel=token, request_file=flags.file, began=began, looks=looks
        )
    _say(result, json=json, events=events)


def _render_there(
    flags: RequestFlags, server: str, api_key_file: Path | None, *, json: bool, events: str | None, progress: str
) -> None:
    from omnirt_cli.client.api_key import find_api_key
    from omnirt_cli.client.client import Client
    from omnirt_cli.run.cancel import CancelToken
    from omnirt_cli.signals import cancelling

    token = CancelToken()
    on_note = None if progress == "never" else console.tell
    with (
        Client(server, find_api_key(api_key_file)) as client,
        _listener(events, progress) as listener,
        cancelling(token),
    ):
        result = client.generate(
            flags.request, on_event=listener, cancel=token, request_file=flags.file, on_note=on_note
        )
    _say(result, json=json, events=events)


def _say(result: GenerateResult, *, json: bool, events: str | None) -> None:
    if json:
        console.say_json(result)
    elif events != "-":
        console.say(result.outputs[0].path)


@contextlib.contextmanager
def _listener(events: str | None, progress: str) -> Iterator[Listener]:
    """The display and the event stream, as one listener."""
    from omnirt_cli.display import choose_display
    from omnirt_cli.event_stream import EventStream
    from omnirt_cli.run.events import BaseEvent

    display = choose_display(progress)
    stream = EventStream.open(events) if events else None

    def listen(event: BaseEvent) -> None:
        display(event)
        if stream is not None:
            stream(event)

    try:
        yield listen
    finally:
        display.close()
        if stream is not None:
            stream.close()
