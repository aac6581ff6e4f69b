"""The index of runs: one SQLite table that can be made anew from the runs' reports at any time.

Whoever has it open holds a shared lock on a file beside it; whoever creates or replaces it holds that lock alone.
SQLite removes its `-wal` file by name when the last connection closes, so that a database must never be replaced
under a connection. Everything here may raise `sqlite3.Error` or `OSError`; callers decide what that means.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from omnirt_cli.report import RunStatus
from omnirt_cli.runs.entry import Likeness, RunEntry
from omnirt_cli.runs.place import DataPlace

SCHEMA = 1
WAIT_S = 1.0
"""How long a busy index is waited for, once for its lock and once for SQLite's own."""

_DAY_S = 86_400.0
_MOST_KEPT_ASIDE = 9
_SIDE_FILES = ("", "-wal", "-shm")
_COLUMNS = tuple(RunEntry.model_fields)
_NUMBERS = {"processes", "chunk_count", "width", "height", "frames", "pid", "pid_start"}
_REALS = {name for name in _COLUMNS if name.endswith(("_ms", "rtf"))}

Answer = TypeVar("Answer")


class WrongSchemaError(sqlite3.DatabaseError):
    """A database, but not one that this version wrote."""


def _type_of(column: str) -> str:
    if column in _NUMBERS:
        return "INTEGER"
    return "REAL" if column in _REALS else "TEXT"


_CREATE = f"""
CREATE TABLE runs ({", ".join(f"{name} {_type_of(name)}" for name in _COLUMNS)}, PRIMARY KEY (run_id));
CREATE INDEX runs_by_time ON runs (started_at);
CREATE TABLE upkeep (pruned_at REAL NOT NULL);
INSERT INTO upkeep VALUES (0);
PRAGMA user_version = {SCHEMA};
"""  # noqa: S608 - our own names
_INSERT = f"INSERT INTO runs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - our own names
_UPDATE = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "run_id")
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM runs"  # noqa: S608 - our own names


class Index:
    """An open index."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Index:
        """One that is there.

        Raises:
            WrongSchemaError: It has another version, or other columns.
        """
        index = cls(_connect(f"file:{_quoted(path)}?mode=rw"))
        with index._closed_on_error():
            # A commit that a power cut loses is in the run's report all the same.
            index._connection.execute("PRAGMA synchronous = NORMAL")
            index._refuse_other_schema()
        return index

    @classmethod
    def create(cls, path: Path) -> Index:
        """An empty one in a file."""
        index = cls(_connect(f"file:{_quoted(path)}?mode=rwc"))
        with index._closed_on_error():
            index._connection.execute("PRAGMA journal_mode = WAL")
            index._connection.executescript(_CREATE)
        return index

    @classmethod
    def in_memory(cls) -> Index:
        """An empty one that is nowhere on disk, for a place that cannot be written."""
        index = cls(_connect(":memory:"))
        index._connection.executescript(_CREATE)
        return index

    def is_sound(self) -> bool:
        """Whether SQLite finds nothing wrong with any page.

        Raises:
            sqlite3.DatabaseError: A row makes no sense.
        """
        self.entries()
        return bool(self._connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _refuse_other_schema(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        columns = tuple(row[1] for row in self._connection.execute("PRAGMA table_info(runs)"))
        if version != SCHEMA or columns != _COLUMNS:
            raise WrongSchemaError(f"the index has schema {version}, not {SCHEMA}")

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    def put(self, entry: RunEntry) -> None:
        """Add a run, or replace what is known of it."""
        self._connection.execute(f"{_INSERT} ON CONFLICT (run_id) DO UPDATE SET {_UPDATE}", _row(entry))

    def add_missing(self, entries: Iterable[RunEntry]) -> None:
        """Add runs that the index does not know; those that it knows stay as they are."""
        with self._transaction():
            self._connection.executemany(f"{_INSERT} ON CONFLICT DO NOTHING", map(_row, entries))

    def settle(self, entry: RunEntry) -> None:
        """Complete a run that is still shown as running; one that told its own end meanwhile stays as it is."""
        self._connection.execute(
            f"{_INSERT} ON CONFLICT (run_id) DO UPDATE SET {_UPDATE} WHERE status = ?",
            (*_row(entry), RunStatus.RUNNING.value),
        )

    def remove(self, run_id: str) -> None:
        """Forget a run."""
        self._connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))

    def ids(self) -> set[str]:
        """The runs that it knows."""
        return {row[0] for row in self._connection.execute("SELECT run_id FROM runs")}

    def entries(
        self,
        *,
        status: str | None = None,
        model: str | None = None,
        since: str | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> list[RunEntry]:
        """Runs, newest first; with `before`, which prunes, oldest first.

        Args:
            status: Only with this status.
            model: Only of this model.
            since: Started at this moment or later (UTC, ISO 8601).
            before: Started before this moment.
            limit: At most so many.
        """
        tests = {"status = ?": status, "model = ?": model, "started_at >= ?": since, "started_at < ?": before}
        asked = {test: value for test, value in tests.items() if value is not None}
        where = f" WHERE {' AND '.join(asked)}" if asked else ""
        order = f" ORDER BY started_at {'ASC' if before else 'DESC'}, rowid DESC LIMIT ?"
        values = (*asked.values(), -1 if limit is None else limit)
        return [_entry(row) for row in self._connection.execute(_SELECT + where + order, values)]

    def alike(self, likeness: Likeness, *, but: str | None, limit: int) -> list[RunEntry]:
        """Runs that succeeded and share everything in `likeness`, newest first, without the run `but`."""
        shared = asdict(likeness)
        shared["knobs"] = _json(likeness.knobs)
        tests = " AND ".join(f"{name} IS ?" for name in shared)
        rows = self._connection.execute(
            f"{_SELECT} WHERE status = ? AND run_id IS NOT ? AND {tests} ORDER BY started_at DESC LIMIT ?",
            (RunStatus.SUCCEEDED.value, but, *shared.values(), limit),
        )
        return [_entry(row) for row in rows]

    def claim_pruning(self, now_s: float) -> bool:
        """Whether a day has passed since the last pruning; who is told so prunes, and nobody else does."""
        done = self._connection.execute(
            "UPDATE upkeep SET pruned_at = ? WHERE pruned_at < ? OR pruned_at > ?",
            (now_s, now_s - _DAY_S, now_s + _DAY_S),
        )
        return done.rowcount == 1

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def use(place: DataPlace, action: Callable[[Index], Answer]) -> tuple[Answer, str | None]:
    """Do something with the index; one that is missing is created, one that is damaged replaced by an empty one.

    Readers fill it again from the runs' reports, so that nobody who only notes a run pays for that.

    Returns:
        What the action gave, and a warning where the index had to be replaced.
    """
    try:
        return _act(place, action), None
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    aside = _replace_damaged(place)
    warning = f"the index of runs was damaged; it is made anew from the reports, the old one is {aside}"
    return _act(place, action), warning if aside else None


def renew(place: DataPlace, entries: Iterable[RunEntry]) -> None:
    """Put a new index in the old one's place."""
    with _alone_while(place, lambda: True):
        _remove_files(place.index)
        _create(place.index, entries)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file is no good, and not that it is busy or cannot be reached."""
    return type(error) in (sqlite3.DatabaseError, WrongSchemaError)


def _act(place: DataPlace, action: Callable[[Index], Answer]) -> Answer:
    if not place.index.exists():
        place.make()
        with _alone_while(place, lambda: not place.index.exists()) as missing:
            if missing:
                _create(place.index, ())
    with _shared(place), contextlib.closing(Index.open(place.index)) as index:
        return action(index)


def _connect(address: str) -> sqlite3.Connection:
    """A connection that commits every statement by itself."""
    return sqlite3.connect(address, timeout=WAIT_S, isolation_level=None, uri=address.startswith("file:"))


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.fspath(path))


def _create(path: Path, entries: Iterable[RunEntry]) -> None:
    """Make a whole index under another name and rename it into place; the caller holds the lock alone."""
    new = path.with_name(path.name + ".new")
    _remove_files(new)
    with contextlib.closing(Index.create(new)) as index:
        index.add_missing(entries)
    new.replace(path)


def _replace_damaged(place: DataPlace) -> Path | None:
    """Move a damaged index aside and put an empty one there; None where somebody else did so already."""
    with _alone_while(place, lambda: not _is_whole(place.index)) as damaged:
        if not damaged:
            return None
        aside = _free_name(place.index)
        for side in _SIDE_FILES:
            with contextlib.suppress(FileNotFoundError):
                Path(f"{place.index}{side}").replace(f"{aside}{side}")
        _create(place.index, ())
        return aside


def _is_whole(path: Path) -> bool:
    try:
        with contextlib.closing(Index.open(path)) as index:
            return index.is_sound()
    except sqlite3.DatabaseError as error:
        if not is_damage(error) and path.exists():
            raise
        return False


def _free_name(path: Path) -> Path:
    """`runs.sqlite3.damaged-<n>`; the last number is used again when all are taken."""
    names = [path.with_name(f"{path.name}.damaged-{number}") for number in range(1, _MOST_KEPT_ASIDE + 1)]
    return next((name for name in names if not name.exists()), names[-1])


def _remove_files(path: Path) -> None:
    for side in _SIDE_FILES:
        Path(f"{path}{side}").unlink(missing_ok=True)


@contextlib.contextmanager
def _shared(place: DataPlace) -> Iterator[None]:
    """The lock of those who use the index.

    Raises:
        OSError: It cannot be had in time, or the file system has no locks.
    """
    with _lock_file(place) as descriptor:
        deadline = time.monotonic() + WAIT_S
        while not _locks(descriptor, fcntl.LOCK_SH):
            _wait(deadline)
        yield


@contextlib.contextmanager
def _alone_while(place: DataPlace, needed: Callable[[], bool]) -> Iterator[bool]:
    """The lock of who replaces the index, for as long as that is needed.

    Gives False as soon as it no longer is: those who only use the index follow each other so closely that waiting to be
    alone, for what another process has done meanwhile, could last for ever.

    Raises:
        OSError: As above.
    """
    with _lock_file(place) as descriptor:
        deadline = time.monotonic() + WAIT_S
        while not _locks(descriptor, fcntl.LOCK_EX):
            if _locks(descriptor, fcntl.LOCK_SH) and not needed():
                yield False
                return
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            _wait(deadline)
        yield needed()


@contextlib.contextmanager
def _lock_file(place: DataPlace) -> Iterator[int]:
    descriptor = os.open(place.index_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise BlockingIOError("the index of runs is held by another process")
    time.sleep(0.01)


def _locks(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _row(entry: RunEntry) -> tuple[Any, ...]:
    return tuple(_stored(getattr(entry, name)) for name in _COLUMNS)


def _stored(value: Any) -> Any:
    if isinstance(value, dict):
        return _json(value)
    return value.value if isinstance(value, RunStatus) else value


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _entry(row: tuple[Any, ...]) -> RunEntry:
    """A row as an entry.

    Raises:
        sqlite3.DatabaseError: It holds what no OmniRT wrote.
    """
    values = dict(zip(_COLUMNS, row, strict=True))
    try:
        values["knobs"] = json.loads(values["knobs"] or "{}")
        return RunEntry.model_validate(values)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"a row of the index of runs makes no sense: {error}") from error
