"""Who may speak to a server, and what a request may make it read or do."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from omnirt_cli.request import Config, option_facts
from omnirt_cli.server.api_keys import KeyRing
from omnirt_cli.server.knobs import OPERATORS, GenerationConfig
from omnirt_cli.server.page import FILES
from omnirt_cli.server.security import WITHOUT_KEY, Names
from tests.omnirt_cli_runs import ASSETS, omnirt
from tests.server.server_runs import MODEL, Server, body, error_of, serving

KEY = "a-key-of-the-tests-0123456789"


# --- the door -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_other_machines_are_not_let_in_without_keys(host: str, tmp_path: Path) -> None:
    refused = omnirt("serve", "--host", host, "--state-dir", str(tmp_path), "--port", "0")

    assert refused.code == 2
    assert "--api-key-file" in refused.stderr
    assert "--insecure" in refused.stderr


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "file://"},
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:8000"},
        {"Host": "192.0.2.1"},
        {"Host": ""},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/healthz"), ("POST", "/v1/generate"), ("GET", "/nothing")])
def test_a_foreign_page_is_refused(client: httpx.Client, headers: dict[str, str], method: str, path: str) -> None:
    answer = client.request(method, path, headers=headers)

    assert answer.status_code == 403
    assert error_of(answer)["code"] == "not_authorised"


def test_the_server_s_own_page_is_let_in(server: Server, client: httpx.Client) -> None:
    port = httpx.URL(server.url).port

    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "localhost", "[::1]:9"):
        assert client.get("/healthz", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


def test_names_can_be_allowed(tmp_path: Path) -> None:
    with serving(tmp_path, "--allow-host", "Gpu.example") as server, server.client() as client:
        assert client.get("/healthz", headers={"Host": "gpu.example"}).status_code == 200
        assert (
            client.get("/healthz", headers={"Host": "gpu.example", "Origin": "https://gpu.example"}).status_code == 200
        )
        assert client.get("/healthz", headers={"Host": "other.example"}).status_code == 403


def test_two_hosts_are_none(server: Server) -> None:
    answer = _raw(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")

    assert answer.split()[1] in (b"400", b"403")


@pytest.mark.parametrize("headers", [b"Host: localhost\r\nOrigin: http://evil.example\r\n", b"Host: evil.example\r\n"])
def test_a_foreign_socket_is_refused(server: Server, headers: bytes) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

    answer = _raw(server, b"GET /v1/realtime HTTP/1.1\r\n" + headers + upgrade + b"\r\n")

    assert answer.split()[1] == b"403"


def test_an_unaccepted_socket_is_closed_by_the_gate() -> None:
    """Whatever serves sockets one day stands behind the same door."""
    import asyncio

    from omnirt_cli.server.security import Gate

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def behind(*_: Any) -> None:
        sent.append({"type": "let in"})

    def scope(**headers: str) -> dict[str, Any]:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        return {"type": "websocket", "path": "/v1/realtime", "headers": raw}

    gate = Gate(behind, Names.of("127.0.0.1", ()), KeyRing([KEY]))
    for headers in (
        {"host": "localhost"},
        {"host": "evil.example", "x-api-key": KEY},
        {"host": "localhost", "origin": "http://evil.example", "x-api-key": KEY},
        {"host": "localhost", "x-api-key": KEY},
    ):
        asyncio.run(gate(scope(**headers), receive, send))

    assert [message["type"] for message in sent] == ["websocket.close"] * 3 + ["let in"]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/jobs"])
def test_a_body_that_a_page_could_send_unasked_is_refused(
    client: httpx.Client, content_type: str | None, path: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = client.post(path, content=json.dumps(body()).encode(), headers=headers)

    assert answer.status_code == 415
    assert error_of(answer)["code"] == "usage"


# --- keys -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("locked")
    keys = folder / "keys"
    keys.write_text(f"# ours\n\n{KEY}\nanother-key-of-the-tests-9876\n")
    with serving(folder, "--host", "0.0.0.0", "--api-key-file", str(keys)) as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        yield server


PATHS = ("/metrics", "/docs", "/openapi.json", "/v1/jobs", "/v1/models", "/v1/audio2video/models", "/nothing")


def test_every_route_but_health_wants_a_key(locked: Server) -> None:
    with locked.client() as client:
        for path in PATHS:
            for headers in (
                {},
                {"x-api-key": "wrong-key-0123456789"},
                {"x-api-key": ""},
                {"Authorization": f"Basic {KEY}"},
                {"Authorization": KEY},
            ):
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == "Bearer"
                assert error_of(answer)["code"] == "not_authorised"
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code in (200, 503)


def test_what_is_open_without_a_key_is_health_and_the_page_s_own_files() -> None:
    assert {"/healthz", "/readyz"} | set(FILES) == WITHOUT_KEY
    assert all(path == "/" or path.startswith("/page/") for path in FILES)


def test_each_key_opens(locked: Server) -> None:
    with locked.client() as client:
        for headers in ({"x-api-key": KEY}, {"authorization": "bearer another-key-of-the-tests-9876"}):
            assert client.get("/v1/jobs", headers=headers).status_code == 200
        assert KEY not in locked.log()


def test_a_server_for_others_takes_no_paths_but_uploads(locked: Server) -> None:
    with locked.client(headers={"x-api-key": KEY}) as client:
        refused = client.post("/v1/jobs", json=body())
        with (ASSETS / "portrait.png").open("rb") as image, (ASSETS / "speech.wav").open("rb") as audio:
            taken = client.post("/v1/jobs", files={"image": image, "audio": audio}, data={"model": MODEL})

        assert (refused.status_code, error_of(refused)["code"]) == (403, "not_authorised")
        assert taken.status_code == 202
        client.delete(taken.headers["location"])


def test_an_address_is_as_good_as_a_name_where_keys_are_wanted(locked: Server) -> None:
    with locked.client(headers={"x-api-key": KEY}) as client:
        assert client.get("/v1/jobs", headers={"Host": "203.0.113.9:8000"}).status_code == 200
        assert client.get("/v1/jobs", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", "has a blank in its midst\n", "schlüssel-schlüssel\n"])
def test_a_key_file_that_protects_nothing_is_refused(text: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(text, encoding="utf-8")

    refused = omnirt("serve", "--api-key-file", str(keys), "--state-dir", str(tmp_path / "state"))

    assert refused.code == 78


def test_the_key_ring_takes_its_keys_and_no_others() -> None:
    ring = KeyRing([KEY, "second"])

    assert ring.takes(KEY.encode())
    assert ring.takes(b"second")
    assert not any(ring.takes(key) for key in (b"", b"secon", b"second ", KEY.upper().encode()))
    assert not KeyRing([]).takes(b"")


# --- what a request may set -----------------------------------------------------------------------


def test_no_setting_with_a_path_or_trust_is_a_client_s() -> None:
    for name, field in Config.model_fields.items():
        facts = option_facts(field)
        if facts["trusted"] or facts["path"]:
            assert name in OPERATORS, name
    launch = {"visible_devices", "devices", "launcher", "executor", "working_directory", "text_cache_visible_devices"}
    others = {
        "device",
        "skip_check",
        "no_checkout_checks",
        "keep_runs_days",
        "output",
        "env",
        "repo_path",
        "env_script",
    }
    assert launch | others <= OPERATORS
    assert {"preset", "seed", "sample_steps", "max_chunks", "fps", "size", "model_type", "timeout"} <= set(
        GenerationConfig.model_fields
    )


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_what_the_operator_sets_is_refused_by_name(client: httpx.Client, name: str) -> None:
    answer = client.post("/v1/generate", json=body(config={name: "/bin/sh"}))

    assert answer.status_code == 403
    assert name in error_of(answer)["message"]


def test_a_client_can_set_no_place_elsewhere_in_the_body_either(client: httpx.Client) -> None:
    for more in ({"output": "/tmp/x.mp4"}, {"env": {"A": "b"}}, {"adapters": [{"path": "/etc"}]}):
        assert client.post("/v1/jobs", json=body(**more)).status_code == 422


# --- paths ----------------------------------------------------------------------------------------


@pytest.fixture
def links(server: Server, tmp_path: Path) -> Iterator[None]:
    """Ways out of the media root."""
    secret = tmp_path / "secret.png"
    secret.write_bytes((ASSETS / "portrait.png").read_bytes())
    outside = server.media.parent / "secret.png"
    outside.write_bytes(secret.read_bytes())
    made = {"link.png": secret, "folder": tmp_path, "loop.png": Path("loop.png"), "deep/link.png": Path("../link.png")}
    (server.media / "deep").mkdir()
    for name, target in made.items():
        (server.media / name).symlink_to(target)
    os.mkfifo(server.media / "pipe.png")
    yield
    for name in (*made, "pipe.png"):
        (server.media / name).unlink()
    (server.media / "deep").rmdir()
    outside.unlink()


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("../secret.png", 403, "not_authorised"),
        ("deep/../../secret.png", 403, "not_authorised"),
        ("./././../secret.png", 403, "not_authorised"),
        ("/etc/passwd", 403, "not_authorised"),
        ("/etc/nothing-at-all", 403, "not_authorised"),
        ("//etc/passwd", 403, "not_authorised"),
        ("/proc/self/environ", 403, "not_authorised"),
        ("link.png", 403, "not_authorised"),
        ("deep/link.png", 403, "not_authorised"),
        ("folder/secret.png", 403, "not_authorised"),
        ("loop.png", 422, "input_invalid"),
        ("pipe.png", 422, "input_invalid"),
        (".", 422, "input_invalid"),
        ("deep", 422, "input_invalid"),
        ("", 422, "usage"),
        ("portrait.png\x00.jpg", 422, "usage"),
        ("%2e%2e/secret.png", 422, "input_missing"),
        ("..%2fsecret.png", 422, "input_missing"),
        ("..\\secret.png", 422, "input_missing"),
        ("file:///etc/passwd", 422, "input_missing"),
        ("http://localhost/x.png", 422, "input_missing"),
        ("concat:/etc/passwd|x", 422, "input_missing"),
        ("~/secret.png", 422, "input_missing"),
        ("-i", 422, "input_missing"),
        ("x" * 300, 422, "input_invalid"),
        ("x/" * 3000, 422, "usage"),
        ("\ud800.png", 422, None),
    ],
)
@pytest.mark.parametrize("which", ["image", "audio"])
def test_nothing_outside_the_media_root_is_read(
    client: httpx.Client, server: Server, path: str, status: int, code: str | None, which: str
) -> None:
    document = body()
    document["inputs"] = {**document["inputs"], which: path}
    before = set((server.state / "jobs").iterdir())

    answer = client.post(
        "/v1/jobs", content=json.dumps(document).encode(), headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == status, answer.text
    assert code is None or error_of(answer)["code"] == code
    assert set((server.state / "jobs").iterdir()) == before
    assert str(server.folder) not in answer.text


def test_an_absolute_path_in_the_media_root_is_read(client: httpx.Client, server: Server) -> None:
    document = body()
    document["inputs"]["image"] = str(server.media / "portrait.png")

    answer = client.post("/v1/jobs", json=document)

    assert answer.status_code == 202
    client.delete(answer.headers["location"])


def test_what_is_served_stays_in_the_job_s_folder(server: Server, client: httpx.Client) -> None:
    for path in (
        "/v1/jobs/../../../etc/passwd",
        "/v1/jobs/%2e%2e/%2e%2e/etc/passwd",
        "/../jobs.sqlite3",
        "//etc/passwd",
    ):
        answer = _raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.split()[1] == b"404"
        assert b"root:" not in answer


def _raw(server: Server, request: bytes) -> bytes:
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port or 80), timeout=20) as peer:
        peer.sendall(request)
        return peer.recv(65536)
