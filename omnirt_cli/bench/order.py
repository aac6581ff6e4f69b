"""What is to be measured, decided: the rows of the table, cold or hot, how many requests of each, where they go.

Reads what the command line says and refuses what does not go together. Starts and writes nothing.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from omnirt_cli.bench.document import Heat
from omnirt_cli.errors import UsageError
from omnirt_cli.planner.knobs import knob_names
from omnirt_cli.request import Audio2VideoRequest, Config, ExecutorChoice, plain
from omnirt_cli.settings import Layer
from omnirt_cli.yaml_document import nearest

COLD_REQUESTS = 1
HOT_REQUESTS = 3
PAIRS = 3
WARMUP_CHUNKS = 1
HARNESS_CHUNKS = 5
"""As many as the quantizing fork's own benchmark measures by default."""

FULL = "full"
UNSET = "none"
"""In a sweep: the knob is not set at all."""

_HEATS: tuple[Heat, ...] = ("cold", "hot")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_SECONDS = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_NAME_PART = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Options:
    """The command line's own flags of `omnirt bench`, as they were said.

    Attributes:
        heats: Those that were named; empty where nobody named one.
        max_chunks, nproc_per_node: One value or several with commas.
        sweeps: Other knobs with their values, each as `KNOB=VALUE,VALUE`.
    """

    scenario: str | None = None
    heats: frozenset[Heat] = frozenset()
    warmup_chunks: int | None = None
    num_chunks: int | None = None
    max_chunks: str | None = None
    nproc_per_node: str | None = None
    sweeps: tuple[str, ...] = ()
    requests: int | None = None
    concurrency: int = 1
    duration: str | None = None
    against_script: bool = False
    harness: str | None = None


@dataclass(frozen=True)
class Case:
    """One row's settings.

    Attributes:
        name: What sets it apart, e.g. `nproc_per_node=2, max_chunks=3`; empty where there is one case.
        config: Config keys that it sets; a value of None takes away what the request says.
    """

    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The name as part of a file's name."""
        return _NAME_PART.sub("-", self.name.replace("=", "-")).strip("-")


@dataclass(frozen=True)
class Order:
    """Everything that a benchmark does.

    Attributes:
        request: With the samples in place of inputs that were not named.
        layer: Settings below the flags.
        heats: In the order in which they are measured.
        chosen_heats: Somebody named them, so that one that cannot be had is an error.
        requests: How many are to count, by heat; ignored where `duration_s` is set.
        chunks: Chunks of each request where that was said as warm-up and measured ones; None for what the case says.
    """

    request: Audio2VideoRequest
    layer: Layer | None
    scenario: str | None
    cases: tuple[Case, ...]
    heats: tuple[Heat, ...]
    chosen_heats: bool
    warmup_chunks: int
    num_chunks: int | None
    requests: Mapping[Heat, int]
    concurrency: int
    duration_s: float | None
    against_script: bool
    harness: bool
    folder: Path

    @property
    def chunks(self) -> int | None:
        """How many chunks a request has where `--num-chunks` says it."""
        return None if self.num_chunks is None else self.warmup_chunks + self.num_chunks

    def request_of(self, case: Case, heat: Heat, output: Path) -> Audio2VideoRequest:
        """One request of a row."""
        said = self.request.config
        executor = said.executor if said.executor == ExecutorChoice.DRIVER.value else ExecutorChoice.SCRIPT.value
        if heat == "hot":
            executor = ExecutorChoice.RESIDENT.value
        update: dict[str, Any] = {"max_chunks": self.chunks} if self.chunks else {}
        update |= {**case.config, "executor": executor, "output": str(output), "output_dir": None}
        return self.request.model_copy(update={"config": said.model_copy(update=update)})

    def plain_request(self, case: Case, output: Path) -> Audio2VideoRequest:
        """The same row's request, to be run by the checkout's script whatever else runs it otherwise."""
        request = self.request_of(case, "cold", output)
        config = request.config.model_copy(update={"executor": ExecutorChoice.SCRIPT.value})
        return request.model_copy(update={"config": config})

    def with_request(self, request: Audio2VideoRequest) -> Order:
        """The same with another request."""
        return replace(self, request=request)

    def cold_alone(self) -> Order:
        """The same without the hot part."""
        return replace(self, heats=("cold",))


def decide(options: Options, request: Audio2VideoRequest, layer: Layer | None, *, cwd: Path) -> Order:
    """Make an order of flags.

    Args:
        options: The flags of the benchmark itself.
        request: The request, completed by the scenario.
        layer: Its layer of settings.
        cwd: Where a folder for the results is made if none is named.

    Raises:
        UsageError: Something does not go together, or is malformed.
    """
    _refuse_clashes(options, request)
    heats = _heats(options, request)
    requests: dict[Heat, int] = {
        "cold": options.requests or (PAIRS if options.against_script else COLD_REQUESTS),
        "hot": options.requests or HOT_REQUESTS,
    }
    harness = options.harness is not None
    num_chunks = options.num_chunks
    if harness and num_chunks is None:
        num_chunks = HARNESS_CHUNKS
    return Order(
        request=_under_harness(request) if harness else request,
        layer=layer,
        scenario=options.scenario,
        cases=_cases(options, request),
        heats=heats,
        chosen_heats=bool(options.heats) or request.config.executor is not None,
        warmup_chunks=WARMUP_CHUNKS if options.warmup_chunks is None else options.warmup_chunks,
        num_chunks=num_chunks,
        requests=requests,
        concurrency=options.concurrency,
        duration_s=duration_s(options.duration) if options.duration else None,
        against_script=options.against_script,
        harness=harness,
        folder=_folder(options, request, cwd),
    )


def _refuse_clashes(options: Options, request: Audio2VideoRequest) -> None:
    """Raise where two flags cannot both be had."""
    sweep = (options.max_chunks, options.nproc_per_node, *options.sweeps)
    clashes = (
        (request.config.output, "--output names one video; a benchmark makes several", "use --output-dir"),
        (
            options.max_chunks and options.num_chunks,
            "--max-chunks and --num-chunks both say how long a request is",
            "give one of them",
        ),
        (
            options.duration and options.requests,
            "--duration and --requests both say how many requests there are",
            "give one of them",
        ),
        (
            options.duration and _is_list(*sweep),
            "--duration measures one profile, not a sweep",
            "give one value of --max-chunks, --nproc-per-node and --sweep",
        ),
        (
            options.against_script
            and (options.harness or options.duration or "hot" in options.heats or _is_list(*sweep)),
            "--against-script compares cold runs of the script, on one profile",
            "leave out --hot, --harness, --duration and lists of values",
        ),
        (
            options.harness and ("hot" in options.heats or options.concurrency > 1 or options.max_chunks),
            "the checkout's own benchmark is a cold process of one rank, with --num-chunks chunks",
            "leave out --hot, --concurrency and --max-chunks",
        ),
    )
    for clash, message, hint in clashes:
        if clash:
            raise UsageError(message, hint=hint)
    if options.harness not in (None, "checkout"):
        raise UsageError(f"--harness {options.harness}: there is no such harness", hint="write --harness checkout")


def _is_list(*values: str | None) -> bool:
    return any(value is not None and "," in value for value in values)


def _heats(options: Options, request: Audio2VideoRequest) -> tuple[Heat, ...]:
    """What is measured, cold first: a worker that is loaded would hold the devices that a cold run needs.

    Raises:
        UsageError: The executor that was named cannot do it.
    """
    resident = request.config.executor == ExecutorChoice.RESIDENT.value
    if resident and "cold" in options.heats:
        raise UsageError("--executor resident renders hot", hint="leave out --cold, or the executor")
    if resident and (options.against_script or options.harness):
        raise UsageError("--executor resident does not go with cold measurements", hint="leave it out")
    if options.heats or resident:
        wanted: frozenset[Heat] = options.heats or frozenset({"hot"})
        heats: tuple[Heat, ...] = tuple(heat for heat in _HEATS if heat in wanted)
    elif options.against_script or options.harness:
        heats = ("cold",)
    elif options.duration:
        heats = ("hot",)
    else:
        heats = ("cold", "hot")
    if options.concurrency > 1 and "hot" not in heats:
        raise UsageError("--concurrency is for hot requests; cold ones run one after another", hint="leave it out")
    return heats


def _under_harness(request: Audio2VideoRequest) -> Audio2VideoRequest:
    """The checkout's own benchmark is one process: it knows of no ranks.

    Raises:
        UsageError: Several are asked for.
    """
    config = request.config
    if config.launcher not in (None, "python") or (config.nproc_per_node or config.num_processes or 1) > 1:
        raise UsageError("the checkout's own benchmark is one process", hint="leave out --launcher and process counts")
    update = {"launcher": "python", "nproc_per_node": None, "num_processes": None}
    return request.model_copy(update={"config": config.model_copy(update=update)})


_Step = tuple[str, dict[str, Any]]
"""One value of a sweep: what the row is called by it, and what it sets."""


def _cases(options: Options, request: Audio2VideoRequest) -> tuple[Case, ...]:
    """Every combination of the values with commas, in the order in which they were written.

    Raises:
        UsageError: A value is malformed or stands there twice.
    """
    axes = [
        _process_counts(options.nproc_per_node, request),
        _lengths(options.max_chunks),
        *(_knob_values(text) for text in options.sweeps),
    ]
    cases = []
    for steps in itertools.product(*(axis for axis in axes if axis)):
        told = [name for (name, _), axis in zip(steps, filter(None, axes), strict=True) if len(axis) > 1]
        cases.append(Case(", ".join(told), {key: value for _, sets in steps for key, value in sets.items()}))
    return tuple(cases)


def _process_counts(text: str | None, request: Audio2VideoRequest) -> list[_Step]:
    counts = _values("--nproc-per-node", text)
    if FULL in counts:
        raise UsageError(f"--nproc-per-node {text}: write numbers, e.g. 2,4")
    return [
        (f"nproc_per_node={count}", {"nproc_per_node": count, **_first_devices(request, int(count))})
        for count in counts
    ]


def _lengths(text: str | None) -> list[_Step]:
    lengths = _values("--max-chunks", text)
    return [(f"max_chunks={length}", {"max_chunks": None if length == FULL else length}) for length in lengths]


def _knob_values(text: str) -> list[_Step]:
    """The values of one `--sweep KNOB=V1,V2`.

    Raises:
        UsageError: It has another form, there is no such knob, or it takes no such value.
    """
    name, equals, values = text.partition("=")
    knob, words = name.replace("-", "_"), values.split(",")
    known = knob_names() | {"preset"}
    if not equals or not all(words) or len(set(words)) < len(words):
        raise UsageError(f"--sweep {text}: write it as KNOB=VALUE,VALUE, e.g. quantize=none,quanto-int4")
    if knob not in known:
        guess = nearest(knob, known)
        raise UsageError(
            f"--sweep {text}: there is no knob called {name}", hint=f"did you mean {guess}?" if guess else None
        )
    return [(f"{knob}={word}", {knob: _knob_value(text, knob, word)}) for word in words]


def _knob_value(text: str, knob: str, word: str) -> Any:
    if word == UNSET:
        return None
    try:
        return getattr(Config.model_validate({knob: word}), knob)
    except ValidationError as error:
        raise UsageError(f"--sweep {text}: {word}: {plain(error.errors()[0]['msg'])}") from error


def _values(flag: str, text: str | None) -> Sequence[int | str]:
    if text is None:
        return []
    words = text.split(",")
    good = all(word == FULL or re.fullmatch(r"[1-9]\d{0,5}", word) for word in words)
    if not good or len(set(words)) < len(words):
        raise UsageError(f"{flag} {text}: write numbers, each once, with commas between them, e.g. 1,3,{FULL}")
    return [word if word == FULL else int(word) for word in words]


def _first_devices(request: Audio2VideoRequest, count: int) -> dict[str, Any]:
    """Of the devices that were named, as many as there are processes: the others would be held for nothing."""
    named = (request.config.visible_devices or "").split(",")
    return {"visible_devices": ",".join(named[:count])} if len(named) > count else {}


def duration_s(text: str) -> float:
    """Seconds of `30m`, `90s`, `1.5h` or a bare number.

    Raises:
        UsageError: It is none of these, or no time at all.
    """
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if seconds <= 0:
        raise UsageError(f"--duration {text}: not a length of time", hint="e.g. 90s, 30m, 2h")
    return seconds


def _folder(options: Options, request: Audio2VideoRequest, cwd: Path) -> Path:
    """Where the results go.

    Raises:
        UsageError: What was named is a video.
    """
    named = request.config.output_dir
    if named is not None:
        if named.endswith(".mp4"):
            raise UsageError("--output-dir names a video; a benchmark makes several", hint="name a directory")
        return cwd / Path(named).expanduser()
    return cwd / "outputs" / f"bench-{options.scenario or request.model or 'custom'}-{time.time_ns() // 1_000_000}"
