"""Run by a model's Python: says which of the named packages it has, and in which version, as one JSON document.

Standard library only. A package is looked for without importing it, unless `--import` asks for the real thing: that
takes as long as the script itself would, and shows what only importing shows (a missing shared library).

    python survey.py [--import] torch diffusers ...
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import platform
import sys


def main(argv: list[str]) -> int:
    """Print the document."""
    really = "--import" in argv
    names = [name for name in argv if not name.startswith("--")]
    print(  # noqa: T201 - this program's output
        json.dumps(
            {
                "python": platform.python_version(),
                "packages": {name: look(name, really=really) for name in names},
            }
        )
    )
    return 0


def look(name: str, *, really: bool) -> dict[str, str | None]:
    """Version and, where it cannot be used, why."""
    return {"version": version(name), "problem": problem(name, really=really)}


def problem(name: str, *, really: bool) -> str | None:
    """Why a package cannot be imported; None where it can."""
    try:
        if importlib.util.find_spec(name) is None:
            return "not installed"
        if really:
            importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - whatever an import raises, exits included, is the finding
        return f"{type(error).__name__}: {error}"[:300]
    return None


def version(name: str) -> str | None:
    """The version of the distribution that brings a package; None where it has none."""
    found = (_version(distribution) for distribution in (name, *distributions().get(name, ())))
    return next((version for version in found if version is not None), None)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


_KNOWN: dict[str, list[str]] = {}


def distributions() -> dict[str, list[str]]:
    """Top-level package -> the distributions that bring it."""
    if not _KNOWN:
        _KNOWN.update(importlib.metadata.packages_distributions())
    return _KNOWN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
