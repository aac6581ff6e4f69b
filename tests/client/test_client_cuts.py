"""Connections that are cut, servers that die: nothing is lost that is still there, and nothing half is left."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from omnirt_cli.client.client import Client
from omnirt_cli.errors import CancelledRunError, InputMissingError, IOFailureError, OmniRTError
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.events import BaseEvent
from tests.client.client_runs import free_port, leftovers, report_beside, states, wire, wish
from tests.omnirt_cli_runs import wait_for
from tests.server.server_runs import Server, serving


def _names(events: list[BaseEvent]) -> list[str]:
    return [getattr(event, "event", "") for event in events]


@pytest.mark.parametrize("cuts", [(2_000, 900, 1_500, 1), (9_000, 15_000), (28_000, 9_000, 3_000)])
def test_cut_connections_are_made_again(cuts: tuple[int, ...], server: Server, tmp_path: Path) -> None:
    events: list[BaseEvent] = []

    with wire(server.url, *cuts) as way, Client(way.url, patience=10) as client:
        result = client.generate(wish(output=str(tmp_path / "v.mp4")), on_event=events.append)

        assert way.connections > len(cuts)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert (_names(events)[0], _names(events)[-1]) == ("run_started", "run_finished")
    assert hashlib.sha256(result.path.read_bytes()).hexdigest() == result.outputs[0].sha256
    assert leftovers(tmp_path) == []


def test_the_rest_of_a_video_is_asked_for_not_all_of_it(server: Server, tmp_path: Path) -> None:
    with Client(server.url) as client:
        job = client.submit(wish())
        list(client.events(job.id))
    before = len(server.log_lines())

    with wire(server.url, 45_000) as way, Client(way.url, patience=10) as client:
        client.collect(job.id, tmp_path / "v.mp4")

    asked = [(line["path"].rsplit("/")[-1], line["status"]) for line in server.log_lines()[before:] if "path" in line]
    assert asked.count(("video", 206)) == 1


def test_a_server_that_dies_and_comes_back_finishes_the_job(tmp_path: Path) -> None:
    events: list[BaseEvent] = []
    with serving(tmp_path / "server", env={"MINIATURE_CHUNK_S": "0.8"}) as server, wire(server.url) as way:

        def crash(event: BaseEvent) -> None:
            events.append(event)
            if getattr(event, "event", "") == "chunk_finished" and _names(events).count("chunk_finished") == 1:
                server.kill()
                way.target = None
                threading.Thread(target=come_back).start()

        def come_back() -> None:
            parts = urlsplit(server.start().url)
            way.target = (parts.hostname or "", parts.port or 0)

        with Client(way.url, patience=60) as client:
            result = client.generate(wish(output=str(tmp_path / "v.mp4")), on_event=crash)

    assert result.metadata.status.value == "succeeded"
    assert _names(events).count("run_started") == 2
    assert _names(events).count("run_finished") == 1
    assert result.path.exists()


def test_a_server_that_stays_away_is_given_up_and_the_job_can_be_found_again(tmp_path: Path) -> None:
    output, notes = tmp_path / "v.mp4", []

    with serving(tmp_path / "server", env={"MINIATURE_CHUNK_S": "60"}) as server:

        def end(event: BaseEvent) -> None:
            if getattr(event, "event", "") == "run_started":
                server.kill()

        with Client(server.url, patience=4) as client, pytest.raises(IOFailureError, match="was lost") as caught:
            client.generate(wish(output=str(output)), on_event=end, on_note=notes.append)
        # The killed server's render ends with it; a new server is needed to see that through.
        server.start()
        found = states(server)

    report = report_beside(output)
    assert report["status"] == "failed"
    assert report["error"]["code"] == "io_error"
    assert report["job_id"] in (caught.value.hint or "")
    assert caught.value.report is not None
    assert any("trying again" in note for note in notes)
    assert found[0] in ("running", "queued")
    assert not output.exists()


def test_a_token_of_another_thread_cancels_the_job(slow_server: Server, tmp_path: Path) -> None:
    token = CancelToken()
    threading.Timer(1.5, token.cancel).start()

    with Client(slow_server.url) as client, pytest.raises(CancelledRunError):
        client.generate(wish(output=str(tmp_path / "v.mp4")), cancel=token)

    assert states(slow_server)[0] == "cancelled"


def test_a_listener_that_fails_takes_the_job_along(slow_server: Server, tmp_path: Path) -> None:
    def object_to(event: BaseEvent) -> None:
        raise ZeroDivisionError

    with Client(slow_server.url) as client, pytest.raises(ZeroDivisionError):
        client.generate(wish(output=str(tmp_path / "v.mp4")), on_event=object_to)

    wait_for(lambda: states(slow_server)[0] == "cancelled", what="the job's end")


def test_a_server_that_does_not_hear_of_a_cancel_is_left_to_itself(
    slow_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnirt_cli.client.remote_run._WORD_S", 1.0)
    monkeypatch.setattr("omnirt_cli.client.remote_run._AT_ONCE_S", 0.5)
    token = CancelToken()

    def freeze(event: BaseEvent) -> None:
        if getattr(event, "event", "") == "run_started":
            slow_server.signal(signal.SIGSTOP)
            token.cancel(signal.SIGTERM)

    try:
        with Client(slow_server.url) as client, pytest.raises(CancelledRunError) as caught:
            client.generate(wish(output=str(tmp_path / "v.mp4")), on_event=freeze, cancel=token)
    finally:
        slow_server.signal(signal.SIGCONT)

    report = report_beside(tmp_path / "v.mp4")
    assert caught.value.exit_status == 143
    assert f"{report['job_id']} may still run" in (caught.value.hint or "")
    assert report["status"] == "cancelled"
    with Client(slow_server.url) as client:
        client.cancel(report["job_id"])
    wait_for(lambda: states(slow_server)[0] == "cancelled", what="the job's end")


def test_an_upload_is_broken_off_at_the_first_ask(tmp_path: Path) -> None:
    """The other side reads so slowly that the recording would take minutes."""
    recording = tmp_path / "long.wav"
    with recording.open("wb") as file:
        file.truncate(200 << 20)
    asked = wish(output=str(tmp_path / "v.mp4"))
    asked = asked.model_copy(update={"inputs": asked.inputs.model_copy(update={"audio": str(recording)})})
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def read_slowly() -> None:
            with listener.accept()[0] as near, contextlib.suppress(OSError):
                while near.recv(1 << 16):
                    time.sleep(0.02)

        reader = threading.Thread(target=read_slowly)
        reader.start()
        token = CancelToken()
        threading.Timer(0.5, token.cancel).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url) as client, pytest.raises(CancelledRunError) as caught:
            client.generate(asked, cancel=token)
        reader.join(20)

    assert caught.value.hint is None
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]


def test_an_upload_that_nobody_answers_ends_at_a_second_ask(tmp_path: Path) -> None:
    """The other side takes the connection, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        token = CancelToken()
        for moment in (0.5, 1.0):
            threading.Timer(moment, token.cancel).start()
        began = time.monotonic()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url) as client, pytest.raises(CancelledRunError) as caught:
            client.generate(wish(output=str(tmp_path / "v.mp4")), cancel=token)
        assert time.monotonic() - began < 4

    assert "may have taken the job" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_cut_off_before_it_answers_is_no_silence(tmp_path: Path) -> None:
    with wire(None) as way, Client(way.url) as client, pytest.raises(IOFailureError) as caught:
        client.generate(wish(output=str(tmp_path / "v.mp4")))

    assert "may have taken the job" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_arrives_damaged_is_not_delivered(server: Server, client: Client, tmp_path: Path) -> None:
    job = client.submit(wish())
    list(client.events(job.id))
    video = next((server.state / "jobs" / job.id).glob("attempt-*/video.mp4"))
    data = bytearray(video.read_bytes())
    data[len(data) // 2] ^= 1
    video.write_bytes(data)

    with pytest.raises(IOFailureError, match="damaged"):
        client.collect(job.id, tmp_path / "v.mp4")

    assert not (tmp_path / "v.mp4").exists()
    assert leftovers(tmp_path) == []


def test_an_unreachable_server_is_no_reason_to_wait(tmp_path: Path) -> None:
    began = time.monotonic()
    with (
        Client(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(InputMissingError, match="cannot be reached"),
    ):
        client.generate(wish(output=str(tmp_path / "v.mp4")))

    assert time.monotonic() - began < 5


def test_something_else_at_that_address_is_told(tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if self.path == "/readyz" else 200)
            self.send_header("Location", "https://elsewhere.example/login")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{stranger.server_port}") as client:
            with pytest.raises(OmniRTError, match="sends callers on to https://elsewhere"):
                client.health()
            with pytest.raises(OmniRTError, match="is not JSON"):
                client.models()
        stranger.shutdown()
