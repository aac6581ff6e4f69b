"""Clients that send too much, too slowly, or nonsense: answered within limits, and at nobody else's cost."""

from __future__ import annotations

import json
import resource
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.omnirt_cli_runs import ASSETS, wait_for
from tests.server.server_runs import MODEL, Server, body, error_of, serving, with_media

MIB = 1 << 20


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes little."""
    flags = ("--max-upload-mib", "2", "--max-image-megapixels", "1")
    with serving(tmp_path_factory.mktemp("small"), *flags) as server:
        yield with_media(server)


@pytest.fixture
def client(small: Server) -> Iterator[httpx.Client]:
    with small.client() as found:
        yield found


def _head(content_type: str, length: int) -> bytes:
    return (
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def _part(name: bytes, value: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n--x--\r\n"


def _nothing_is_left(server: Server) -> None:
    assert not list((server.state / "spool").iterdir())
    assert not list((server.state / "jobs").iterdir())


def test_an_upload_that_is_announced_too_large_is_refused_unread(small: Server) -> None:
    with _connection(small) as peer:
        peer.sendall(_head("application/json", 99_999_999_999))
        answer = _until_closed(peer)

    assert answer.split()[1] == b"413"
    _nothing_is_left(small)


def test_an_upload_without_an_announced_length_is_cut_off(small: Server, client: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="p.png"\r\n\r\n'
        for _ in range(200):
            yield b"\0" * 65536

    try:
        answer = client.post("/v1/jobs", content=parts(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    except httpx.WriteError:
        pass  # it was cut off while we were still writing
    else:
        assert answer.status_code == 413
        assert error_of(answer)["code"] == "input_invalid"
    assert client.get("/healthz").status_code == 200
    wait_for(lambda: not list((small.state / "spool").iterdir()))
    _nothing_is_left(small)


def test_files_in_the_media_root_have_the_same_limit(small: Server, client: httpx.Client) -> None:
    with (small.media / "large.wav").open("wb") as file:
        file.truncate(5 * MIB)
    document = body()
    document["inputs"]["audio"] = "large.wav"

    answer = client.post("/v1/jobs", json=document)

    assert (answer.status_code, error_of(answer)["code"]) == (413, "input_invalid")
    _nothing_is_left(small)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "image",
    [_png(1001, 1001), _png(20000, 20000), _png(2**31 - 1, 2**31 - 1), b"", b"GIF89a", b"<svg/>", b"\xff" * 999],
)
def test_a_picture_that_is_none_or_too_large_is_refused_undecoded(
    small: Server, client: httpx.Client, image: bytes
) -> None:
    with (ASSETS / "speech.wav").open("rb") as audio:
        answer = client.post(
            "/v1/jobs", files={"image": ("p.png", image), "audio": ("s.wav", audio)}, data={"model": MODEL}
        )

    assert answer.status_code == 422, answer.text
    assert error_of(answer)["code"] == "input_invalid"
    _nothing_is_left(small)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"model":' * 50_000,
        b'{"model":"soulx-flashtalk-14b","config":{"seed":' + b"9" * 10_000 + b"}}",
        b'{"model":"soulx-flashtalk-14b","config":{"seed":1e999}}',
        b'{"model":"soulx-flashtalk-14b","config":{"timeout":NaN}}',
        b'{"model":"soulx-flashtalk-14b","inputs":{"prompt":"\\ud800"}}',
        b'{"model":"soulx-flashtalk-14b","config":{"edit_prompt":{"\\ud800":"x"}}}',
        b'{"model":"nothing"}',
        b'{"model":"soulx-flashtalk-14b","config":{"nothing":1}}',
        b'{"model":"soulx-flashtalk-14b","priority":"urgent"}',
        b'{"model":"soulx-flashtalk-14b","inputs":{"prompt":"' + b"x" * 20_000 + b'"}}',
    ],
    ids=lambda text: text[:40].decode("latin-1"),
)
def test_nonsense_is_told_so(small: Server, client: httpx.Client, text: bytes) -> None:
    answer = client.post("/v1/jobs", content=text, headers={"Content-Type": "application/json"})

    assert answer.status_code in (400, 413, 422), answer.text
    assert error_of(answer)["code"] in ("usage", "input_missing", "input_invalid")
    _nothing_is_left(small)


def test_a_large_json_body_is_refused(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", content=b" " * (2 * MIB), headers={"Content-Type": "application/json"})

    assert (answer.status_code, error_of(answer)["code"]) == (413, "input_invalid")


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"nothing of the kind"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", _part(b"m", b"v")),
        ("multipart/form-data; boundary=x", _part(b"request", b"[")),
        ("multipart/form-data; boundary=x; charset=nothing", _part(b"model", b"\xff")),
        ("application/json; charset=utf-16", b'{"model": 1}'),
    ],
)
def test_a_malformed_form_is_told_so(client: httpx.Client, content_type: str, text: bytes) -> None:
    answer = client.post("/v1/jobs", content=text, headers={"Content-Type": content_type})

    assert answer.status_code in (400, 422), answer.text
    error_of(answer)


def test_an_image_twice_over_is_refused(small: Server, client: httpx.Client) -> None:
    with (ASSETS / "portrait.png").open("rb") as image:
        answer = client.post("/v1/jobs", files={"image": image}, data={"request": json.dumps(body())})

    assert (answer.status_code, error_of(answer)["code"]) == (422, "usage")
    _nothing_is_left(small)


# --- slow and vanished peers ----------------------------------------------------------------------


def test_slow_uploads_do_not_keep_others_waiting(small: Server, client: httpx.Client) -> None:
    head = _head("multipart/form-data; boundary=x", MIB)
    peers = [_connection(small) for _ in range(40)]
    try:
        for peer in peers:
            peer.sendall(head + b"--x\r\nContent-Disposition: form-data")
        began = time.monotonic()
        assert client.get("/healthz").status_code == 200
        assert time.monotonic() - began < 5
    finally:
        for peer in peers:
            peer.close()
    wait_for(lambda: not list((small.state / "spool").iterdir()))
    _nothing_is_left(small)
    assert "traceback" not in small.log()


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    """With short patience: the same code, in this process."""
    import asyncio

    from omnirt_cli.server.limits import Limits, Patience
    from omnirt_cli.server.problems import Problem

    async def drips() -> dict[str, object]:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def stalls() -> dict[str, object]:
        await asyncio.sleep(60)
        raise AssertionError

    async def app(_scope: object, receive: object, _send: object) -> None:
        while True:
            await receive()  # type: ignore[operator]

    async def send(_message: object) -> None:
        return

    limits = Limits(app, most_bytes=100, patience=Patience(pause_s=0.2, upload_s=0.4, least_bytes_s=1000))  # type: ignore[arg-type]
    for receive in (drips, stalls):
        began = time.monotonic()
        with pytest.raises(Problem) as caught:
            asyncio.run(limits({"type": "http", "headers": []}, receive, send))  # type: ignore[arg-type]
        assert caught.value.status == 408
        assert time.monotonic() - began < 5


def test_half_a_head_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    import uvicorn

    from omnirt_cli.server import protocol

    monkeypatch.setattr(protocol, "HEAD_S", 0.3)

    async def app(_scope: object, _receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body"})  # type: ignore[operator]

    async def run() -> tuple[bytes, bytes]:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=protocol.TimelyProtocol, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        serving_it = asyncio.create_task(server._serve([listener]))
        await asyncio.sleep(0.1)
        address = listener.getsockname()
        slow_reader, slow_writer = await asyncio.open_connection(*address[:2])
        for letter in b"GET":
            slow_writer.write(bytes([letter]))
            await asyncio.sleep(0.05)
        slow = await asyncio.wait_for(slow_reader.read(), 5)
        reader, writer = await asyncio.open_connection(*address[:2])
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        quick = await asyncio.wait_for(reader.readline(), 5)
        for one in (slow_writer, writer):
            one.close()
            await one.wait_closed()
        server.should_exit = True
        await serving_it
        return slow, quick

    slow, quick = asyncio.run(run())

    assert slow == b""
    assert quick.startswith(b"HTTP/1.1 204")


def test_clients_that_vanish_leave_no_descriptor(small: Server, client: httpx.Client) -> None:
    assert small.process is not None
    process = psutil.Process(small.process.pid)
    client.get("/healthz")
    before = process.num_fds()
    for _ in range(50):
        peer = _connection(small)
        peer.sendall(_head("application/json", 9) + b"{")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    wait_for(lambda: process.num_fds() <= before + 2, what="their descriptors")
    assert "traceback" not in small.log()


# --- the disk -------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    """A limit on file sizes stands for the disk: what is larger cannot be written."""

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    with serving(tmp_path, limits=limits) as server, with_media(server).client() as client:
        (server.media / "large.wav").write_bytes(b"\0" * (MIB + 70_000))
        document = body()
        document["inputs"]["audio"] = "large.wav"
        by_path = client.post("/v1/jobs", json=document)
        with (ASSETS / "portrait.png").open("rb") as image:
            by_upload = client.post(
                "/v1/jobs", files={"image": image, "audio": b"\0" * (3 * MIB)}, data={"model": MODEL}
            )

        for answer in (by_path, by_upload):
            assert (answer.status_code, error_of(answer)["code"]) == (507, "io_error"), answer.text
        _nothing_is_left(server)
        assert client.get("/healthz").status_code == 200


def test_an_index_that_cannot_grow_is_told_and_survived(tmp_path: Path) -> None:
    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 2, MIB // 2))

    with serving(tmp_path, limits=limits) as server, with_media(server).client() as client:
        answer = client.post("/v1/jobs", json=body())
        for _ in range(400):
            if answer.status_code != 202:
                break
            client.delete(answer.headers["location"])
            answer = client.post("/v1/jobs", json=body())

        assert (answer.status_code, error_of(answer)["code"]) == (507, "io_error"), answer.text
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/jobs").status_code == 200


def _connection(server: Server) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port or 80), timeout=20)


def _until_closed(peer: socket.socket) -> bytes:
    found = b""
    while True:
        try:
            block = peer.recv(65536)
        except (ConnectionResetError, TimeoutError):
            return found
        if not block:
            return found
        found += block
