"""`omnirt worker`: the resident workers, which keep models loaded between renders, and the daemon that owns them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from omnirt_cli import console
from omnirt_cli.cli_options import RequestFlags, takes_request
from omnirt_cli.request import Config, Panel, option_facts

if TYPE_CHECKING:
    from pathlib import Path

    from omnirt_cli.resident.client import Connection
    from omnirt_cli.resident.spec import WorkerInfo

HELP = """Resident workers: models that stay loaded between renders. Every subcommand takes --json.

Example:

\b
  omnirt worker list
"""

START_HELP = """Load a model now, so that the first `omnirt generate --resident` finds it loaded.

The flags are those of `omnirt generate` that say which model, where and how; a render with the same flags uses this
worker.

Example:

\b
  omnirt worker start --model soulx-flashtalk-14b --backend cpu
"""

LIST_HELP = """The workers of this user's daemon; none where there is no daemon.

Example:

\b
  omnirt worker list
"""

STATUS_HELP = """The daemon and its workers, or one worker, in full.

Example:

\b
  omnirt worker status
"""

STOP_HELP = """Stop workers; what they are rendering fails. With --all the daemon ends, too.

Example:

\b
  omnirt worker stop --all
"""

LOGS_HELP = """A worker's log: what the model's processes printed. It stays for a while when the worker is gone.

Example:

\b
  omnirt worker logs 3f2a90c1 --tail 40
"""

STOP_BOUND_S = 60.0
"""How long a stop is waited for; the force behind it needs twice the worker's grace and a few seconds."""

_PANELS_OF_A_RENDER = frozenset({Panel.OUTPUT.value, Panel.LIVEACT.value})
_FLAGS_OF_A_RENDER = frozenset(
    {"task", "image", "audio", "prompt", "resident", "executor", "seed", "audio_encode_mode", "max_chunks"}
    | {"timeout", "stall_timeout", "verify", "allow_black", "allow_frozen", "keep_runs_days", "read_ahead"}
)
"""What only a render has, or may choose anew each time."""

_ID = typer.Argument(help="A worker's id, or the beginning of one.", metavar="ID", show_default=False)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    group = typer.Typer(help=HELP, rich_markup_mode=None, no_args_is_help=True)
    group.callback()(lambda: None)
    group.command("start", help=START_HELP)(takes_request(start, without=_without()))
    group.command("list", help=LIST_HELP)(list_workers)
    group.command("status", help=STATUS_HELP)(status)
    group.command("stop", help=STOP_HELP)(stop)
    group.command("logs", help=LOGS_HELP)(logs)
    app.add_typer(group, name="worker")


def _without() -> frozenset[str]:
    """The flags of `generate` that a worker's start does not have."""
    panels = {name: option_facts(field)["panel"] for name, field in Config.model_fields.items()}
    return _FLAGS_OF_A_RENDER | {name for name, panel in panels.items() if panel in _PANELS_OF_A_RENDER}


def start(
    flags: RequestFlags,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Do not wait until the model is loaded.", rich_help_panel=Panel.RUN.value),
    ] = False,
    json: Json = False,
) -> None:
    from omnirt_cli import engine
    from omnirt_cli.resident.client import Connection
    from omnirt_cli.run.cancel import CancelToken
    from omnirt_cli.signals import cancelling

    token = CancelToken()
    with cancelling(token):
        worker = engine.start_worker(flags.request, cancel=token, request_file=flags.file)
    if not detach:
        console.tell(f"worker {worker.id} ({worker.title}) is {worker.state.value}; its log is {worker.log}")
        with Connection.open(os.environ, start=False) as connection:
            worker = connection.wait_until_loaded(worker.id)
    if json:
        console.say_json({"worker": worker.to_document()})
    else:
        console.say(worker.id)


def list_workers(json: Json = False) -> None:
    from omnirt_cli.commands.worker_view import worker_table

    with _Daemon() as daemon:
        workers = daemon.workers()
        if json:
            console.say_json(daemon.document(workers))
            return
        for line in worker_table(workers):
            console.say(line)


def status(
    worker_id: Annotated[Optional[str], _ID] = None,  # noqa: UP045 - Typer reads it at run time on Python 3.10 too
    json: Json = False,
) -> None:
    from omnirt_cli.commands.worker_view import daemon_summary, worker_summary

    with _Daemon() as daemon:
        workers = daemon.workers()
        if worker_id is not None:
            worker = _find(worker_id, workers)
            if json:
                console.say_json({"worker": worker.to_document()})
                return
            workers = (worker,)
        elif json:
            console.say_json(daemon.document(workers))
            return
        else:
            for line in daemon_summary(daemon.info):
                console.say(line)
        for worker in workers:
            for line in worker_summary(worker):
                console.say(line)


def stop(
    worker_ids: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads it at run time on Python 3.10 too
        typer.Argument(help="Workers' ids, or the beginnings of them.", metavar="ID...", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every worker, and the daemon.")] = False,
    json: Json = False,
) -> None:
    from omnirt_cli.errors import UsageError

    if everything == bool(worker_ids):
        raise UsageError("name workers, or say --all", hint="`omnirt worker list` shows the workers")
    with _Daemon(any_version=everything) as daemon:
        stopped = daemon.shut_down() if everything else daemon.stop(worker_ids or [])
        ended = everything and daemon.connection is not None
    if json:
        console.say_json({"stopped": stopped, "daemon_ended": ended})
        return
    for worker_id in stopped:
        console.say(worker_id)
    if ended:
        console.tell("the daemon has ended")


def logs(
    worker_id: Annotated[str, _ID],
    tail: Annotated[Optional[int], typer.Option("--tail", "-n", min=1, help="Only the last lines.")] = None,  # noqa: UP045
    json: Json = False,
) -> None:
    from omnirt_cli.runs.log_lines import LogReader

    path = _find_log(worker_id)
    with LogReader(path) as reader:
        lines = reader.last(tail) if tail else reader.rest()
        if json:
            console.say_json({"worker_id": path.stem, "path": str(path), "lines": list(lines)})
            return
        for line in lines:
            console.say(line)


class _Daemon:
    """This user's daemon, if there is one: that there is none is no error, and means that there are no workers.

    Attributes:
        connection: None where there is none.
    """

    def __init__(self, *, any_version: bool = False) -> None:
        from omnirt_cli.resident.client import Connection

        self.connection: Connection | None = Connection.running(os.environ, any_version=any_version)
        self.info = self.connection.daemon if self.connection else None

    def workers(self) -> tuple[WorkerInfo, ...]:
        return self.connection.workers(memory=True) if self.connection else ()

    def document(self, workers: tuple[WorkerInfo, ...]) -> dict[str, object]:
        return {
            "daemon": self.info.to_document() if self.info else None,
            "workers": [worker.to_document() for worker in workers],
        }

    def stop(self, worker_ids: list[str]) -> list[str]:
        workers = self.connection.workers() if self.connection else ()
        ids = [_find(worker_id, workers).id for worker_id in worker_ids]
        if self.connection is not None:
            self.connection.stop(ids, STOP_BOUND_S)
        return ids

    def shut_down(self) -> list[str]:
        """Stop everything; the ids are unknown where the daemon is of another version."""
        from omnirt_cli.resident.version import code_version

        if self.connection is None or self.info is None:
            return []
        known = self.info.version == code_version()
        ids = [worker.id for worker in self.connection.workers()] if known else []
        self.connection.shut_down(STOP_BOUND_S)
        return ids

    def __enter__(self) -> _Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        if self.connection is not None:
            self.connection.close()


def _find(worker_id: str, workers: tuple[WorkerInfo, ...]) -> WorkerInfo:
    """The worker whose id begins so."""
    found = [worker for worker in workers if worker_id and worker.id.startswith(worker_id)]
    if len(found) != 1:
        raise _not_one(worker_id, [worker.id for worker in found])
    return found[0]


def _find_log(worker_id: str) -> Path:
    """The log of a worker that is there, or was."""
    from omnirt_cli.resident.place import RuntimePlace

    place = RuntimePlace.choose(os.environ)
    there = sorted(place.workers.glob("*.log")) if place.check() else []
    found = [log for log in there if worker_id and log.stem.startswith(worker_id)]
    if len(found) != 1:
        raise _not_one(worker_id, [log.stem for log in found])
    return found[0]


def _not_one(worker_id: str, found: list[str]) -> Exception:
    from omnirt_cli.errors import InputMissingError, UsageError

    if found:
        return UsageError(f"{worker_id} may be {', '.join(found)}", hint="give more of the id")
    return InputMissingError(f"there is no worker {worker_id}", hint="`omnirt worker list` shows those there are")
