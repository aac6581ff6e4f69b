"""`omnirt bench`: cold and hot measurements, compared and gated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from omnirt_cli import console
from omnirt_cli.cli_options import RequestFlags, takes_request

if TYPE_CHECKING:
    from omnirt_cli.bench.document import Heat
    from omnirt_cli.bench.order import Options

HELP = """Measure a model cold and hot: load, chunks, real-time factor, memory, end to end.

Takes every flag of generate.

Example:

\b
  omnirt bench --scenario flashtalk-realtime --backend cpu --requests 2 --require 'steady_rtf<=1.0'
"""

_PANEL = "Benchmark"
_JUDGING = "Judging"


def _option(*flags: str, help_text: str, panel: str = _PANEL, **kw: Any) -> Any:
    return typer.Option(*flags, help=help_text, rich_help_panel=panel, show_default=False, **kw)


# Optional[...]: Typer reads them at run time on Python 3.10 too.
_SCENARIO = Annotated[
    Optional[str],  # noqa: UP045
    _option("--scenario", help_text="flashtalk-realtime or flashhead-quality."),
]
_COLD = Annotated[bool, _option("--cold", help_text="Measure requests that load the model.")]
_HOT = Annotated[bool, _option("--hot", help_text="Measure requests to a resident worker.")]
_REQUESTS = Annotated[
    Optional[int],  # noqa: UP045
    _option("--requests", min=1, help_text="Requests that count: 1 cold and 3 hot."),
]
_CONCURRENCY = Annotated[int, _option("--concurrency", min=1, max=256, help_text="Hot requests at a time.")]
_WARMUP_CHUNKS = Annotated[
    Optional[int],  # noqa: UP045
    _option("--warmup-chunks", min=0, help_text="Chunks of each request that are not steady yet: 1."),
]
_NUM_CHUNKS = Annotated[
    Optional[int],  # noqa: UP045
    _option("--num-chunks", min=1, help_text="Chunks after those; default: all there are."),
]
_MAX_CHUNKS = Annotated[
    Optional[str],  # noqa: UP045
    _option("--max-chunks", help_text="Chunks of a request; several give a row each: 1,3,full."),
]
_NPROC_PER_NODE = Annotated[
    Optional[str],  # noqa: UP045
    _option("--nproc-per-node", help_text="Processes under torchrun; several give a row each: 2,4."),
]
_SWEEP = Annotated[
    Optional[list[str]],  # noqa: UP045
    _option("--sweep", help_text="KNOB=VALUE,VALUE, repeatable: a row for each; none leaves it unset."),
]
_DURATION = Annotated[
    Optional[str],  # noqa: UP045
    _option("--duration", help_text="Send requests for so long (30m); judge failures and memory."),
]
_AGAINST_SCRIPT = Annotated[
    bool, _option("--against-script", help_text="Run the plain script, too: OmniRT's overhead.")
]
_HARNESS = Annotated[
    Optional[str],  # noqa: UP045
    _option("--harness", help_text="checkout: the checkout's own bench_rtf.py instead."),
]
_REQUIRE = Annotated[
    Optional[list[str]],  # noqa: UP045
    _option("--require", help_text="FIGURE<=NUMBER, repeatable; exit 1 when missed.", panel=_JUDGING),
]
_GATES = Annotated[
    Optional[list[str]],  # noqa: UP045
    _option("--gates", help_text="Requirements by name: realtime, realtime-24gb.", panel=_JUDGING),
]
_BASELINE = Annotated[
    Optional[str],  # noqa: UP045
    _option("--baseline", help_text="Saved results to compare with.", panel=_JUDGING),
]
_SAVE = Annotated[
    Optional[str],  # noqa: UP045
    _option("--save", help_text="Write the results there, too.", panel="Output"),
]
_JSON = Annotated[bool, _option("--json", help_text="Print one JSON document.", panel="Output")]


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    app.command("bench", help=HELP)(takes_request(bench))


def bench(
    flags: RequestFlags,
    scenario: _SCENARIO = None,
    cold: _COLD = False,
    hot: _HOT = False,
    requests: _REQUESTS = None,
    concurrency: _CONCURRENCY = 1,
    warmup_chunks: _WARMUP_CHUNKS = None,
    num_chunks: _NUM_CHUNKS = None,
    max_chunks: _MAX_CHUNKS = None,
    nproc_per_node: _NPROC_PER_NODE = None,
    sweep: _SWEEP = None,
    duration: _DURATION = None,
    against_script: _AGAINST_SCRIPT = False,
    harness: _HARNESS = None,
    require: _REQUIRE = None,
    gates: _GATES = None,
    baseline: _BASELINE = None,
    save: _SAVE = None,
    json: _JSON = False,
) -> None:
    from omnirt_cli.bench.order import Options

    named: list[tuple[bool, Heat]] = [(cold, "cold"), (hot, "hot")]
    options = Options(
        scenario=scenario,
        heats=frozenset(heat for said, heat in named if said),
        warmup_chunks=warmup_chunks,
        num_chunks=num_chunks,
        max_chunks=max_chunks,
        nproc_per_node=nproc_per_node,
        sweeps=tuple(sweep or ()),
        requests=requests,
        concurrency=concurrency,
        duration=duration,
        against_script=against_script,
        harness=harness,
    )
    _measure(flags, options, require or [], gates or [], baseline, save, json=json)


def _measure(
    flags: RequestFlags,
    options: Options,
    require: list[str],
    gates: list[str],
    baseline: str | None,
    save: str | None,
    *,
    json: bool,
) -> None:
    from omnirt_cli.bench.gates import requirements
    from omnirt_cli.bench.measure import Judgement, measure
    from omnirt_cli.bench.order import decide
    from omnirt_cli.bench.scenarios import with_scenario
    from omnirt_cli.commands.bench_view import bench_text
    from omnirt_cli.run.cancel import CancelToken
    from omnirt_cli.signals import cancelling

    judgement = Judgement(requirements(require, gates), _path(baseline), _path(save))
    order = decide(options, *with_scenario(options.scenario, flags.request, flags.file), cwd=Path.cwd())
    token = CancelToken()
    with cancelling(token):
        report, error = measure(order, judgement, cancel=token, tell=console.tell)
    if json:
        console.say_json(report)
    else:
        for text in bench_text(report):
            console.say(text)
    if error is not None:
        console.tell_error(error)
        raise typer.Exit(error.exit_status)


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser().absolute() if text else None
