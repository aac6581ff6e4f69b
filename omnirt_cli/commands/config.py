"""`omnirt config show`: every setting with its value and where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from omnirt_cli import console

if TYPE_CHECKING:
    from omnirt_cli.settings import Setting

HELP = """Settings: every value, and where it came from.

Example:

\b
  omnirt config show
"""

SHOW_HELP = """Every setting that is set, with its value and its source; what it shadows is shown below it.

Example:

\b
  omnirt config show --model soulx-flashtalk-14b
"""


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    group = typer.Typer(help=HELP, rich_markup_mode=None)
    group.callback()(lambda: None)
    group.command("show", help=SHOW_HELP)(show)
    app.add_typer(group, name="config")


def show(
    model: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads it at run time on Python 3.10 too
        typer.Option("--model", "-m", help="Only this model's settings; default: every model's."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    from omnirt_cli.models import registry

    ids = [registry.adapter(model).info.id] if model else list(registry.model_ids())
    found = {model_id: _settings_of(model_id) for model_id in ids}
    if json:
        console.say_json({"settings": {model_id: rows for model_id, (rows, _) in found.items()}})
    else:
        _print(found)
    for warning in sorted({text for _, warnings in found.values() for text in warnings}):
        console.tell(f"warning: {warning}")


def _settings_of(model_id: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    from omnirt_cli.models import registry
    from omnirt_cli.settings import Surroundings, resolve

    settings = resolve(registry.adapter(model_id).info.key, {}, None, Surroundings.current())
    rows: dict[str, Any] = {}
    for key, setting in sorted(settings.values.items()):
        lost = [_shown(key, setting) for setting in settings.shadowed.get(key, ())]
        rows[key] = {**_shown(key, setting), "shadows": lost}
    return rows, settings.warnings


def _shown(key: str, setting: Setting) -> dict[str, Any]:
    from omnirt_cli.secrets import without_secrets

    value = without_secrets(setting.value) if key == "env" else setting.value
    return {"value": value, "source": setting.source}


def _print(found: dict[str, tuple[dict[str, Any], tuple[str, ...]]]) -> None:
    for model_id, (rows, _) in found.items():
        console.say(model_id)
        if not rows:
            console.say("  nothing is set; the model's and the checkout's own defaults hold")
        for key, row in rows.items():
            console.say(f"  {key} = {row['value']}  ({row['source']})")
            for lost in row["shadows"]:
                console.say(f"    instead of {lost['value']}  ({lost['source']})")
