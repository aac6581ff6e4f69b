"""`omnirt presets`: what each preset sets, resolved against a checkout where one is given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from omnirt_cli import console
from omnirt_cli.models.base import ModelAdapter

HELP = """What each preset sets for each model, resolved against a checkout where one is given.

Example:

\b
  omnirt presets --model soulx-flashtalk-14b --repo-path /opt/SoulX-FlashTalk
"""


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    app.command("presets", help=HELP)(presets)


def presets(
    model: Annotated[Optional[str], typer.Option("--model", "-m", help="Only this model.")] = None,  # noqa: UP045
    repo_path: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--repo-path", help="A checkout: shows only knobs that it can be given."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    from omnirt_cli.errors import UsageError
    from omnirt_cli.models import registry

    if repo_path and model is None:
        raise UsageError("--repo-path needs --model: a checkout is one model's")
    ids = [registry.adapter(model).info.id] if model else list(registry.model_ids())
    rows = {model_id: _resolve(registry.adapter(model_id), repo_path) for model_id in ids}
    if json:
        console.say_json({"presets": rows})
        return
    for model_id, row in rows.items():
        variant = f" ({row['variant']} checkout)" if row["variant"] else ""
        console.say(f"{model_id}{variant}")
        for name, preset in row["presets"].items():
            knobs = ", ".join(f"{key}={value}" for key, value in preset["knobs"].items()) or "nothing: the defaults"
            console.say(f"  {name:<9} {preset['summary']}")
            console.say(f"            sets {knobs}")


def _resolve(adapter: ModelAdapter, repo_path: str | None) -> dict[str, Any]:
    from omnirt_cli.checkout import inspect_checkout

    checkout = inspect_checkout(Path(repo_path).absolute(), adapter.info.script) if repo_path else None
    variant = adapter.recognise(checkout) if checkout else None
    return {
        "variant": variant.name if variant else None,
        "presets": {
            preset.name: {"summary": preset.summary, "knobs": dict(preset.knobs)}
            for preset in adapter.presets(checkout, variant)
        },
    }
