"""`omnirt schema`: the JSON Schema of a document."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from omnirt_cli import console
from omnirt_cli.errors import UsageError

NAMES = ("request", "report", "event", "plan", "result", "bench")

HELP = f"""Print the JSON Schema of a document: {", ".join(NAMES)}.

Example:

\b
  omnirt schema report > report.schema.json
"""


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    app.command("schema", help=HELP)(schema)


def schema(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.", metavar="NAME")],
    json: Annotated[bool, typer.Option("--json", help="Accepted; a schema is JSON in any case.")] = False,  # noqa: ARG001
) -> None:
    console.say_json(schema_of(name))


def schema_of(name: str) -> dict[str, Any]:
    """The schema.

    Raises:
        UsageError: There is no such document.
    """
    from pydantic import TypeAdapter

    from omnirt_cli.bench.document import BenchReport
    from omnirt_cli.plan import PlanDocument
    from omnirt_cli.report import GenerateResult, RunReport
    from omnirt_cli.request import Audio2VideoRequest
    from omnirt_cli.run.events import Event

    documents: dict[str, Any] = {
        "request": Audio2VideoRequest,
        "report": RunReport,
        "event": Event,
        "plan": PlanDocument,
        "result": GenerateResult,
        "bench": BenchReport,
    }
    if name not in documents:
        raise UsageError(f"there is no document called {name}", hint=f"one of {', '.join(NAMES)}")
    return TypeAdapter(documents[name]).json_schema()
