"""`omnirt models`: what each model takes, has, needs and runs on."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from omnirt_cli import console

HELP = """The models; with an id, one of them in full: inputs, knobs, presets, memory, backends.

Example:

\b
  omnirt models soulx-flashtalk-14b
"""


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    app.command("models", help=HELP)(models)


def models(
    model_id: Annotated[Optional[str], typer.Argument(help="A model's id.", metavar="[ID]")] = None,  # noqa: UP045
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    from omnirt_cli.models import registry

    if model_id is None:
        described = [describe(known) for known in registry.model_ids()]
        if json:
            console.say_json({"models": described})
            return
        for model in described:
            console.say(f"{model['id']:<24} {', '.join(model['backends']):<18} {model['summary']}")
        return
    model = describe(registry.adapter(model_id).info.id)
    if json:
        console.say_json(model)
    else:
        _print(model)


def describe(model_id: str) -> dict[str, Any]:
    """Everything that is known of a model, as `--json` prints it."""
    from omnirt_cli.models import registry

    adapter = registry.adapter(model_id)
    card, info = adapter.card, adapter.info
    return {
        "id": info.id,
        "title": info.title,
        "task": "audio2video",
        "summary": card.summary,
        "backends": [backend.value for backend in info.backends],
        "inputs": list(info.inputs),
        "optional_inputs": list(info.optional_inputs),
        "knobs": {name: card.knobs.get(name, "") for name in adapter.knobs()},
        "presets": {name: preset.summary for name, preset in card.presets.items()},
        "processes": card.processes.model_dump(mode="json"),
        "memory": [
            {**row.model_dump(mode="json", exclude_none=True), "figure": row.figure(card.usual_size)}
            for row in card.memory
        ],
        "timing": [row.model_dump(mode="json", exclude_none=True) for row in card.timing],
        "script": info.script,
    }


def _print(model: dict[str, Any]) -> None:
    console.say(f"{model['id']}: {model['summary']}")
    console.say(f"backends  {', '.join(model['backends'])}")
    console.say(f"inputs    {', '.join(model['inputs'] + [f'[{name}]' for name in model['optional_inputs']])}")
    console.say(f"processes {model['processes']['published']} published")
    console.say("presets")
    for name, summary in model["presets"].items():
        console.say(f"  {name:<9} {summary}")
    console.say("knobs")
    for name, text in model["knobs"].items():
        console.say(f"  --{name.replace('_', '-'):<26} {text}")
    console.say("memory")
    for row in model["memory"]:
        console.say(f"  {row['backend']:<7} {row['mode']}: {row['figure']} ({row['kind']}; {row['source']})")
