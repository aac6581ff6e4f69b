"""Where the compilers under a model keep what they compiled, so that the next cold start finds it.

One directory per checkout, revision, interpreter and kind of device. PyTorch's own default is a directory in /tmp,
which a reboot empties. The driver's cache (`CUDA_CACHE_PATH`) is in the home directory anyway and is left alone.
Nothing here may fail a run: where no directory can be had, the variables stay unset, and the note says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omnirt_cli.models.base import Backend

UNUSED_DAYS = 60
"""A cache that no run has used for so long is removed."""

_STAMP = ".last-used"
_KEY = re.compile(r"[0-9a-f]{16}")
_CANN_PATH = re.compile(r"[A-Za-z0-9_./\u4e00-\u9fff-]+")
"""Letters, digits and Chinese characters: what CANN's reference allows in a path."""


@dataclass(frozen=True)
class _Tool:
    """One compiler's cache.

    Attributes:
        folders: Variables that name a directory, each with the name that it has below ours.
        values: Variables that are set to something else along with it.
        decided_by: Further variables that would have a say; where any of all these is set, somebody else has chosen.
        path: What a directory must look like for this compiler to take it.
    """

    folders: Mapping[str, str]
    values: Mapping[str, str] = field(default_factory=dict)
    decided_by: tuple[str, ...] = ()
    path: re.Pattern[str] | None = None

    def is_chosen_in(self, environ: Mapping[str, str]) -> bool:
        return any(name in environ for name in (*self.folders, *self.values, *self.decided_by))

    def takes(self, directory: Path) -> bool:
        return self.path is None or self.path.fullmatch(str(directory)) is not None

    def variables(self, directory: Path) -> dict[str, str]:
        return {**{name: str(directory / folder) for name, folder in self.folders.items()}, **self.values}


_INDUCTOR = _Tool(folders={"TORCHINDUCTOR_CACHE_DIR": "inductor"})
"""torch/_inductor/runtime/cache_dir_utils.py at 2.13, where the graph cache in it is on by default."""

_TRITON = _Tool(folders={"TRITON_CACHE_DIR": "triton"}, decided_by=("TRITON_HOME",))
"""Triton's own knob; kernels that do not come from Inductor go to ~/.triton/cache without it."""

_CANN = _Tool(
    folders={"ACL_OP_COMPILER_CACHE_DIR": "cann"},
    values={"ACL_OP_COMPILER_CACHE_MODE": "enable"},
    decided_by=("ASCEND_CACHE_PATH",),
    path=_CANN_PATH,
)
"""torch_npu's reference of environment variables: the one counts only with the other, and both before
`ASCEND_CACHE_PATH`, which would move a user's tuning results as well. CANN keeps it under 500 MB a device by itself
(`ASCEND_MAX_OP_CACHE_SIZE`), locks its files, and wants a directory that is there."""

_TOOLS = {Backend.CUDA: (_INDUCTOR, _TRITON), Backend.ASCEND: (_INDUCTOR, _CANN), Backend.CPU: ()}


@dataclass(frozen=True)
class CompileCache:
    """What was arranged for one run.

    Attributes:
        env: Variables for the child; empty where the user has chosen all of them, on the CPU, and without a directory.
        directory: What they name; None with no `env`.
        warm: Something compiled was there already.
        note: Why there is none although one was wanted.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    warm: bool = False
    note: str | None = None


def default_root() -> Path:
    """The directory of all compile caches of this user."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("omnirt")) / "compile"


def arrange_compile_cache(
    kind: Backend,
    *,
    checkout: Path,
    revision: str | None,
    python: Path,
    environ: Mapping[str, str],
    root: Path,
) -> CompileCache:
    """Make the cache of this checkout ready, and say which variables lead the child to it.

    Args:
        kind: What the model computes on.
        checkout: The checkout's directory.
        revision: Its git revision; None where it has none.
        python: The model's interpreter: another one may bring another PyTorch.
        environ: What the child gets without this: the caller's environment, the env script's, and `--env`.
        root: See `default_root`.
    """
    directory = root / kind.value / _key(checkout, revision, python)
    wanted = [tool for tool in _TOOLS[kind] if not tool.is_chosen_in(environ)]
    tools = [tool for tool in wanted if tool.takes(directory)]
    note = None if tools == wanted else f"no operator cache: CANN takes no path like {directory}"
    if not tools:
        return CompileCache(note=note)
    try:
        warm = _make_ready(root, directory, [name for tool in tools for name in tool.folders.values()])
    except OSError as error:
        return CompileCache(note=f"no compile cache in {directory}: {error.strerror or error}")
    env = {name: value for tool in tools for name, value in tool.variables(directory).items()}
    return CompileCache(env, directory, warm, note)


def prune_compile_caches(root: Path, *, now: float | None = None) -> tuple[Path, ...]:
    """Remove the caches that no run has used for `UNUSED_DAYS`, and nothing else; return what is gone.

    Removing gigabytes takes seconds; call it while a model loads.

    Args:
        root: See `default_root`.
        now: Seconds since the epoch; the present by default.
    """
    oldest = (time.time() if now is None else now) - UNUSED_DAYS * 86400
    removed = []
    for kind in Backend:
        for directory in _subfolders(root / kind.value):
            if _KEY.fullmatch(directory.name) and _last_used(directory) < oldest:
                shutil.rmtree(directory, ignore_errors=True)
                removed.append(directory)
    return tuple(path for path in removed if not path.exists())


def _key(checkout: Path, revision: str | None, python: Path) -> str:
    parts = (os.path.realpath(checkout), revision or "", str(python))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _make_ready(root: Path, directory: Path, folders: list[str]) -> bool:
    """Make the directories, mark the cache as used now; True where something was in it before.

    What is kept there is loaded as code: a directory that somebody else could write is no cache.

    Raises:
        OSError: A directory cannot be made, or is not this user's alone.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    for path in (root, directory.parent, directory, *(directory / name for name in folders)):
        _make_private(path)
    warm = any(entry for name in folders for entry in (directory / name).iterdir())
    (directory / _STAMP).touch()
    return warm


def _make_private(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(0, f"{path} is no directory")
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(0, f"others may write {path}")


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    except OSError:
        return []


def _last_used(directory: Path) -> float:
    """Seconds since the epoch; now where nothing can be told."""
    for path in (directory / _STAMP, directory):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return time.time()
