"""The one way to the files of `configs/`: package data of a wheel, the repository's folder in a source tree.

Nothing else opens them, so that the program works far from the repository.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Traversable


def config_file(*parts: str) -> Traversable:
    """A file or folder under `configs/`, e.g. `config_file("models", "soulx-flashtalk-14b.yaml")`.

    Raises:
        FileNotFoundError: The installation is incomplete.
    """
    found = _root().joinpath(*parts)
    if not found.is_file() and not found.is_dir():
        raise FileNotFoundError(f"OmniRT's own file configs/{'/'.join(parts)} is missing; install OmniRT again")
    return found


def config_text(*parts: str) -> str:
    """The text of a file under `configs/`.

    Raises:
        FileNotFoundError: The installation is incomplete.
    """
    return config_file(*parts).read_text(encoding="utf-8")


def _root() -> Traversable:
    packaged = files("omnirt_cli").joinpath("configs")
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "configs"
