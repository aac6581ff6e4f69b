"""Server-sent events: in order, with ids, resumable, and with an end."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.server.server_runs import SLOW, Server, finished, generating, serving, sse, submit, with_media


def _events(client: httpx.Client, job_id: str, **options: object) -> list[tuple[str, str, dict]]:  # type: ignore[type-arg]
    with client.stream("GET", f"/v1/jobs/{job_id}/events", **options) as answer:  # type: ignore[arg-type]
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(sse(answer.iter_lines()))


def test_the_events_of_a_job_come_in_order_and_end(client: httpx.Client) -> None:
    job_id = submit(client)

    found = _events(client, job_id)

    names = [name for _, name, _ in found]
    assert [int(number) for number, _, _ in found] == list(range(1, len(found) + 1))
    assert names[0] == "run_started"
    assert names.count("chunk_finished") == 2
    assert names[-2:] == ["run_finished", "job_succeeded"]
    assert found[-1][2]["state"] == "succeeded"


def test_a_finished_job_s_events_are_told_again_and_end_at_once(client: httpx.Client) -> None:
    job_id = submit(client)
    finished(client, job_id)
    began = time.monotonic()

    first, second = _events(client, job_id), _events(client, job_id)

    assert time.monotonic() - began < 20
    assert first == second


def test_a_reader_that_was_cut_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with serving(tmp_path, env=SLOW) as server, with_media(server).client() as client:
        job_id = submit(client)
        seen: list[str] = []
        with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            for number, _, _ in sse(answer.iter_lines()):
                seen.append(number)
                if len(seen) == 4:
                    break

        rest = [number for number, _, _ in _events(client, job_id, headers={"Last-Event-ID": seen[-1]})]

        whole = [number for number, _, _ in _events(client, job_id)]
        assert seen + rest == whole
        assert _events(client, job_id, params={"after": int(whole[-1])}) == []
        assert [name for _, name, _ in _events(client, job_id, params={"after": int(whole[-2])})] == ["job_succeeded"]


def test_ids_go_on_over_a_killed_server(tmp_path: Path) -> None:
    with serving(tmp_path, env=SLOW) as server:
        with with_media(server).client() as client:
            job_id = submit(client)
            generating(client, job_id)
            server.kill()
        server.start()
        with server.client() as client:
            found = _events(client, job_id)

    names = [name for _, name, _ in found]
    assert [int(number) for number, _, _ in found] == list(range(1, len(found) + 1))
    assert names.count("run_started") == 2
    assert names[-1] == "job_succeeded"


def test_streams_of_a_draining_server_end(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--drain", "0.2", env={"MINIATURE_CHUNK_S": "60"}) as server,
        with_media(server).client() as client,
    ):
        running, waiting = submit(client), submit(client)
        generating_or_so = time.monotonic() + 2
        with client.stream("GET", f"/v1/jobs/{waiting}/events") as answer:
            while time.monotonic() < generating_or_so:
                time.sleep(0.1)
            server.stop()
            assert [name for _, name, _ in sse(answer.iter_lines())] == []
        assert running != waiting


def test_many_readers_that_go_away_leave_nothing(server: Server, client: httpx.Client) -> None:
    import psutil

    assert server.process is not None
    job_id = submit(client)
    process = psutil.Process(server.process.pid)
    for _ in range(30):
        with server.client() as one, one.stream("GET", f"/v1/jobs/{job_id}/events"):
            pass
    client.delete(f"/v1/jobs/{job_id}")
    finished(client, job_id)
    time.sleep(0.5)

    assert process.num_fds() < 60
    assert process.num_threads() < 60
