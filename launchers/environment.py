"""The environment that a launcher gets, made from four layers by fixed rules.

Pure functions over mappings: nothing here reads `os.environ` or starts anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ASCEND_VISIBILITY = "ASCEND_RT_VISIBLE_DEVICES"
CUDA_VISIBILITY = "CUDA_VISIBLE_DEVICES"
VISIBILITY_VARIABLES = frozenset({ASCEND_VISIBILITY, CUDA_VISIBILITY})

FOREIGN_NAMES = frozenset({"RANK", "WORLD_SIZE", "PYTHON_EXEC", "PYTHONHOME", "VIRTUAL_ENV"})
"""A rank's place in somebody else's job, and another Python's home."""

FOREIGN_PREFIXES = ("LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "PET_", "LOGURU_")
"""The same by family: torchrun's own variables, its defaults (`PET_*`), and the format of the log that is
parsed."""

EMPTY_IS_AN_ERROR = "FLASHTALK_"
"""Scripts turn these into numbers when they are imported; an empty one ends every rank."""

FIXED = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LOGURU_COLORIZE": "NO",
}
"""Output arrives as it is printed, no checkout is written to, log lines carry no colour."""


@dataclass(frozen=True)
class ComposedEnvironment:
    """A child's environment, and how it differs from what was there.

    Attributes:
        env: What the child gets, all of it.
        assigned: What OmniRT and the user's own `--env` put there.
        removed: Names that were there before and that the child does not get.
        from_script: Names that the env script added or changed and that reach the child so.
    """

    env: Mapping[str, str]
    assigned: Mapping[str, str]
    removed: tuple[str, ...] = ()
    from_script: tuple[str, ...] = ()


def clean_environment(
    env: Mapping[str, str], *, visibility: str | None, own_roots: Iterable[Path] = ()
) -> dict[str, str]:
    """What of an environment may reach a model's script.

    Args:
        env: Any environment.
        visibility: The one visibility variable that stays; None (on the CPU) removes every vendor's.
        own_roots: Directories that OmniRT itself is imported from; they leave `PYTHONPATH`.
    """
    kept = {name: value for name, value in env.items() if not _is_foreign(name, value, visibility)}
    if "PYTHONPATH" in kept:
        python_path = _without_roots(kept.pop("PYTHONPATH"), own_roots)
        kept |= {"PYTHONPATH": python_path} if python_path else {}
    return kept


def compose_environment(
    base: Mapping[str, str],
    *,
    visibility: str | None,
    own_roots: Iterable[Path] = (),
    script_env: Mapping[str, str] | None = None,
    overlay: Mapping[str, str] | None = None,
    user: Mapping[str, str] | None = None,
) -> ComposedEnvironment:
    """Lay the layers over each other; a later one wins.

    The order is: the base, cleaned; or what the env script made of it, cleaned by the same rules; the fixed
    values; OmniRT's overlay; what the user gives.

    Args:
        base: OmniRT's own environment.
        visibility: See `clean_environment`.
        own_roots: See `clean_environment`.
        script_env: The whole environment after the env script ran, where there is one.
        overlay: What OmniRT sets for this run: visibility, the run's mark, the model's variables.
        user: `--env`; it may set anything, even what the cleaning removes.
    """
    roots = tuple(own_roots)
    before = clean_environment(base, visibility=visibility, own_roots=roots)
    cleaned = before
    if script_env is not None:
        cleaned = clean_environment(script_env, visibility=visibility, own_roots=roots)
    assigned = {**FIXED, **(overlay or {}), **(user or {})}
    env = {**cleaned, **assigned}
    return ComposedEnvironment(
        env=env,
        assigned=assigned,
        removed=tuple(sorted((set(base) | set(script_env or ())) - set(env))),
        from_script=tuple(
            sorted(name for name, value in cleaned.items() if name not in assigned and before.get(name) != value)
        ),
    )


def _is_foreign(name: str, value: str, visibility: str | None) -> bool:
    if name in VISIBILITY_VARIABLES:
        return name != visibility
    if name.startswith(EMPTY_IS_AN_ERROR):
        return not value
    return name in FOREIGN_NAMES or name.startswith(FOREIGN_PREFIXES)


def _without_roots(python_path: str, own_roots: Iterable[Path]) -> str:
    """`PYTHONPATH` without the entries that lead to one of the roots, by whatever spelling."""
    roots = {os.path.realpath(root) for root in own_roots}
    entries = python_path.split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if not entry or os.path.realpath(entry) not in roots)
