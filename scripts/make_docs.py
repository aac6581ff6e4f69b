#!/usr/bin/env python3
"""Writes what in docs/ follows from the code: cli.md, exit-codes.md, and the tables between markers in other pages.

    python scripts/make_docs.py            write them
    python scripts/make_docs.py --check    only compare; exit 1 and show the differences where a page is stale

A table stands between `<!-- generated: NAME -->` and `<!-- end generated -->`. The help texts in cli.md depend on
Typer's version, which the page's first line records: with another version installed, `--check` leaves that page out.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT))

import typer  # noqa: E402

from omnirt_cli import errors  # noqa: E402
from omnirt_cli.app import COMMANDS  # noqa: E402
from omnirt_cli.checkout import CheckoutFacts, inspect_checkout  # noqa: E402
from omnirt_cli.cli_options import _plain_type  # noqa: E402
from omnirt_cli.config_data import config_text  # noqa: E402
from omnirt_cli.devices.device import Device, Inventory  # noqa: E402
from omnirt_cli.devices.visibility import resolve_visibility  # noqa: E402
from omnirt_cli.doctor.pins import Pins  # noqa: E402
from omnirt_cli.media import audio, judge, portrait_advice, verify  # noqa: E402
from omnirt_cli.media.portrait_advice import AdviceName  # noqa: E402
from omnirt_cli.models import frames, liveact_audio, registry  # noqa: E402
from omnirt_cli.models.base import AudioForm, Backend, Carrier, Geometry, KnobValue, Variant  # noqa: E402
from omnirt_cli.models.card import CheckpointFile  # noqa: E402
from omnirt_cli.models.soulx_script import ScriptVariant, SoulXScriptAdapter, Way  # noqa: E402
from omnirt_cli.preflight import OPTIONAL, VIDEO_CHECKS, CheckName  # noqa: E402
from omnirt_cli.request import Config, PresetChoice, option_facts  # noqa: E402
from omnirt_cli.run import diagnosis_rules, published_times, slowness  # noqa: E402
from omnirt_cli.run.compile_cache import CompileCache, arrange_compile_cache  # noqa: E402
from omnirt_cli.run.failure_rule import Standing  # noqa: E402
from omnirt_cli.run.failure_rules import RULES  # noqa: E402
from omnirt_cli.yaml_document import load_yaml  # noqa: E402

CLI_PAGE = DOCS / "cli.md"
TYPER_LINE = re.compile(r"<!-- typer (\S+) -->")
MARKED = re.compile(r"(<!-- generated: (?P<name>[\w .-]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)

SAMPLE_RATE = 16000
TEN_SECONDS = 10 * SAMPLE_RATE
MOST_PROCESSES = 8

SUBCOMMANDS = {
    "config": ("show",),
    "runs": ("list", "show", "logs", "compare", "rerun", "rebuild"),
    "worker": ("start", "list", "status", "stop", "logs"),
}
"""Commands that are groups, with what stands in them."""


# --- pages ----------------------------------------------------------------------------------------


def generated_pages() -> dict[Path, str]:
    """Every page that is wholly or partly generated, with the text that it should have."""
    pages = {CLI_PAGE: cli_page(), DOCS / "exit-codes.md": exit_codes_page()}
    for page in sorted(DOCS.glob("*.md")):
        if page not in pages and MARKED.search(text := page.read_text(encoding="utf-8")):
            pages[page] = with_tables(text)
    return pages


def with_tables(text: str) -> str:
    """A page's text with its marked tables made anew."""
    return MARKED.sub(lambda found: f"{found[1]}\n{_table_named(found['name'])}\n\n{found[3]}", text)


def _table_named(name: str) -> str:
    kind, _, model = name.partition(" ")
    if model:
        return MODEL_TABLES[kind](registry.adapter(model))
    return TABLES[kind]()


def difference(page: Path, wanted: str) -> str:
    """What must change in a page, as a unified diff; empty where nothing must."""
    there = page.read_text(encoding="utf-8") if page.exists() else ""
    lines = difflib.unified_diff(there.splitlines(), wanted.splitlines(), f"{page.name}", f"{page.name} (generated)")
    return "\n".join(lines)


def recorded_typer() -> str | None:
    """The Typer version that the command reference was made with; None without a page."""
    found = TYPER_LINE.search(CLI_PAGE.read_text(encoding="utf-8")) if CLI_PAGE.exists() else None
    return found[1] if found else None


# --- the command reference ------------------------------------------------------------------------


def commands() -> Iterable[tuple[str, ...]]:
    """Every command's words, groups before what stands in them."""
    for name in COMMANDS:
        yield (name,)
        for inner in SUBCOMMANDS.get(name, ()):
            yield (name, inner)


_CLI_INTRODUCTION = """\
`omnirt` and `python -m omnirt` are the same program. Every command takes `--help`. What the flags of `generate` and
`validate` mean together is in [generate.md](generate.md); the same settings in files and in the environment are in
[configuration.md](configuration.md)."""


def cli_page() -> str:
    """docs/cli.md."""
    parts = [
        f"<!-- typer {typer.__version__} -->",
        "<!-- Made by scripts/make_docs.py; do not edit. -->",
        "# Commands",
        _CLI_INTRODUCTION,
        f"```text\n{help_text()}\n```",
    ]
    for words in commands():
        parts += [f"## omnirt {' '.join(words)}", f"```text\n{help_text(*words)}\n```"]
    return "\n\n".join(parts) + "\n"


def help_text(*words: str) -> str:
    """`--help` of a command, in a process of its own with nothing of this terminal in it."""
    env = {name: value for name, value in os.environ.items() if name not in _TERMINAL}
    done = subprocess.run(
        [sys.executable, "-m", "omnirt", *words, "--help"],
        check=True,
        capture_output=True,
        env={**env, "NO_COLOR": "1", "COLUMNS": "100", "TERM": "dumb", "PYTHONPATH": str(ROOT)},
        text=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


_TERMINAL = frozenset({"FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERMINAL_WIDTH", "_TYPER_FORCE_DISABLE_TERMINAL"})


# --- exit codes -----------------------------------------------------------------------------------


_CODES_INTRODUCTION = """\
One meaning each, the same for every command. The name is `error.code` in a report and in `--json`.

What speaks of batches is reserved: that part is not there yet. Where a run cannot have its devices, 69 means that
waiting does not help, 75 that it may (`--wait SECONDS`); [devices.md](devices.md) has more."""

_CODES_IN_A_SHELL = """\
In a shell:

```bash
omnirt generate --config request.yaml --json > result.json
case $? in
    0) echo rendered ;;
    11) echo 'not enough device memory' ;;
    75) echo 'devices or output are in use; try again later' ;;
    *) python3 -c 'import json; print(json.load(open("result.json"))["metadata"]["error"])' ;;
esac
```"""


def exit_codes_page() -> str:
    """docs/exit-codes.md."""
    first = ", ".join(str(int(code)) for code in errors.PRECEDENCE)
    parts = [
        "<!-- Made by scripts/make_docs.py from omnirt_cli/errors.py; do not edit. -->",
        "# Exit codes",
        _CODES_INTRODUCTION,
        _table(("code", "name", "when"), _exit_code_rows()),
        f"When several checks fail before a launch, the code is the first of {first}.",
        _CODES_IN_A_SHELL,
    ]
    return "\n\n".join(parts) + "\n"


def _exit_code_rows() -> Iterable[tuple[str, ...]]:
    yield "0", "`ok`", "rendered, verified, in place"
    for kind in errors.ERRORS:
        codes = [kind.exit_code]
        if kind is errors.CancelledRunError:
            codes = [code for code in errors.ExitCode if code.name.startswith("CANCELLED")]
        yield " / ".join(str(int(code)) for code in codes), f"`{kind.code}`", kind.meaning


# --- settings -------------------------------------------------------------------------------------


def settings_table() -> str:
    """Every setting: its key, its flags, its values."""
    return _table(("key", "flag", "value", "what it is"), (_setting_row(name) for name in Config.model_fields))


def _setting_row(name: str) -> tuple[str, ...]:
    field = Config.model_fields[name]
    kind, facts = _plain_type(field.annotation), option_facts(field)
    spelled = "--" + name.replace("_", "-")
    flags = [spelled, *facts["flags"]]
    if kind is bool and not name.startswith(("no_", "allow_", "keep_")):
        flags.append("--no-" + spelled[2:])
    notes = [note for note in (_PATHS.get(facts["path"]), "trusted files only" if facts["trusted"] else None) if note]
    what = (field.description or "") + (f" ({'; '.join(notes)})" if notes else "")
    return f"`{name}`", ", ".join(f"`{flag}`" for flag in flags), _values(kind), what


_PATHS = {"here": "path", "checkout": "path in the checkout", "program": "path, or a name on PATH"}


def _values(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    return {int: "whole number", float: "number", bool: "true, false", dict: "map", tuple: "list"}.get(kind, "text")


# --- models ---------------------------------------------------------------------------------------


def _known_checkouts(adapter: SoulXScriptAdapter) -> dict[str, tuple[CheckoutFacts, Variant]]:
    """Variant -> a checkout of it. The miniature has the flags, variables and files of each."""
    folder = registry.miniature_checkout(adapter.info).parent
    found = {}
    for path in sorted(folder.glob(f"{adapter.info.key}*")):
        checkout = inspect_checkout(path, adapter.info.script)
        variant = adapter.recognise(checkout)
        found[variant.name] = (checkout, variant)
    order = ("public-old", "public-new", "public", "quantizing", "ascend")
    return {name: found[name] for name in order if name in found}


def knobs_table(adapter: SoulXScriptAdapter) -> str:
    """How each knob reaches each variant."""
    known = _known_checkouts(adapter)
    rows = (
        (f"`{knob}`", *(_carried(adapter, knob, checkout, variant) for checkout, variant in known.values()))
        for knob in adapter.knobs()
    )
    return _table(("knob", *(f"`{name}`" for name in known)), rows)


def _carried(adapter: SoulXScriptAdapter, knob: str, checkout: CheckoutFacts, variant: Variant) -> str:
    way = adapter.way(knob, checkout, variant)
    if way is None:
        return "-"
    if way.carrier is Carrier.FIXED:
        return _built_in(adapter.built_in(knob, checkout))
    return _CARRIED[way.carrier](way)


_CARRIED: Mapping[Carrier, Callable[[Way], str]] = {
    Carrier.FLAG: lambda way: f"flag `{way.names[0]}`",
    Carrier.ENVIRONMENT: lambda way: "variable " + ", ".join(f"`{name}`" for name in way.names),
    Carrier.INFER_PARAMS: lambda way: "yaml " + ", ".join(f"`{name}`" for name in way.names),
    Carrier.OMNIRT: lambda way: f"step `{way.names[0]}`" if way.names else "OmniRT itself",
}


def _built_in(value: Any) -> str:
    if value is None:
        return "built in"
    return f"built in ({'on' if value is True else 'off' if value is False else value})"


def presets_table() -> str:
    """What each preset sets on each known checkout; checkouts that get the same stand together."""
    rows = (
        (f"`{preset.value}`", adapter.info.key, ", ".join(f"`{name}`" for name in variants), sets)
        for preset in PresetChoice
        for adapter in registry.adapters()
        for sets, variants in _set_on(adapter, preset.value).items()
    )
    return _table(("preset", "model", "checkout", "sets"), rows)


def _set_on(adapter: SoulXScriptAdapter, preset: str) -> dict[str, list[str]]:
    """What a preset sets -> the variants on which it sets that."""
    found: dict[str, list[str]] = {}
    for name, (checkout, variant) in _known_checkouts(adapter).items():
        resolved = {one.name: one.knobs for one in adapter.presets(checkout, variant)}
        found.setdefault(_assignments(resolved[preset]), []).append(name)
    return found


def _assignments(knobs: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}={str(value).lower()}`" for key, value in knobs.items()) or "nothing"


def memory_table(adapter: SoulXScriptAdapter) -> str:
    """What each way of running needs."""
    rows = (
        (
            row.backend,
            row.mode,
            row.figure(adapter.card.usual_size),
            row.kind.value,
            row.source + (f"; {row.host}" if row.host else ""),
        )
        for row in adapter.card.memory
    )
    return _table(("backend", "settings", "needs", "kind", "source"), rows)


def host_table(adapter: SoulXScriptAdapter) -> str:
    """What one process needs of the machine's own memory, its frames not counted."""
    rows = (
        (row.backend or "any", row.mode, f"{row.loading_gib:g}", f"{row.resident_gib:g}", row.kind.value, row.source)
        for row in adapter.card.host.rows
    )
    return _table(("backend", "settings", "GiB while loading", "GiB later", "kind", "source"), rows)


def files_table(adapter: SoulXScriptAdapter) -> str:
    """The files that a script opens while it loads."""
    rows = (
        (f"`{row.file}`", _folder(row), _with_settings(row), _size(row), row.source) for row in adapter.card.checkpoint
    )
    return _table(("file", "in", "with", "bytes", "source"), rows)


def _folder(row: CheckpointFile) -> str:
    if row.itself:
        return f"`{row.folder}` names it"
    instead = ", ".join(f"`{name}`" for name in row.instead)
    return f"`{row.folder}`" + (f"; or {instead}" if instead else "")


def _with_settings(row: CheckpointFile) -> str:
    said = (f"`{knob}` not set" if value is None else f"`{knob}={value}`" for knob, value in row.when.items())
    return ", ".join(said) or (f"`{row.folder}` set" if row.itself else "always")


def _size(row: CheckpointFile) -> str:
    if row.size:
        return str(row.size)
    return f"at least {row.least}" if row.least else "-"


def processes_table(adapter: SoulXScriptAdapter) -> str:
    """Process counts that the sizes allow."""
    rows = ((size, ", ".join(map(str, counts))) for size, counts in adapter.card.processes.counts.items())
    return _table(("settings", "process counts that work"), rows)


def reference_table(adapter: SoulXScriptAdapter) -> str:
    """Published times to compare a run with."""
    rows = (
        (row.what, f"{row.value_ms:.3f}".rstrip("0").rstrip("."), row.hardware, row.settings, row.source)
        for row in adapter.card.timing
    )
    return _table(("what", "ms", "hardware", "settings", "source"), rows)


def frames_table() -> str:
    """Ten seconds of speech: what each script makes of it, and what OmniRT prepares."""
    rows = [
        row
        for adapter in registry.adapters()
        for checkout, variant in _known_checkouts(adapter).values()
        for row in _frame_rows(adapter, checkout, variant)
    ]
    head = ("model", "checkout", "mode", "alone: chunks", "alone: frames", "lead", "prepared", "chunks", "video")
    return _table(head, rows)


def _frame_rows(adapter: SoulXScriptAdapter, checkout: CheckoutFacts, variant: Variant) -> Iterable[tuple[str, ...]]:
    defaults = adapter.defaults(checkout, variant, Backend.CPU)
    if not isinstance(variant, ScriptVariant):
        knobs = {key: KnobValue(value, "") for key, value in defaults.items()}
        geometry = adapter.geometry(checkout, knobs)
        yield (
            adapter.info.key,
            f"`{variant.name}`",
            f"{geometry.fps} fps",
            *_ten_in_blocks(adapter, variant, geometry),
        )
        return
    for kind in ("pro", "lite") if "model_type" in adapter.knobs() else ("",):
        values = {**defaults, "model_type": kind} if kind else defaults
        geometry = adapter.geometry(checkout, {key: KnobValue(value, "") for key, value in values.items()})
        for mode in frames.Mode:
            yield (
                adapter.info.key,
                f"`{variant.name}`{' ' + kind if kind else ''}",
                mode.value,
                *_ten(variant, geometry, mode),
            )


def _ten_in_blocks(adapter: SoulXScriptAdapter, variant: Variant, geometry: Geometry) -> tuple[str, ...]:
    alone = liveact_audio.block_count(10.0, geometry.fps)
    plan = adapter.audio_plan(variant, geometry, mode="", samples=TEN_SECONDS, duration_s=10.0, max_chunks=None)
    return (
        str(alone),
        str(liveact_audio.frame_count(alone)),
        "-",
        f"{plan.total_samples / SAMPLE_RATE:.2f} s {plan.form.value.upper()}",
        str(plan.chunks),
        f"{plan.frames} frames, {plan.frames / geometry.fps:g} s",
    )


def _ten(variant: ScriptVariant, geometry: Geometry, mode: frames.Mode) -> tuple[str, ...]:
    alone = frames.chunk_count(variant.loop, mode, geometry, TEN_SECONDS)
    plan = frames.plan(
        variant.loop,
        mode,
        geometry,
        samples=TEN_SECONDS,
        duration_s=10.0,
        surplus=frames.AAC_SURPLUS_SAMPLES if variant.audio_form is AudioForm.M4A else 0,
    )
    return (
        str(alone),
        str(frames.frame_count(variant.loop, mode, geometry, alone)),
        f"{plan.lead_samples / SAMPLE_RATE:g} s" if plan.lead_samples else "-",
        f"{plan.total_samples / SAMPLE_RATE:.2f} s {variant.audio_form.value.upper()}",
        str(plan.chunks),
        f"{plan.frames} frames, {plan.frames / geometry.fps:g} s",
    )


# --- checks and failures --------------------------------------------------------------------------


def video_checks_table() -> str:
    """The checks of a finished video, with the numbers that the code holds."""
    rows = (
        ("file", "is a regular file with bytes in it", "fails"),
        ("video_stream", "has a picture", "fails"),
        (
            "audio_stream",
            f"has sound, and it ends at most {verify.SOUND_TOLERANCE_S:g} s before the speech does",
            "fails",
        ),
        ("fps", f"within {verify.FPS_TOLERANCE:.1%} of the expected rate", "fails"),
        ("duration", f"within one frame and {verify.SOUND_TOLERANCE_S:g} s of the expected length", "fails"),
        (
            "size",
            f"the expected width and height, or those enlarged to multiples of {verify.MACRO_BLOCK} by the encoder",
            "fails",
        ),
        ("decode", "every frame that the header states can be decoded", "fails"),
        ("frame_count", "exactly the expected frames", "fails"),
        (
            "black",
            f"no black stretch of {judge.BLACK_RUN_S:g} s or more",
            f"fails; warns for a shorter one, a portrait darker than {judge.DARK_PORTRAIT:g} of 255, `--allow-black`",
        ),
        (
            "frozen",
            (
                f"no rest of {judge.STILL_RUN_S:g} s or more that overlaps {judge.SPEECH_IN_STILL_S:g} s of speech "
                f"({judge.SPEECH_IN_LAST_STILL_S:g} s for a rest up to the end)"
            ),
            "fails; warns with `--allow-frozen`",
        ),
        (
            "silent_audio",
            f"the loudest sample is over {audio.SILENT_PEAK_DBFS:g} dBFS, or the input is silent too",
            "fails",
        ),
        (
            "av_sync",
            f"lips within {judge.SYNC_LIMIT_S * 1000:.0f} ms of the sound",
            f"warns; skipped below {judge.SYNC_SPEECH_S:g} s of speech or {judge.SYNC_LENGTH_S:g} s of video",
        ),
        (
            "drift",
            (
                f"the last 5 s within {judge.DRIFT_LUMA:g} (brightness) of the portrait, "
                f"{judge.DRIFT_BACKGROUND:g} (background) and {judge.DRIFT_COLOUR:g} (colour) of the beginning"
            ),
            f"warns; skipped below {judge.DRIFT_LENGTH_S:g} s of video",
        ),
    )
    return _table(("check", "holds when", "otherwise"), ((f"`{name}`", rule, verdict) for name, rule, verdict in rows))


def skippable_table() -> str:
    """What `--skip-check` may leave out."""
    before = [name.value for name in CheckName if name in OPTIONAL]
    rows = (("before the launch", before), ("of the finished video", sorted(VIDEO_CHECKS)))
    return _table(("checks", "names"), ((when, ", ".join(f"`{name}`" for name in names)) for when, names in rows))


def failures_table() -> str:
    """Messages of scripts that OmniRT recognises."""
    rows = (
        (re.sub(r"(\{\w+\})+", "...", rule.message), str(int(rule.error.exit_code)), rule.hint)
        for rule in RULES
        if rule.standing is not Standing.GENERIC
    )
    return _table(("OmniRT says", "code", "what to do"), dict.fromkeys(rows))


def findings_table() -> str:
    """When a finished run is told what: each rule's docstring says it."""
    slow = (
        (
            "slower_than_before",
            (
                f"A phase took more than {slowness.SLOW_FACTOR:g} times the median of this machine's earlier runs of "
                f"the same kind (at least {slowness.RUNS_AT_LEAST}), and lies outside their spread."
            ),
        ),
        (
            "slower_than_published",
            (
                f"There are no such runs, and a time is more than {published_times.PUBLISHED_FACTOR:g} times the one "
                "that was published for this device and these settings."
            ),
        ),
    )
    rules = ((rule.__name__, (rule.__doc__ or "").partition("\n")[0]) for rule in diagnosis_rules.RULES)
    return _table(("finding", "told when"), ((f"`{name}`", when) for name, when in (*slow, *rules)))


# --- devices --------------------------------------------------------------------------------------

_GPUS = Inventory(
    Backend.CUDA,
    tuple(Device(str(number), f"cuda-{number}", uuid=f"GPU-ab{number}0-f00d") for number in range(4)),
    "nvml",
)
_NPUS = Inventory(Backend.ASCEND, tuple(Device(str(number), f"ascend-{number}") for number in range(4)), "npu-smi")
_LISTS = (
    (_NPUS, "1, 2", {}),
    (_NPUS, "3,2", {}),
    (_NPUS, "1,1", {}),
    (_NPUS, "01", {}),
    (_NPUS, "0,9", {}),
    (_NPUS, "npu0", {}),
    (_NPUS, "2", {"ASCEND_RT_VISIBLE_DEVICES": "0,1"}),
    (_GPUS, "0,GPU-ab10", {}),
    (_GPUS, "GPU-ab1,GPU-ab10", {}),
    (_GPUS, "GPU-ab", {}),
)
"""Lists that are refused on a machine of four devices: the flag's value, and the variable where it is set."""


def visibility_table() -> str:
    """Visibility lists that are refused, in the program's own words."""
    return _table(("kind", "`--visible-devices`", "what is said", "what to do"), map(_refusal, _LISTS))


def _refusal(case: tuple[Inventory, str, Mapping[str, str]]) -> tuple[str, ...]:
    there, flag, environ = case
    beside = "".join(f", with `{name}={value}`" for name, value in environ.items())
    try:
        resolve_visibility(there.kind, flag, environ, inventory=there)
    except errors.DevicesUnavailableError as error:
        return there.kind.value, f"`{flag}`{beside}", error.message, error.hint or ""
    raise AssertionError(f"{flag} is not refused")


def compile_cache_table() -> str:
    """Which variables lead a run to its compile cache."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in Backend:
            cache = arrange_compile_cache(
                kind, checkout=ROOT, revision=None, python=Path("python"), environ={}, root=Path(folder, "compile")
            )
            rows.append((kind.value, ", ".join(_variable(*item, cache) for item in cache.env.items()) or "none"))
    return _table(("backend", "variables"), rows)


def _variable(name: str, value: str, cache: CompileCache) -> str:
    shown = value.replace(str(cache.directory), "...") if cache.directory else value
    return f"`{name}={shown}`"


def pins_table() -> str:
    """Versions that somebody ran the checkouts with."""
    rows = (
        (
            pins.model,
            pins.backend.value,
            ", ".join(f"`{name}`" for name in pins.variants) or "any",
            _versions(pins),
            pins.source,
        )
        for pins in map(Pins.model_validate, load_yaml(config_text("pins.yaml"))["pins"])
    )
    return _table(("model", "backend", "checkout", "versions", "source"), rows)


def _versions(pins: Pins) -> str:
    versions = [f"Python {pins.python}"] if pins.python else []
    versions += [f"{name} {wanted}" for name, wanted in pins.packages.items()]
    return ", ".join(versions + [f"{name} {wanted} where it is there" for name, wanted in pins.optional.items()])


# --- the portrait ---------------------------------------------------------------------------------


def portrait_table() -> str:
    """What is advised about a portrait, with the limits that the code holds."""
    told = {
        AdviceName.ROTATED: "its EXIF orientation turns it",
        AdviceName.FLATTENED: "it has transparent parts; they become white",
        AdviceName.FIRST_FRAME: "it is an animation; the first frame is used",
        AdviceName.CONVERTED: "it is not plain RGB, or neither PNG nor JPEG",
        AdviceName.CROPPED: f"more than {portrait_advice.MOST_CUT_AWAY:.0%} of it is cut away to fit the video",
        AdviceName.ENLARGED: f"it is enlarged more than {portrait_advice.MOST_ENLARGED:g} times to fill the video",
        AdviceName.NO_FACE: "no face was found; one that is drawn, turned or half hidden can be missed",
        AdviceName.SEVERAL_FACES: "more than one face was found",
        AdviceName.SMALL_FACE: f"the face is less than {portrait_advice.SMALLEST_FACE_PX} pixels tall in the video",
        AdviceName.CUT_FACE: f"more than {portrait_advice.MOST_FACE_CUT:.0%} of the face is cut off by the crop",
    }
    rows = ((name.value.replace("_", " "), told[name], _when_told(name)) for name in AdviceName)
    return _table(("advice", "said when", "found"), rows)


def _when_told(name: AdviceName) -> str:
    return "while the model loads" if name.value.endswith(("face", "faces")) else "before the launch"


# --- tables ---------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [_row(head), _row(tuple("---" for _ in head))]
    return "\n".join(lines + [_row(row) for row in rows])


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    """One line; a star outside code would begin italics."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("*", "\\*") for number, part in enumerate(parts))


TABLES: Mapping[str, Callable[[], str]] = {
    "settings": settings_table,
    "frames": frames_table,
    "presets": presets_table,
    "visibility": visibility_table,
    "compile-cache": compile_cache_table,
    "pins": pins_table,
    "portrait": portrait_table,
    "video-checks": video_checks_table,
    "skippable": skippable_table,
    "failures": failures_table,
    "findings": findings_table,
}

MODEL_TABLES: Mapping[str, Callable[[SoulXScriptAdapter], str]] = {
    "knobs": knobs_table,
    "memory": memory_table,
    "host": host_table,
    "files": files_table,
    "processes": processes_table,
    "reference": reference_table,
}


def main() -> int:
    """Write or compare; the exit code says whether a page was stale."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    stale = 0
    for page, wanted in generated_pages().items():
        changes = difference(page, wanted)
        if not changes:
            continue
        if check and page == CLI_PAGE and recorded_typer() not in (None, typer.__version__):
            print(f"{page.name}: made with typer {recorded_typer()}, {typer.__version__} is installed; not compared")
            continue
        stale += 1
        print(changes if check else f"wrote {page.relative_to(ROOT)}")
        if not check:
            page.write_text(wanted, encoding="utf-8")
    if check and stale:
        print(f"{stale} stale page(s): run scripts/make_docs.py", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
