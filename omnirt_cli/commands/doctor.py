"""`omnirt doctor`: can a render work here, and if not, what is to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from omnirt_cli import console
from omnirt_cli.request import BackendChoice

if TYPE_CHECKING:
    from omnirt_cli.doctor.examination import DeviceSight, Examination

HELP = """Look at this machine, its devices and every configured model; say what is wrong and what to do.

Exit code 0 only if a render can work: with the models that are configured, else with the miniature.

Example:

\b
  omnirt doctor --model soulx-flashtalk-14b --deep
"""


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    app.command("doctor", help=HELP)(doctor)


def doctor(
    model: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads it at run time on Python 3.10 too
        typer.Option("--model", "-m", help="Only this model; default: every one that is configured."),
    ] = None,
    backend: Annotated[
        Optional[BackendChoice],  # noqa: UP045
        typer.Option("--backend", help="What to compute on; default: as configured, else what is there."),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Import the model's packages and ask its torch for the devices.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    from omnirt_cli.doctor.examine import examine, failing
    from omnirt_cli.errors import PartialError

    found = examine(model=model, backend=backend, deep=deep)
    if json:
        console.say_json(found)
    else:
        _print(found)
    if not found.ok:
        faults = failing(found.sections)
        error = PartialError(f"a render cannot work here: {'; '.join(faults)}", hint="see the lines marked FAIL")
        console.tell_error(error)
        raise typer.Exit(error.exit_status)


def _print(found: Examination) -> None:
    from omnirt_cli.commands.plan_view import check_line

    for section in found.sections:
        console.say(section.title)
        for check in section.checks:
            console.say(f"  {check_line(check)}")
        if section.title == "devices":
            for device in found.devices:
                console.say(f"       {_device_line(device)}")
        for key, value in found.settings.get(section.title, {}).items():
            console.say(f"       {key} = {value}")
    console.say("")
    console.say(_verdict(found))


def _verdict(found: Examination) -> str:
    if found.only_miniature:
        return "only the miniature can render here: no model is configured"
    return "a render can work here" if found.ok else "a render cannot work here"


def _device_line(device: DeviceSight) -> str:
    memory = (
        f"{device.memory_free_gib:.1f} of {device.memory_total_gib:.1f} GiB free"
        if device.memory_free_gib is not None and device.memory_total_gib is not None
        else "memory not known"
    )
    parts = [f"{device.kind} {device.id}", device.name or "", memory]
    if device.health:
        parts.append(f"health {device.health}")
    if device.leased_by:
        parts.append(f"leased by {device.leased_by}")
    if device.holders:
        parts.append(f"held by {', '.join(device.holders)}")
    return "  ".join(part for part in parts if part)
