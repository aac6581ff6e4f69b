"""Whether the weights that a script is going to open are there and whole, by looks alone.

A download that stopped half-way costs minutes of loading before the script says so. What can be seen cheaply is looked
at: names, sizes, the first and the last bytes. Nothing is hashed, and no file is read at length. Which files a model
needs stands in its card; nothing here knows a model.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from omnirt_cli.errors import InputMissingError
from omnirt_cli.models.base import KnobValue, ModelAdapter, values_of
from omnirt_cli.models.card import CheckpointFile

if TYPE_CHECKING:
    from omnirt_cli.checkout import CheckoutFacts

NAMED_AT_MOST = 6
"""Problems that an error spells out; the rest are counted."""

_POINTER = b"version https://git-lfs"
_POINTER_BYTES = 1024
_HEADER_BYTES = 100 << 20
_DOCUMENT_BYTES = 16 << 20
_UNFINISHED = (".incomplete", ".part", ".partial", ".aria2", ".crdownload", ".download", ".tmp")
"""What downloaders append to a name while they are at it."""
_HUB_DOWNLOADS = PurePosixPath(".cache/huggingface/download")
_ZIP_START, _ZIP_END, _ZIP_END_BYTES = b"PK\x03\x04", b"PK\x05\x06", 22


class ProblemKind(str, Enum):
    """What is wrong with a file."""

    MISSING = "missing"
    HALF_DOWNLOADED = "half_downloaded"
    LFS_POINTER = "lfs_pointer"
    EMPTY = "empty"
    WRONG_SIZE = "wrong_size"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Problem:
    """One file that a run would stumble over.

    Attributes:
        path: Absolute.
        detail: What was seen, to be read after the file's name.
        expected: Bytes it should have (or have at least), where sizes tell.
        actual: Bytes it has.
    """

    kind: ProblemKind
    path: Path
    detail: str
    expected: int | None = None
    actual: int | None = None


@dataclass(frozen=True)
class FileSet:
    """The files that must lie in one folder.

    Attributes:
        name: What the folder is called in settings, e.g. `ckpt_dir`.
    """

    name: str
    folder: Path
    files: tuple[CheckpointFile, ...]


def file_sets(
    adapter: ModelAdapter, checkout: CheckoutFacts, knobs: Mapping[str, KnobValue], *, ckpt_dir: Path, wav2vec_dir: Path
) -> tuple[FileSet, ...]:
    """Which files a run with these settings opens, by folder. None for a miniature, which has no weights."""
    if checkout.miniature:
        return ()
    values = values_of(knobs)
    files: dict[str, list[CheckpointFile]] = {}
    for row in adapter.checkpoint_files(knobs):
        if not row.itself:
            files.setdefault(row.folder, []).append(row)
    known = {"ckpt_dir": ckpt_dir, "wav2vec_dir": wav2vec_dir}
    folders = tuple(
        FileSet(name, known[name] if name in known else _named(values.get(name), checkout.path, ckpt_dir), tuple(rows))
        for name, rows in files.items()
    )
    single = (
        _single(row, checkout.path / Path(str(values[row.folder])).expanduser())
        for row in adapter.checkpoint_files(knobs)
        if row.itself and values.get(row.folder)
    )
    return (*folders, *single)


def _single(row: CheckpointFile, path: Path) -> FileSet:
    """A file that a knob names by itself."""
    return FileSet(row.folder, path.parent, (row.model_copy(update={"file": path.name}),))


def _named(value: Any, root: Path, otherwise: Path) -> Path:
    return root / str(value) if value else otherwise


def require_whole(found: FileSet) -> None:
    """Refuse a folder whose files are not all there and whole.

    Raises:
        InputMissingError: They are not; it names what is wrong with the first of them, and what to do.
    """
    problems = inspect_checkpoint(found.folder, found.files)
    if not problems:
        return
    told = [f"{_within(found.folder, problem.path)} {problem.detail}" for problem in problems[:NAMED_AT_MOST]]
    more = len(problems) - NAMED_AT_MOST
    rest = f"; and {more} more" if more > 0 else ""
    raise InputMissingError(
        f"{found.name} {found.folder} is not whole: {'; '.join(told)}{rest}", hint=_advice(found, problems)
    )


def inspect_checkpoint(folder: Path, files: Sequence[CheckpointFile]) -> list[Problem]:
    """Look at the files of one folder.

    Args:
        folder: Where they must lie.
        files: As the card lists them, those of this folder only.

    Returns:
        What is wrong, in the order of the list; empty where nothing is.
    """
    if not folder.is_dir():
        return [Problem(ProblemKind.MISSING, folder, "is no folder")]
    return [problem for row in files for problem in _look_at_row(folder, row)]


def _look_at_row(folder: Path, row: CheckpointFile) -> list[Problem]:
    problems = _look_at(folder, folder / row.file, row)
    if not problems or not row.instead:
        return problems
    instead = [problem for name in row.instead for problem in _look_at(folder, folder / name)]
    # A stand-in that is there but broken is what the user has, and what must be told.
    there = any((folder / name).exists() for name in row.instead) and not (folder / row.file).exists()
    return instead if there or not instead else problems


def _look_at(folder: Path, path: Path, row: CheckpointFile | None = None) -> list[Problem]:
    """One file, and the shards that it lists."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            return [Problem(ProblemKind.UNREADABLE, path, "is not a file")]
        problem = _of_size(path, facts.st_size, row) or _of_content(path, facts.st_size)
        if problem:
            return [problem]
        return list(_of_shards(folder, path)) if path.name.endswith(".index.json") else []
    except (FileNotFoundError, NotADirectoryError):
        return [_missing(folder, path)]
    except OSError as error:
        return [Problem(ProblemKind.UNREADABLE, path, f"cannot be read ({error.strerror})")]


# --- what is not there ----------------------------------------------------------------------------


def _missing(folder: Path, path: Path) -> Problem:
    if path.is_symlink():
        return Problem(ProblemKind.MISSING, path, f"points to {path.readlink()}, which is not there")
    place = next(_unfinished(folder, path), None)
    if place:
        return Problem(ProblemKind.HALF_DOWNLOADED, path, f"is not there; an unfinished download is ({place})")
    return Problem(ProblemKind.MISSING, path, "is not there")


def _unfinished(folder: Path, path: Path) -> Iterator[Path]:
    """Where a downloader left what it had of a file. The hub's own names do not tell of which."""
    for suffix in _UNFINISHED:
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            yield beside
    hub = folder / _HUB_DOWNLOADS / _within(folder, path).parent
    places = [hub, folder.parents[1] / "blobs"] if folder.parent.name == "snapshots" else [hub]
    for place in places:
        yield from sorted(place.glob("*.incomplete"))


# --- what is there but not whole ------------------------------------------------------------------


def _of_size(path: Path, size: int, row: CheckpointFile | None) -> Problem | None:
    if path.with_name(path.name + ".aria2").exists():
        # aria2 gives a file its full length at once.
        return Problem(ProblemKind.HALF_DOWNLOADED, path, "is still being downloaded, or its download stopped (aria2)")
    if size == 0:
        return Problem(ProblemKind.EMPTY, path, "is empty")
    if size < _POINTER_BYTES and _head(path).startswith(_POINTER):
        return Problem(ProblemKind.LFS_POINTER, path, "is a git-lfs pointer, not the file itself")
    if row and row.size and size != row.size:
        detail = f"has {size} bytes instead of {row.size}"
        return Problem(ProblemKind.WRONG_SIZE, path, detail, expected=row.size, actual=size)
    if row and row.least and size < row.least:
        detail = f"has {size} bytes; the whole file has more than {row.least}"
        return Problem(ProblemKind.WRONG_SIZE, path, detail, expected=row.least, actual=size)
    return None


def _of_content(path: Path, size: int) -> Problem | None:
    head = _head(path)
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return Problem(ProblemKind.UNREADABLE, path, "is a web page, as a refused download leaves it")
    if path.suffix == ".safetensors":
        return _of_safetensors(path, size)
    if path.suffix in (".pth", ".pt", ".bin") and head.startswith(_ZIP_START):
        whole = _tail(path, size, _ZIP_END_BYTES).startswith(_ZIP_END)
        return None if whole else Problem(ProblemKind.TRUNCATED, path, "is cut off (its table of contents is missing)")
    if path.suffix == ".json":
        return _of_json(path, size)
    return None


def _of_json(path: Path, size: int) -> Problem | None:
    """The ends alone: tokenizers are large, and a cut is always at the end."""
    first, last = _head(path).lstrip()[:1], _tail(path, size, _POINTER_BYTES).rstrip()[-1:]
    if (first, last) in ((b"{", b"}"), (b"[", b"]")):
        return None
    return Problem(ProblemKind.UNREADABLE, path, "is not whole JSON")


def _of_safetensors(path: Path, size: int) -> Problem | None:
    """The header says how long the file must be."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _HEADER_BYTES:
            return Problem(ProblemKind.UNREADABLE, path, "is no safetensors file")
        if 8 + length > size:
            return _cut(path, 8 + length, size)
        data = _data_bytes(file.read(length))
    if data is None:
        return Problem(ProblemKind.UNREADABLE, path, "is no safetensors file: its header cannot be read")
    return _cut(path, 8 + length + data, size) if size != 8 + length + data else None


def _cut(path: Path, expected: int, size: int) -> Problem:
    if size < expected:
        detail = f"is cut off: it has {size} bytes of {expected}"
        return Problem(ProblemKind.TRUNCATED, path, detail, expected=expected, actual=size)
    detail = f"has {size} bytes, and its header speaks of {expected}"
    return Problem(ProblemKind.WRONG_SIZE, path, detail, expected=expected, actual=size)


def _data_bytes(header: bytes) -> int | None:
    """Where the last tensor ends, after the header; None where that cannot be read."""
    try:
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        return max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        return None


def _of_shards(folder: Path, index: Path) -> Iterator[Problem]:
    """The shards that an index lists; they lie beside it."""
    names = _shards(index)
    if not names:
        yield Problem(ProblemKind.UNREADABLE, index, "lists no files")
    for name in names:
        if PurePosixPath(name).name != name:
            yield Problem(ProblemKind.UNREADABLE, index, f"names {name!r}, which is not a file beside it")
        else:
            yield from _look_at(folder, index.with_name(name))


def _shards(index: Path) -> list[str]:
    with index.open("rb") as file:
        text = file.read(_DOCUMENT_BYTES)
    try:
        return sorted({str(name) for name in json.loads(text)["weight_map"].values()})
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return []


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_POINTER_BYTES)


def _tail(path: Path, size: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, size - count))
        return file.read(count)


# --- in words -------------------------------------------------------------------------------------


def _within(folder: Path, path: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(folder)) if path != folder else PurePosixPath(path.name)


def _advice(found: FileSet, problems: Sequence[Problem]) -> str:
    kinds = {problem.kind for problem in problems}
    flag = "--" + found.name.replace("_", "-")
    advice = []
    if ProblemKind.LFS_POINTER in kinds:
        advice.append(f"run `git lfs pull` in {found.folder}")
    if kinds & {ProblemKind.HALF_DOWNLOADED, ProblemKind.EMPTY, ProblemKind.WRONG_SIZE, ProblemKind.TRUNCATED}:
        advice.append("download what is not whole again")
    if kinds & {ProblemKind.MISSING, ProblemKind.UNREADABLE}:
        advice.append(f"check {flag}, or download what is missing")
    return "; ".join(advice)
