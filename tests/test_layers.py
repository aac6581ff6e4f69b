"""The house rules that imports can show: arrows point one way, and what must stand alone does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = (
    (
        "errors",
        "bounded",
        "secrets",
        "console_plain",
        "files",
        "config_data",
        "yaml_document",
        "checks",
        "finding",
        "report",
    ),
    ("checkout", "checkout_imports", "request"),
    ("models",),
    ("devices", "media", "console", "checkpoints"),
    ("inputs", "settings", "output_paths", "runs", "memory_budget", "host_memory", "resident"),
    ("plan", "preflight", "portrait_check", "picture"),
    ("draft",),
    ("planner", "placement"),
    ("run",),
    ("display", "event_stream", "signals", "engine", "envelopes", "doctor"),
    ("bench", "client", "server"),
    ("cli_options",),
    ("commands",),
    ("app",),
    ("main",),
)
"""From the ground up: a module imports from its own floor and from those below."""

MODEL_NAMES = ("flashtalk", "flashhead", "liveact")


def _modules(package: str) -> list[Path]:
    return [path for path in (ROOT / package).rglob("*.py") if "miniature" not in path.parts]


def _imports(path: Path) -> Iterator[str]:
    """Absolute imports that run; those for type checkers alone are no arrows."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def _floor(module: str) -> int | None:
    room = module.removeprefix("omnirt_cli.").split(".")[0]
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), None)


def test_every_module_has_its_floor() -> None:
    rooms = {path.relative_to(ROOT / "omnirt_cli").parts[0].removesuffix(".py") for path in _modules("omnirt_cli")}

    assert rooms - {room for floor in FLOORS for room in floor} == {"__init__"}


@pytest.mark.parametrize("path", _modules("omnirt_cli"), ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_down(path: Path) -> None:
    own = _floor("omnirt_cli." + path.relative_to(ROOT / "omnirt_cli").parts[0].removesuffix(".py"))
    if own is None:
        return
    upward = {
        module
        for module in _imports(path)
        if module.startswith("omnirt_cli.") and (floor := _floor(module)) is not None and floor > own
    }

    assert upward == set()


def test_launchers_know_nothing_above_them() -> None:
    for path in _modules("launchers"):
        assert not [module for module in _imports(path) if module.startswith("omnirt")], path


def test_the_miniature_imports_nothing_of_omnirt_and_is_never_imported() -> None:
    for path in (ROOT / "omnirt_cli" / "miniature").rglob("*.py"):
        assert not [module for module in _imports(path) if module.startswith(("omnirt", "launchers"))], path
    for path in (*_modules("omnirt_cli"), *_modules("omnirt"), *_modules("launchers")):
        assert not [module for module in _imports(path) if "miniature" in module], path


def test_no_branch_outside_models_asks_for_a_model_by_name() -> None:
    for path in _modules("omnirt_cli"):
        if "models" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                text = ast.dump(node).lower()
                assert not any(name in text for name in MODEL_NAMES), f"{path}:{node.lineno}"


def test_modules_stay_short_enough_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for package in ("omnirt_cli", "launchers", "omnirt")
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 600
    }

    assert long == {}


def test_functions_stay_on_one_screen() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": length
        for package in ("omnirt_cli", "launchers", "omnirt")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > 100
    }

    assert long == {}
