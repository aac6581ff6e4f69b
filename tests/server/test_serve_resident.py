"""Jobs and resident workers: models stay loaded from job to job where they can be, and not too many of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from omnirt_cli.models import registry
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.resident.client import Connection
from omnirt_cli.server.jobs.loaded import can_stay_loaded
from omnirt_cli.settings import Surroundings
from tests.omnirt_cli_runs import CHECKOUTS, wait_for
from tests.server.server_runs import Server, body, end_daemon, finished, generating, submit, with_media


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path, ("--backend", "cpu", "--pipeline-cache-size", "1", "--drain", "0"))
    try:
        yield with_media(found.start())
    finally:
        found.stop()
        end_daemon(found)


def _workers(server: Server) -> set[str]:
    connection = Connection.running(server.environment())
    if connection is None:
        return set()
    with connection:
        return {worker.id for worker in connection.workers()}


def _rendered(client: httpx.Client, **config: Any) -> dict[str, Any]:
    ended = finished(client, submit(client, config=config), seconds=90)
    assert ended["state"] == "succeeded", ended["error"]
    return dict(ended)


def test_the_second_job_finds_the_model_loaded_and_idle_models_make_room(server: Server) -> None:
    with server.client() as client:
        first, second = _rendered(client), _rendered(client, seed=7, max_chunks=1)

        assert first["execution_mode"] == "persistent_worker"
        assert first["worker_id"] == second["worker_id"]
        assert [one["result"]["metadata"]["hot"] for one in (first, second)] == [False, True]

        other = _rendered(client, size="64*64")

        assert other["worker_id"] != first["worker_id"]
        wait_for(lambda: _workers(server) == {other["worker_id"]}, what="the first worker's end")
        # The server lives on after the process that renders has stopped a worker.
        assert client.post("/v1/jobs", json=body()).status_code == 202


def test_a_cancelled_job_leaves_the_model_loaded(tmp_path: Path) -> None:
    server = Server(tmp_path, ("--backend", "cpu", "--drain", "0"), env={"MINIATURE_CHUNK_S": "1"})
    try:
        with with_media(server.start()).client() as client:
            job_id = submit(client, config={"max_chunks": 10})
            generating(client, job_id)
            before = _workers(server)

            client.delete(f"/v1/jobs/{job_id}")

            ended = finished(client, job_id, seconds=20)
            assert (ended["state"], ended["error"]["code"]) == ("cancelled", "cancelled")
            assert _workers(server) == before
            assert len(before) == 1
    finally:
        server.stop()
        end_daemon(server)


@pytest.mark.parametrize(
    ("model", "config", "loaded"),
    [
        ("soulx-flashtalk-14b", {}, True),
        ("soulx-flashhead-1.3b", {}, True),
        ("soulx-liveact-14b", {}, False),
        ("soulx-flashtalk-14b", {"executor": "script"}, False),
        ("soulx-flashtalk-14b", {"repo_path": str(CHECKOUTS / "flashtalk_ascend")}, True),
        ("soulx-flashtalk-14b", {"repo_path": str(CHECKOUTS / "flashhead")}, False),
        ("soulx-flashtalk-14b", {"repo_path": "/nothing"}, False),
        ("soulx-flashtalk-14b", {"working_directory": "checkout"}, False),
    ],
)
def test_models_that_can_stay_loaded_do(model: str, config: dict[str, Any], loaded: bool, tmp_path: Path) -> None:
    around = Surroundings(environ={}, cwd=tmp_path, user_files=(), home=None)
    request = Audio2VideoRequest.model_validate({"model": model, "backend": "cpu", "config": config})

    assert can_stay_loaded(request, around) is loaded
    assert model in registry.model_ids()
