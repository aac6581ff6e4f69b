"""`omnirt runs`: what was run here, looked at, compared and repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from omnirt_cli import console
from omnirt_cli.report import RunReport, RunStatus

if TYPE_CHECKING:
    from omnirt_cli.picture.place import PagePlace
    from omnirt_cli.runs.compare import Comparison
    from omnirt_cli.runs.entry import RunEntry
    from omnirt_cli.runs.history import History
    from omnirt_cli.runs.rerun import Repeat

HELP = """What was run here: list, show, logs, compare, rerun. Every one of them takes --json.

Example:

\b
  omnirt runs list --limit 5
"""

LIST_HELP = """The runs of this machine, newest first.

Example:

\b
  omnirt runs list --status failed --since 7d
"""

SHOW_HELP = """One run: what, when, how it ended, where the time went.

Example:

\b
  omnirt runs show last
  omnirt runs show last --html talk.html
"""

LOGS_HELP = """A run's log: what the script printed.

Example:

\b
  omnirt runs logs last --tail 40
"""

COMPARE_HELP = """Two runs side by side: phases and chunks with ratios, and what they did differently.

Example:

\b
  omnirt runs compare 3f2a last
  omnirt runs compare 3f2a last --html .
"""

RERUN_HELP = """Repeat a run from its report, after looking whether its inputs and its checkout are as they were.

Example:

\b
  omnirt runs rerun last --dry-run
"""

REBUILD_HELP = """Make the index of runs anew from their reports.

Example:

\b
  omnirt runs rebuild
"""

_ID = typer.Argument(help="A run's id, the beginning of one, or `last`.", metavar="ID", show_default=False)
_JSON = typer.Option("--json", help="Print one JSON document.")
_HTML = typer.Option(
    "--html",
    metavar="FILE",
    help="Write it as one HTML page and print that path; a directory gets a name of its own, - is stdout.",
)

RunId = Annotated[str, _ID]
Json = Annotated[bool, _JSON]
Html = Annotated[Optional[str], _HTML]  # noqa: UP045 - Typer reads it at run time on Python 3.10 too


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    group = typer.Typer(help=HELP, rich_markup_mode=None, no_args_is_help=True)
    group.callback()(lambda: None)
    group.command("list", help=LIST_HELP)(list_runs)
    group.command("show", help=SHOW_HELP)(show)
    group.command("logs", help=LOGS_HELP)(logs)
    group.command("compare", help=COMPARE_HELP)(compare)
    group.command("rerun", help=RERUN_HELP)(rerun)
    group.command("rebuild", help=REBUILD_HELP)(rebuild)
    app.add_typer(group, name="runs")


def list_runs(
    status: Annotated[Optional[RunStatus], typer.Option("--status", help="Only with this status.")] = None,  # noqa: UP045
    model: Annotated[Optional[str], typer.Option("--model", "-m", help="Only of this model.")] = None,  # noqa: UP045
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    since: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads it at run time on Python 3.10 too
        typer.Option("--since", help="Started since then: 2026-11-20, 2026-11-20T14:30, 7d, 12h or 30m."),
    ] = None,
    json: Json = False,
) -> None:
    from omnirt_cli.commands.runs_view import run_table
    from omnirt_cli.models import registry
    from omnirt_cli.runs.since import since_moment

    model_id = registry.adapter(model).info.id if model else None
    history = _history()
    entries = history.entries(status=status, model=model_id, since=since_moment(since) if since else None, limit=limit)
    if json:
        console.say_json({"runs": [entry.model_dump(mode="json") for entry in entries]})
    else:
        for line in run_table(entries):
            console.say(line)
    _tell_warnings(history)


def show(run_id: RunId, html: Html = None, json: Json = False) -> None:
    from omnirt_cli.commands.runs_view import run_summary

    _refuse_two_forms(html, json=json)
    history, entry = _find(run_id)
    report = history.report(entry)
    if html is not None:
        _write_run(entry, report, html)
    elif json:
        console.say_json({"run": entry.model_dump(mode="json"), "report": report.model_dump(mode="json")})
    else:
        for line in run_summary(entry, report):
            console.say(line)
    _tell_warnings(history)


def logs(
    run_id: RunId,
    tail: Annotated[Optional[int], typer.Option("--tail", "-n", min=1, help="Only the last lines.")] = None,  # noqa: UP045
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while the run lives.")] = False,
    json: Json = False,
) -> None:
    from omnirt_cli.errors import UsageError
    from omnirt_cli.runs.log_lines import LogReader

    if follow and json:
        raise UsageError("--follow does not end with one document", hint="leave out --follow or --json")
    history, entry = _find(run_id)
    path = history.log(entry)
    with LogReader(path) as reader:
        lines = reader.last(tail) if tail else reader.rest()
        if json:
            console.say_json({"run_id": entry.run_id, "path": str(path), "lines": list(lines)})
            return
        for line in lines:
            console.say(line)
        if follow:
            for line in reader.follow(lambda: history.is_running(entry)):
                console.say(line)
    _tell_warnings(history)


def compare(
    first: Annotated[str, typer.Argument(help="A run.", metavar="A", show_default=False)],
    second: Annotated[str, typer.Argument(help="Another run.", metavar="B", show_default=False)],
    html: Html = None,
    json: Json = False,
) -> None:
    from omnirt_cli.commands.runs_view import comparison_text
    from omnirt_cli.runs.compare import compare as put_side_by_side

    _refuse_two_forms(html, json=json)
    history, a = _find(first)
    b = history.find(second)
    reports = history.report(a), history.report(b)
    found = put_side_by_side(a, b, reports)
    if html is not None:
        _write_comparison(found, reports, html)
    elif json:
        console.say_json(found)
    else:
        for line in comparison_text(found):
            console.say(line)
    _tell_warnings(history)


def rerun(
    run_id: RunId,
    output: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads it at run time on Python 3.10 too
        typer.Option("--output", help="The new video (.mp4) or its directory; default: beside the old one."),
    ] = None,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on although inputs or the checkout changed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and run nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document, as `generate` does.")] = False,
) -> None:
    from omnirt_cli.errors import most_telling
    from omnirt_cli.runs.rerun import changes, repeat_of, unknown_before

    history, entry = _find(run_id)
    report = history.report(entry)
    repeat = repeat_of(report, output=output)
    changed = changes(report)
    error = most_telling(changed)
    if error is not None and not accept_changes:
        raise error
    for warning in (*repeat.warnings, *(one.message for one in changed), *unknown_before(report), *history.warnings):
        console.tell(f"warning: {warning}")
    if dry_run:
        _show_plan(repeat, json=json)
    else:
        _render(repeat, json=json)


def _show_plan(repeat: Repeat, *, json: bool) -> None:
    from omnirt_cli.cli_options import RequestFlags
    from omnirt_cli.commands.plan_view import show_plan

    show_plan(RequestFlags(repeat.request, None), json=json, files=True, surroundings=repeat.surroundings)


def _render(repeat: Repeat, *, json: bool) -> None:
    from omnirt_cli import engine
    from omnirt_cli.display import choose_display
    from omnirt_cli.run.cancel import CancelToken
    from omnirt_cli.signals import cancelling

    token, display = CancelToken(), choose_display("auto")
    try:
        with cancelling(token):
            result = engine.generate(repeat.request, on_event=display, cancel=token, surroundings=repeat.surroundings)
    finally:
        display.close()
    if json:
        console.say_json(result)
    else:
        console.say(result.outputs[0].path)


def rebuild(json: Json = False) -> None:
    import sqlite3

    from omnirt_cli.errors import BusyError
    from omnirt_cli.files import storage_error

    try:
        count = _history().rebuild()
    except (BlockingIOError, sqlite3.Error) as error:
        raise BusyError(f"the index of runs cannot be replaced: {error}", hint="try again") from error
    except OSError as error:
        raise storage_error(error, "the index of runs cannot be written") from error
    if json:
        console.say_json({"runs": count})
    else:
        console.say(f"{count} run{'' if count == 1 else 's'}")


def _refuse_two_forms(html: str | None, *, json: bool) -> None:
    from omnirt_cli.errors import UsageError

    if html is not None and json:
        raise UsageError("--html and --json are two forms of one answer", hint="leave out one of them")


def _write_run(entry: RunEntry, report: RunReport, wanted: str) -> None:
    from omnirt_cli.picture.document import run_document
    from omnirt_cli.picture.place import PagePlace, run_page_name
    from omnirt_cli.picture.run_view import run_view
    from omnirt_cli.picture.video import video_beside

    place = PagePlace.of(wanted, run_page_name(entry))
    _deliver(place, run_document(run_view(report, video_beside(report, place.folder))))


def _write_comparison(found: Comparison, reports: tuple[RunReport, RunReport], wanted: str) -> None:
    from omnirt_cli.picture.comparison_view import comparison_view
    from omnirt_cli.picture.document import comparison_document
    from omnirt_cli.picture.place import PagePlace, comparison_page_name
    from omnirt_cli.picture.video import video_beside

    place = PagePlace.of(wanted, comparison_page_name(found.a, found.b))
    first, second = reports
    videos = video_beside(first, place.folder), video_beside(second, place.folder)
    _deliver(place, comparison_document(comparison_view(found, reports, videos)))


def _deliver(place: PagePlace, document: str) -> None:
    """The page itself to stdout where it was asked for there, else to its file, and that file's path to stdout."""
    console.say(document if place.path is None else str(place.write(document)))


def _history() -> History:
    from omnirt_cli.runs.history import History

    return History.current()


def _find(run_id: str) -> tuple[History, RunEntry]:
    history = _history()
    return history, history.find(run_id)


def _tell_warnings(history: History) -> None:
    for warning in history.warnings:
        console.tell(f"warning: {warning}")
