"""Checkpoint files are read into the page cache while the model's interpreter is still importing.

`sendfile` to /dev/null fills the page cache with what it passes on and hands nothing to this process: no memory of its
own, 0.03 s of processor time per GiB, the disk's full speed, and an end at any piece. (`posix_fadvise(WILLNEED)` takes
some MiB of a larger request and forgets the rest, and given small pieces it queues them all at once, past stopping.)
Nothing here may fail a run: a file that cannot be read is left to the script, which will say so.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnirt_cli.checkpoints import FileSet

SHARE_OF_FREE = 0.5
"""Of the memory that is free, at most this part is filled."""

SMALLEST_FILE = 16 << 20
"""Smaller files (tokenizers, configurations) are read in no time."""

_INDEX = ".index.json"
_PIECE = 4 << 20
_WINDOW = 1 << 30
_PATIENCE_S = 0.2
_PROT_READ, _MAP_SHARED = 1, 1
_FAILED = ctypes.c_void_p(-1).value


@dataclass(frozen=True)
class WeightFolder:
    """A directory that the script loads weights from.

    Attributes:
        names: What of it is loaded, in the order of loading, as glob patterns from the directory on; by default every
            file in it, in the order of the names.
    """

    path: Path
    names: tuple[str, ...] = ("**/*",)

    @classmethod
    def of(cls, found: FileSet) -> WeightFolder:
        """The files of a model's card, which lists them in the order of loading."""
        names = [
            name for row in found.files for name in ([row.file] if (found.folder / row.file).exists() else row.instead)
        ]
        return cls(found.folder, tuple(_pattern(name) for name in names))


@dataclass(frozen=True)
class Stretch:
    """The first `length` bytes of a file."""

    path: Path
    length: int


@dataclass(frozen=True)
class ReadAheadFacts:
    """What reading ahead did.

    Attributes:
        files: How many files were passed, the last perhaps in part.
        read_bytes: How much of them lies in the page cache for it.
        already_cached_bytes: How much of that was there before; None where the kernel does not tell, as for files that
            belong to somebody else.
        ms: From its start to its end.
        complete: It came to the end of what was planned.
    """

    files: int
    read_bytes: int
    already_cached_bytes: int | None
    ms: float
    complete: bool


def plan_read_ahead(folders: Iterable[WeightFolder], free_bytes: int) -> tuple[Stretch, ...]:
    """What to read, in the order in which it is loaded, within half of what is free.

    Args:
        folders: What the script loads from, in order.
        free_bytes: Memory that this process may still use, the page cache's reclaimable part included.
    """
    left = int(free_bytes * SHARE_OF_FREE)
    stretches = []
    for path, size in _weights(folders):
        length = min(size, left)
        if length <= 0:
            break
        stretches.append(Stretch(path, length))
        left -= length
    return tuple(stretches)


class ReadAhead:
    """A thread that reads stretches of files into the page cache; `stop` it when the weights are loaded."""

    def __init__(self, stretches: Iterable[Stretch]) -> None:
        self._stretches = tuple(stretches)
        self._stop = threading.Event()
        self._files = 0
        self._read = 0
        self._cached: int | None = 0
        self._complete = False
        self._began = time.monotonic()
        self._ended: float | None = None
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)

    @classmethod
    def start(cls, stretches: Iterable[Stretch]) -> ReadAhead:
        """Begin at once, in the background."""
        ahead = cls(stretches)
        ahead._thread.start()
        return ahead

    def stop(self) -> ReadAheadFacts:
        """End it, if it has not ended, and say what was read.

        Waits for the piece in hand, but not for a file system that hangs: the thread then ends with its answer.
        """
        self._stop.set()
        self._thread.join(_PATIENCE_S)
        ended = self._ended or time.monotonic()
        return ReadAheadFacts(
            files=self._files,
            read_bytes=self._read,
            already_cached_bytes=self._cached,
            ms=round((ended - self._began) * 1000, 3),
            complete=self._complete,
        )

    def _run(self) -> None:
        try:
            with Path(os.devnull).open("wb", buffering=0) as nowhere:
                for stretch in self._stretches:
                    if self._stop.is_set():
                        return
                    # A file that cannot be read is the script's to report.
                    with contextlib.suppress(OSError):
                        self._pass(stretch, nowhere.fileno())
            self._complete = not self._stop.is_set()
        finally:
            self._ended = time.monotonic()

    def _pass(self, stretch: Stretch, nowhere: int) -> None:
        with stretch.path.open("rb", buffering=0) as file:
            self._files += 1
            for start in range(0, stretch.length, _WINDOW):
                end = min(start + _WINDOW, stretch.length)
                if not self._pass_window(file.fileno(), start, end, nowhere):
                    return

    def _pass_window(self, descriptor: int, start: int, end: int, nowhere: int) -> bool:
        """Read from `start` to `end`; False where the file ends sooner, or the reading shall."""
        self._note_cached(descriptor, start, end - start)
        while start < end and not self._stop.is_set():
            sent = os.sendfile(nowhere, descriptor, start, min(_PIECE, end - start))
            if not sent:
                return False
            start += sent
            self._read += sent
        return not self._stop.is_set()

    def _note_cached(self, descriptor: int, start: int, length: int) -> None:
        if self._cached is None:
            return
        cached = cached_bytes(descriptor, length, start=start)
        self._cached = None if cached is None else self._cached + cached


def cached_bytes(descriptor: int, length: int, *, start: int = 0) -> int | None:
    """How much of a stretch of an open file lies in the page cache; None where that is not told.

    The kernel answers only for files that the caller owns or may write, and says "all" of others (mincore(2)).
    """
    if not _may_ask(descriptor):
        return None
    end = start + length
    try:
        return sum(_cached_in_window(descriptor, at, min(_WINDOW, end - at)) for at in range(start, end, _WINDOW))
    except OSError:
        return None


def _may_ask(descriptor: int) -> bool:
    if os.geteuid() in {0, os.fstat(descriptor).st_uid}:
        return True
    return os.access(f"/proc/self/fd/{descriptor}", os.W_OK, effective_ids=True)


def _cached_in_window(descriptor: int, start: int, length: int) -> int:
    """One call for at most a GiB: one byte per page comes back.

    Raises:
        OSError: The file cannot be mapped or asked about.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    libc = _libc()
    address = libc.mmap(None, length, _PROT_READ, _MAP_SHARED, descriptor, start)
    if address in (None, _FAILED):
        raise OSError(ctypes.get_errno(), "mmap")
    pages = ctypes.create_string_buffer(-(-length // page))
    try:
        if libc.mincore(address, length, pages):
            raise OSError(ctypes.get_errno(), "mincore")
    finally:
        libc.munmap(address, length)
    return min(pages.raw[: -(-length // page)].count(1) * page, length)


def _libc() -> ctypes.CDLL:
    """The C library, for the two calls that Python's `mmap` module has no address for."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


def _pattern(name: str) -> str:
    """A file; for an index, the shards beside it, as `save_pretrained` of diffusers and transformers names them."""
    if not name.endswith(_INDEX):
        return glob.escape(name)
    whole = PurePosixPath(name.removesuffix(_INDEX))
    return f"{glob.escape(str(whole.with_suffix('')))}-*-of-*{whole.suffix}"


def _weights(folders: Iterable[WeightFolder]) -> Iterator[tuple[Path, int]]:
    """Every large regular file once, however many names lead to it, with its size in bytes."""
    seen = set()
    for folder in folders:
        for pattern in folder.names:
            for path in sorted(folder.path.glob(pattern)):
                with contextlib.suppress(OSError):
                    found = path.stat()
                    identity = (found.st_dev, found.st_ino)
                    if found.st_size >= SMALLEST_FILE and path.is_file() and identity not in seen:
                        seen.add(identity)
                        yield path, found.st_size
