"""Which packages of its Python a checkout needs, followed from its script through its own modules by reading alone.

Only what is imported unconditionally at a module's top counts as needed; an import inside `try` is optional, one inside
a function is left to the run.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_MAX_FILES = 400
_MAX_FILE_BYTES = 2_000_000


@dataclass(frozen=True)
class CheckoutImports:
    """Top-level names of packages outside the checkout and the standard library.

    Attributes:
        needed: Without one of them the script cannot start.
        optional: Tried, and done without.
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...]


@dataclass(frozen=True)
class _Import:
    module: str
    optional: bool


def read_imports(root: Path, script: Path) -> CheckoutImports:
    """Follow a script's imports.

    Args:
        root: The checkout; modules in it are followed, others are noted.
        script: Its entry script.
    """
    found: dict[str, bool] = {}
    waiting, seen = [script], {script}
    while waiting and len(seen) <= _MAX_FILES:
        file = waiting.pop()
        for item in _imports_of(file, root):
            own = _own_files(root, item.module)
            if own:
                fresh = [path for path in own if path not in seen]
                seen.update(fresh)
                waiting += fresh
                continue
            top = item.module.split(".")[0]
            if top not in sys.stdlib_module_names and not _own_files(root, top):
                found[top] = found.get(top, True) and item.optional
    return CheckoutImports(
        needed=tuple(sorted(name for name, optional in found.items() if not optional)),
        optional=tuple(sorted(name for name, optional in found.items() if optional)),
    )


def _imports_of(file: Path, root: Path) -> Iterator[_Import]:
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            return
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    package = file.relative_to(root).with_suffix("").parts[:-1] if file.is_relative_to(root) else ()
    yield from _walk(tree.body, package, optional=False)


def _walk(body: Iterable[ast.stmt], package: tuple[str, ...], *, optional: bool) -> Iterator[_Import]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (_Import(alias.name, optional) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (_Import(module, optional) for module in _from_modules(node, package))
        elif isinstance(node, ast.Try):
            yield from _walk(node.body, package, optional=True)
            yield from _walk(node.orelse, package, optional=True)
        elif isinstance(node, ast.If) and not _is_for_types(node.test):
            yield from _walk([*node.body, *node.orelse], package, optional=True)


def _is_for_types(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in ast.dump(test)


def _from_modules(node: ast.ImportFrom, package: tuple[str, ...]) -> Iterator[str]:
    """The module itself, and each name, which may be a submodule."""
    base = package[: len(package) - node.level + 1] if node.level else ()
    module = ".".join((*base, *((node.module,) if node.module else ())))
    if not module:
        return
    yield module
    yield from (f"{module}.{alias.name}" for alias in node.names if alias.name != "*")


def _own_files(root: Path, module: str) -> list[Path]:
    """The checkout's files that a dotted name loads: the packages on the way, and the module; empty for others'."""
    parts = module.split(".")
    found: list[Path] = []
    for length in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:length])
        found += [path for path in (place / "__init__.py", place.with_name(place.name + ".py")) if path.is_file()]
    return found or ([root / parts[0]] if (root / parts[0]).is_dir() and len(parts) == 1 else [])
