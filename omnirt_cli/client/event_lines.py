"""Server-sent events, as the HTML standard's `text/event-stream` has them: from bytes to (id, name, data)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class SentEvent:
    """One event.

    Attributes:
        id: Its number; 0 for one without.
        name: Which kind it is.
        data: Its document.
    """

    id: int
    name: str
    data: str


def parse(blocks: Iterable[bytes]) -> Iterator[SentEvent]:
    """The events of a stream, each as soon as it is whole; comments are passed over, half an event at the end too."""
    fields: dict[str, str] = {}
    for line in _lines(blocks):
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields['data']}\n{value}" if name == "data" and "data" in fields else value
            continue
        if "data" in fields:
            number = fields.get("id", "")
            yield SentEvent(int(number) if number.isdecimal() else 0, fields.get("event", "message"), fields["data"])
        fields = {}


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines. Only LF and CR LF end one: a document may have Unicode's other separators in its texts."""
    pending = b""
    for block in blocks:
        *whole, pending = (pending + block).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
