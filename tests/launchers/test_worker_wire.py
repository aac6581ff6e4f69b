"""Messages over a Unix socket: what goes in comes out, what is no message is refused, descriptors travel."""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchers.model_env.omnirt_worker import wire
from launchers.model_env.omnirt_worker.wire import BODY_BYTES, HEADER_BYTES, Message, Parser, WireError

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def _raw(
    header: bytes, body: bytes = b"", *, header_length: int | None = None, body_length: int | None = None
) -> bytes:
    lengths = (
        len(header) if header_length is None else header_length,
        len(body) if body_length is None else body_length,
    )
    return struct.pack(">IQ", *lengths) + header + body


BROKEN = {
    "no JSON": _raw(b"{nonsense"),
    "no UTF-8": _raw(b'{"type":"\xff"}'),
    "no object": _raw(b"[1]"),
    "no type": _raw(b"{}"),
    "a type that is no text": _raw(b'{"type":1}'),
    "no header": _raw(b""),
    "a header too long": _raw(b"", header_length=HEADER_BYTES + 1),
    "a body too long": _raw(b'{"type":"a"}', body_length=BODY_BYTES + 1),
    "nested too deep": _raw(b'{"type":' + b"[" * 200_000),
}


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _bytes_of(message: Message) -> bytes:
    return b"".join(bytes(buffer) for buffer in wire.pack(message.header, message.body))


# --- one after another ----------------------------------------------------------------------------


def test_what_is_sent_is_received(pair: Pair) -> None:
    one, other = pair

    wire.send(one, {"type": "chunk", "id": "ä"}, b"\x00\xff")
    wire.send(one, {"type": "status"})
    one.close()

    assert wire.receive(other) == Message({"type": "chunk", "id": "ä"}, b"\x00\xff")
    assert wire.receive(other) == Message({"type": "status"})
    assert wire.receive(other) is None


def test_a_body_larger_than_the_sockets_room_goes_wholly(pair: Pair) -> None:
    one, other = pair
    body = bytes(range(256)) * (1 << 15)
    sender = threading.Thread(target=wire.send, args=(one, {"type": "chunk"}, memoryview(body)))

    sender.start()
    message = wire.receive(other)
    sender.join()

    assert message is not None
    assert message.body == body


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_message_is_refused(data: bytes, pair: Pair) -> None:
    one, other = pair
    sender = threading.Thread(target=one.sendall, args=(data,))
    sender.start()

    with pytest.raises(WireError):
        wire.receive(other)

    other.close()
    sender.join()


@pytest.mark.parametrize("keep", [1, 11, 13, -1])
def test_an_end_within_a_message_is_told_from_an_end_between_two(keep: int, pair: Pair) -> None:
    one, other = pair
    one.sendall(_raw(b'{"type":"a"}', b"body")[:keep])
    one.close()

    with pytest.raises(WireError, match="ended within a message"):
        wire.receive(other)


@pytest.mark.parametrize("header", [{}, {"type": 1}, {"type": "a", "x": float("nan")}, {"type": "a", "x": object()}])
def test_what_would_be_no_message_is_not_sent(header: dict[str, object], pair: Pair) -> None:
    with pytest.raises(WireError):
        wire.send(pair[0], header)


# --- in pieces ------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50)), max_size=5),
    st.lists(st.integers(1, 30), min_size=1, max_size=40),
)
def test_messages_come_out_of_any_pieces(contents: list[tuple[str, bytes]], sizes: list[int]) -> None:
    messages = [Message({"type": "t", "text": text}, body) for text, body in contents]
    stream = b"".join(_bytes_of(message) for message in messages)
    parser, got = Parser(), []

    for size in [*sizes, len(stream)]:
        got += parser.feed(stream[:size])
        stream = stream[size:]

    assert got == messages
    assert not parser.within


def test_a_message_that_was_begun_is_told() -> None:
    parser = Parser()

    assert parser.feed(_raw(b'{"type":"a"}', b"body")[:-1]) == []

    assert parser.within


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_message_is_refused_in_pieces_too(data: bytes) -> None:
    with pytest.raises(WireError):
        Parser().feed(data)


# --- descriptors ----------------------------------------------------------------------------------


def test_a_descriptor_travels_and_is_not_inherited_by_programs(pair: Pair) -> None:
    one, other = pair
    reader, writer = os.pipe()

    wire.send(one, {"type": "render"}, b"body", fds=[writer])
    os.close(writer)
    message = wire.receive(other, max_fds=1)

    assert message is not None
    (came,) = message.fds
    assert not os.get_inheritable(came)
    os.write(came, b"through")
    os.close(came)
    assert os.read(reader, 20) == b"through"
    assert os.read(reader, 20) == b""
    os.close(reader)


def test_descriptors_belong_to_the_message_that_brought_them(pair: Pair) -> None:
    one, other = pair
    with Path(os.devnull).open("rb") as nowhere:
        wire.send(one, {"type": "a"})
        wire.send(one, {"type": "b"}, fds=[nowhere.fileno()])
        wire.send(one, {"type": "c"})

    got = [wire.receive(other, max_fds=2) for _ in range(3)]

    assert [len(message.fds) for message in got if message] == [0, 1, 0]
    os.close(got[1].fds[0])  # type: ignore[union-attr]


@pytest.mark.parametrize("max_fds", [1, 2])
def test_too_many_descriptors_are_refused_and_closed(max_fds: int, pair: Pair) -> None:
    one, other = pair
    with Path(os.devnull).open("rb") as nowhere:
        wire.send(one, {"type": "a"}, fds=[nowhere.fileno()] * 5)
    before = _open_descriptors()

    with pytest.raises(WireError, match="more than"):
        wire.receive(other, max_fds=max_fds)

    assert _open_descriptors() == before


def test_descriptors_of_a_broken_message_are_closed(pair: Pair) -> None:
    one, other = pair
    before = _open_descriptors()
    reader, writer = os.pipe()
    socket.send_fds(one, [_raw(b"[]")], [writer])
    os.close(writer)

    with pytest.raises(WireError):
        wire.receive(other, max_fds=1)

    os.close(reader)
    assert _open_descriptors() == before


# --- places ---------------------------------------------------------------------------------------


def test_a_socket_lives_in_a_folder_of_any_length_for_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40) / ("longer" * 30)
    folder.mkdir(parents=True)

    with wire.listen(folder, "worker.sock") as server, wire.connect(folder, "worker.sock") as client:
        mode = (folder / "worker.sock").stat().st_mode
        accepted, _ = server.accept()
        with accepted:
            wire.send(client, {"type": "status"})
            assert wire.receive(accepted) == Message({"type": "status"})

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_who_comes_early_waits_for_the_socket(tmp_path: Path) -> None:
    servers: list[socket.socket] = []
    later = threading.Timer(0.1, lambda: servers.append(wire.listen(tmp_path, "s")))
    later.start()

    wire.connect(tmp_path, "s", timeout_s=10).close()

    later.join()
    servers[0].close()


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    wire.listen(tmp_path, "s").close()
    with pytest.raises(ConnectionRefusedError):
        wire.connect(tmp_path, "s")

    with wire.listen(tmp_path, "s"):
        wire.connect(tmp_path, "s").close()


def test_nobody_there_is_an_error_after_the_timeout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        wire.connect(tmp_path, "s", timeout_s=0.1)
