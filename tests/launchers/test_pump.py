"""The pump: byte for byte, never waiting, and honest about a log that cannot be written."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from launchers.pump import BLOCK_BYTES, LogPump, write_all

PRODUCER = """
import os, random, sys
random.seed(7)
for _ in range(300):
    os.write(1, random.randbytes(random.randrange(1, 40_000)))
"""


@pytest.fixture
def pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    return reader, writer


def pump_all(pump: LogPump, fd: int) -> bytes:
    received = []
    while True:
        select.select([fd], [], [])
        block = pump.read()
        if block is None:
            return b"".join(received)
        received.append(block)


def test_a_real_child_comes_through_byte_for_byte(tmp_path: Path) -> None:
    expected = subprocess.run([sys.executable, "-c", PRODUCER], stdout=subprocess.PIPE, check=True).stdout
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([sys.executable, "-c", PRODUCER], stdout=subprocess.PIPE) as child,
    ):
        assert child.stdout is not None
        pump = LogPump(child.stdout.fileno(), log)
        received = pump_all(pump, child.stdout.fileno())
        assert (tmp_path / "log").read_bytes() == expected, "the log lags behind what was read"
    assert hashlib.sha256(received).digest() == hashlib.sha256(expected).digest()
    assert pump.bytes_read == len(expected)


def test_nothing_there_is_empty_and_the_end_is_none(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    pump = LogPump(reader, io.BytesIO())
    assert pump.read() == b""
    os.write(writer, b"\0\r\xff")
    assert pump.read() == b"\0\r\xff"
    os.close(writer)
    assert pump.read() is None
    os.close(reader)


def test_one_read_takes_at_most_a_block(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    pump = LogPump(reader, io.BytesIO())
    os.set_blocking(writer, False)
    written = os.write(writer, b"x" * (2 * BLOCK_BYTES))
    block = pump.read()
    assert block is not None
    assert len(block) == min(written, BLOCK_BYTES)
    os.close(writer)
    os.close(reader)


@pytest.mark.skipif(not hasattr(fcntl, "F_GETPIPE_SZ"), reason="needs Linux")
def test_the_pipe_is_made_larger(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    before = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
    LogPump(reader, io.BytesIO())
    assert fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ) > before
    os.close(writer)
    os.close(reader)


def test_a_full_disk_is_an_error_and_the_child_can_still_be_read_away(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with Path("/dev/full").open("wb", buffering=0) as full:
        pump = LogPump(reader, full)
        os.write(writer, b"lost")
        with pytest.raises(OSError) as caught:
            pump.read()
        assert caught.value.errno == errno.ENOSPC
        pump.discard()
        os.write(writer, b"read, not stored")
        assert pump.read() == b"read, not stored"
    assert pump.bytes_read == len(b"lostread, not stored")
    os.close(writer)
    os.close(reader)


def test_a_sink_that_takes_little_at_a_time_gets_everything() -> None:
    class Narrow(io.RawIOBase):
        taken = b""

        def write(self, data: memoryview) -> int:  # type: ignore[override]
            self.taken += bytes(data[:3])
            return min(3, len(data))

    sink = Narrow()
    write_all(sink, b"0123456789")  # type: ignore[arg-type]
    assert sink.taken == b"0123456789"


def test_a_regular_file_in_place_of_the_pipe_works_too(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    with source.open("rb") as file:
        assert LogPump(file.fileno(), io.BytesIO()).read() == b"abc"
