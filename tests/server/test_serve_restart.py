"""What happens to jobs when a server ends, is killed, and is started again."""

from __future__ import annotations

import fcntl
import signal
import sqlite3
import time
from pathlib import Path

import httpx
import pytest

from tests.omnirt_cli_runs import marked_processes, omnirt, wait_for
from tests.server.server_runs import (
    SLOW,
    Server,
    body,
    error_of,
    finished,
    generating,
    job,
    serving,
    submit,
    waiting_caller,
    with_media,
)


def test_a_killed_server_s_jobs_are_rendered_by_the_next_one(tmp_path: Path) -> None:
    with serving(tmp_path, env=SLOW) as server:
        with with_media(server).client() as client:
            running, waiting = submit(client), submit(client)
            generating(client, running)
            run_id = client.get(f"/v1/jobs/{running}/report").json()["run_id"]
            server.kill()

        server.start()

        with server.client() as client:
            first, second = finished(client, running), finished(client, waiting)
            assert (first["state"], first["attempt"]) == ("succeeded", 2)
            assert (second["state"], second["attempt"]) == ("succeeded", 1)
            assert not marked_processes(run_id)
            assert first["run_id"] != run_id
            assert client.get(first["links"]["video"]).status_code == 200


def test_a_finished_render_of_a_killed_server_is_published_and_not_made_again(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with with_media(server).client() as client:
            done = submit(client)
            run_id = finished(client, done)["run_id"]
        server.kill()
        # As if it had been killed between the render's end and the publication.
        with sqlite3.connect(server.state / "jobs.sqlite3") as database:
            database.execute("UPDATE jobs SET state = 'running', run_id = NULL, finished_at_ms = NULL")
        database.close()

        server.start()

        with server.client() as client:
            found = finished(client, done)
            assert (found["state"], found["attempt"], found["run_id"]) == ("succeeded", 1, run_id)


def test_a_render_that_somebody_waited_for_ends_with_its_server(tmp_path: Path) -> None:
    with serving(tmp_path, env={"MINIATURE_CHUNK_S": "60"}) as server:
        with with_media(server).client() as client:
            asking = waiting_caller(server)
            found = wait_for(lambda: client.get("/v1/jobs").json()["data"], what="the job")
            wait_for(lambda: (job(client, found[0]["id"])["progress"] or {}).get("stage") == "generate", seconds=90)
            behind = waiting_caller(server)
            wait_for(lambda: len(client.get("/v1/jobs").json()["data"]) == 2, what="the job behind it")
            server.kill()
            asking.wait(20)
            behind.wait(20)

        server.start()

        with server.client() as client:
            ended = finished(client, found[0]["id"])
            assert (ended["state"], ended["error"]["code"]) == ("cancelled", "cancelled")
            listed = client.get("/v1/jobs").json()["data"]
            assert [(one["state"], one["attempt"]) for one in listed] == [("cancelled", 0), ("cancelled", 1)]


def test_the_next_server_waits_until_nothing_of_the_old_render_is_left(tmp_path: Path) -> None:
    with serving(tmp_path, env=SLOW) as server:
        with with_media(server).client() as client:
            job_id = submit(client)
            generating(client, job_id)
            server.kill()
        lock = server.state / "jobs" / job_id / "attempt-1" / "lock"
        with lock.open() as held:
            wait_for(lambda: not _is_locked(lock), what="the old render's end")
            fcntl.flock(held, fcntl.LOCK_EX)
            server.start()
            with server.client() as client:
                time.sleep(2)
                assert job(client, job_id)["attempt"] == 1
                fcntl.flock(held, fcntl.LOCK_UN)
                assert finished(client, job_id)["attempt"] == 2


def _is_locked(path: Path) -> bool:
    from omnirt_cli.files import is_locked

    return is_locked(path)


def test_sigterm_lets_a_running_job_finish_and_takes_no_more(tmp_path: Path) -> None:
    with serving(tmp_path, env=SLOW) as server, with_media(server).client() as client:
        running, waiting = submit(client), submit(client)
        generating(client, running)

        server.signal(signal.SIGTERM)

        refused = wait_for(
            lambda: (answer := client.post("/v1/jobs", json=body())).status_code == 503 and answer, what="the drain"
        )
        assert error_of(refused)["code"] == "busy"
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        assert server.wait() == 0
        server.start()
        with server.client() as again:
            assert job(again, running)["state"] == "succeeded"
            assert finished(again, waiting)["state"] == "succeeded"


def test_a_drain_that_takes_too_long_puts_the_job_back(tmp_path: Path) -> None:
    with serving(tmp_path, "--drain", "0.5", env={"MINIATURE_CHUNK_S": "60"}) as server:
        with with_media(server).client() as client:
            job_id = submit(client)
            wait_for(lambda: (job(client, job_id)["progress"] or {}).get("stage") == "generate", seconds=90)
            run_id = client.get(f"/v1/jobs/{job_id}/report").json()["run_id"]
        began = time.monotonic()
        server.signal(signal.SIGTERM)

        assert server.wait() == 0
        assert time.monotonic() - began < 25
        assert not marked_processes(run_id)
        with sqlite3.connect(server.state / "jobs.sqlite3") as database:
            assert database.execute("SELECT state FROM jobs").fetchall() == [("queued",)]
        database.close()


def test_a_second_server_does_not_take_the_first_one_s_jobs(tmp_path: Path, server: Server) -> None:
    refused = omnirt("serve", "--state-dir", str(server.state), "--port", "0", "--json")

    assert refused.code == 75
    assert refused.json["error"]["code"] == "busy"


def test_a_taken_port_is_told(tmp_path: Path, server: Server) -> None:
    port = httpx.URL(server.url).port

    refused = omnirt("serve", "--state-dir", str(tmp_path / "state"), "--port", str(port))

    assert refused.code == 75
    assert str(port) in refused.stderr


@pytest.mark.parametrize("text", [b"no database at all, but long enough to be looked at " * 40])
def test_a_damaged_index_is_not_thrown_away(tmp_path: Path, text: bytes) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "jobs.sqlite3").write_bytes(text)

    refused = omnirt("serve", "--state-dir", str(state), "--port", "0")

    assert refused.code == 74
    assert "move it aside" in refused.stderr
    assert (state / "jobs.sqlite3").read_bytes() == text
