"""Sends an order and follows its job, in a thread of its own, so that the caller's can be asked to stop at any time."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from omnirt_cli.client.documents import Job, read, read_text
from omnirt_cli.client.following import ENDS, Patience, follow, job_path
from omnirt_cli.client.order import Order
from omnirt_cli.client.transport import Transport
from omnirt_cli.errors import InputInvalidError


@dataclass(frozen=True)
class Accepted:
    """The server has the job."""

    job: Job


@dataclass(frozen=True)
class Happened:
    """An event of the job, as a document."""

    document: str


@dataclass(frozen=True)
class Ended:
    """The job is over."""

    job: Job


class StoppedError(Exception):
    """It was stopped before the server had the whole order."""


Item = Accepted | Happened | Ended | BaseException


class Courier:
    """One order's way; what comes of it is taken out with `next`."""

    def __init__(
        self, transport: Transport, order: Order, patience_s: float, on_note: Callable[[str], None] | None
    ) -> None:
        self._transport = transport
        self._order = order
        self._unwanted = threading.Event()
        self._stopped = threading.Event()
        self._patience = Patience(patience_s, pause=self._stopped.wait, on_note=self._note)
        self._on_note = on_note
        self._items: queue.SimpleQueue[Item | str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="omnirt-courier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop_sending(self) -> None:
        """Break off, where the server does not have the order yet; if it takes the job all the same, cancel it."""
        self._unwanted.set()

    def stop(self) -> None:
        """Nobody takes the items any longer."""
        self._unwanted.set()
        self._stopped.set()

    def next(self, timeout_s: float) -> Item | None:
        """The next thing that happened; None where nothing did for so long. An exception is the last one."""
        try:
            item = self._items.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if not isinstance(item, str):
            return item
        if self._on_note is not None:
            self._on_note(item)
        return None

    def _note(self, text: str) -> None:
        self._items.put(text)

    def _run(self) -> None:
        try:
            job = submit(self._transport, self._order, refuse=self._refuse_if_unwanted)
            if self._unwanted.is_set():
                self._transport.ask("DELETE", job_path(job.id))
                raise StoppedError
            self._items.put(Accepted(job))
            self._follow(job)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that takes the items
            self._items.put(error)

    def _follow(self, job: Job) -> None:
        for event in follow(self._transport, job.id, self._patience):
            if self._stopped.is_set():
                return
            if event.name in ENDS:
                self._items.put(Ended(read_text(Job, event.data, self._transport.url)))
            else:
                self._items.put(Happened(event.data))

    def _refuse_if_unwanted(self) -> None:
        if self._unwanted.is_set():
            raise StoppedError


def submit(transport: Transport, order: Order, *, refuse: Callable[[], None] = lambda: None) -> Job:
    """Send an order.

    Args:
        transport: To where.
        order: What.
        refuse: Called before each block of a file; may raise to break off.

    Raises:
        UnreachableError: Nothing was sent.
        CutOffError: Whether the server has the job is not known.
        OmniRTError: The server refused, or a file cannot be read.
    """
    with contextlib.ExitStack() as files:
        parts: dict[str, Any] = {"request": (None, order.body, "application/json")}
        for name, path in (("image", order.image), ("audio", order.audio)):
            file = files.enter_context(_opened(path, name))
            parts[name] = (_sent_name(path), _Upload(file, name, refuse), "application/octet-stream")
        return read(Job, transport.send_form("/v1/jobs", parts), transport.url)


class _Upload:
    """A file that is read while it is sent, until somebody refuses."""

    def __init__(self, file: BinaryIO, what: str, refuse: Callable[[], None]) -> None:
        self._file = file
        self._what = what
        self._refuse = refuse

    def read(self, size: int = -1) -> bytes:
        self._refuse()
        try:
            return self._file.read(size)
        except OSError as error:
            raise _unreadable(self._what, self._file.name, error) from error

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def fileno(self) -> int:
        return self._file.fileno()


def _opened(path: Path, what: str) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(what, str(path), error) from error


def _unreadable(what: str, path: str, error: OSError) -> InputInvalidError:
    return InputInvalidError(f"the {what} {path} cannot be read: {error.strerror}")


def _sent_name(path: Path) -> str:
    """The file's own name, whose ending the server looks at; never the folders that it is in."""
    return path.name.encode("utf-8", "replace").decode("utf-8")
