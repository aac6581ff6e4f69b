"""YAML files that people write, read so that every complaint names file, line and column.

Safe loading only. Duplicate keys, tabs, wrong encodings and oversized files are refused; each value's line is kept for
`config show` and for error messages.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from omnirt_cli.errors import ConfigInvalidError, InputMissingError

MAX_BYTES = 1 << 20

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(text: str) -> Any:
    """Parse YAML safely, in C where PyYAML was built so.

    Raises:
        yaml.YAMLError: It is not YAML, or names a type that is not plain data.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - the C or Python *safe* loader


@dataclass(frozen=True)
class YamlDocument:
    """A mapping read from a file.

    Attributes:
        lines: Line number (from 1) of each key, by its path from the top.
    """

    path: Path
    data: Mapping[str, Any]
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def where(self, *keys: str) -> str:
        """`file:line` of a key, for messages."""
        line = self.lines.get(keys)
        return f"{self.path}:{line}" if line else str(self.path)

    def refuse(self, keys: tuple[str, ...], message: str, *, hint: str | None = None) -> ConfigInvalidError:
        """The error for a bad value, pointing at its line."""
        return ConfigInvalidError(f"{self.where(*keys)}: {message}", hint=hint or "correct it at that place")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a mistyped one most likely meant."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def load_mapping(path: Path) -> YamlDocument:
    """Read a YAML (or JSON) file whose top level is a mapping.

    Raises:
        InputMissingError: The file is not there or cannot be read.
        ConfigInvalidError: It is not YAML, not a mapping, too large, or repeats a key.
    """
    text = _read_text(path)
    try:
        return _parse(path, text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigInvalidError(f"{spot}: {error.problem or error}", hint="correct the YAML at that place") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigInvalidError(f"{path}: not readable as YAML: {error}") from error


def _parse(path: Path, text: str) -> YamlDocument:
    node = yaml.compose(text, Loader=_Loader)
    if node is None:
        return YamlDocument(path, {})
    if not isinstance(node, yaml.MappingNode):
        raise ConfigInvalidError(f"{path}:1: expected keys and values at the top level")
    lines: dict[tuple[str, ...], int] = {}
    _index_lines(path, node, (), lines)
    return YamlDocument(path, load_yaml(text), lines)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputMissingError(f"{path}: no such file") from error
    except OSError as error:
        raise InputMissingError(f"{path}: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigInvalidError(f"{path}: larger than {MAX_BYTES} bytes, which no settings file needs")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigInvalidError(f"{path}:{line}: not UTF-8", hint="save the file as UTF-8") from error


def _index_lines(
    path: Path, node: yaml.MappingNode, prefix: tuple[str, ...], lines: dict[tuple[str, ...], int]
) -> None:
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigInvalidError(f"{path}:{line}: a key must be a plain word")
        key = (*prefix, str(key_node.value))
        if key in lines:
            spot = f"{path}:{line}:{key_node.start_mark.column + 1}"
            raise ConfigInvalidError(
                f"{spot}: `{key_node.value}` is set twice (first in line {lines[key]})",
                hint="remove one of the two",
            )
        lines[key] = line
        if isinstance(value_node, yaml.MappingNode):
            _index_lines(path, value_node, key, lines)
