"""The server's own log: one line an event on stderr, as JSON for machines or as text for a terminal.

Lines are written by a thread of their own: whoever reads stderr slowly does not hold up the server, and loses lines.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from enum import Enum
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue

from omnirt_cli import console

MOST_WAITING = 10_000
"""Lines that may wait for their reader; further ones are dropped."""

LAST_LINES_S = 2.0

_LEVELS = {"omnirt": logging.INFO, "uvicorn": logging.WARNING, "asyncio": logging.WARNING}


class LogFormat(str, Enum):
    """How the log looks; `auto` is text on a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


@contextlib.contextmanager
def logging_as(form: LogFormat) -> Iterator[None]:
    """While this holds, the logs of the server, and warnings of the libraries below it, go to stderr."""
    text = form is LogFormat.TEXT or (form is LogFormat.AUTO and console.stderr_is_terminal())
    lines = _Lines()
    lines.setFormatter(_AsText() if text else _AsJson())
    waiting: Queue[logging.LogRecord] = Queue(MOST_WAITING)
    listener = QueueListener(waiting, lines)
    for name, level in _LEVELS.items():
        logger = logging.getLogger(name)
        logger.handlers = [_Waiting(waiting)]
        logger.setLevel(level)
        logger.propagate = False
    listener.start()
    try:
        yield
    finally:
        # A reader that takes nothing any more does not keep the server from ending either.
        stopping = threading.Thread(target=listener.stop, daemon=True)
        stopping.start()
        stopping.join(LAST_LINES_S)


class _Waiting(QueueHandler):
    """Puts records into the queue as they are: their reader is in this process."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Full):
            self.queue.put_nowait(record)


class _Lines(logging.Handler):
    """Writes through the console, which outlives a stderr that is gone."""

    def emit(self, record: logging.LogRecord) -> None:
        console.tell(self.format(record))


class _AsJson(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _AsText(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told = getattr(record, "facts", {})
        facts = " ".join(f"{name}={json.dumps(value, default=str)}" for name, value in told.items())
        text = f"{_stamp(record)} {record.levelname.lower():<7} {record.getMessage()} {facts}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _stamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
