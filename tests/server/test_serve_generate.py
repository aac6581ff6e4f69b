"""Renders asked for over HTTP: the published request, uploads, the same defaults as the command line."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

import httpx

from tests.omnirt_cli_runs import ASSETS, generate_args, omnirt, wait_for
from tests.server.server_runs import MODEL, TINY, Server, body, error_of, finished, generating, job, serving, with_media


def test_the_published_request_gives_a_video(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    answer = client.post("/v1/generate", json=body(config={"preset": "balanced"}))

    assert answer.status_code == 200, answer.text
    result = answer.json()
    artifact = result["outputs"][0]
    assert result["metadata"]["status"] == "succeeded"
    assert result["metadata"]["job_id"] == answer.headers["x-omnirt-job"]
    assert (artifact["kind"], artifact["num_frames"], artifact["width"]) == ("video", 56, 128)
    video = tmp_path / "video.mp4"
    video.write_bytes(client.get(artifact["url"]).content)
    probed = subprocess.run(["ffprobe", "-v", "error", "-show_format", str(video)], capture_output=True, check=True)
    assert b"duration=2.24" in probed.stdout
    assert Path(artifact["path"]).stat().st_size == video.stat().st_size


def test_uploads_are_rendered(client: httpx.Client) -> None:
    with (ASSETS / "portrait.png").open("rb") as image, (ASSETS / "speech.wav").open("rb") as audio:
        answer = client.post(
            "/v1/generate",
            files={"image": ("../../p.png", image), "audio": ("s.wav", audio)},
            data={"model": MODEL, "preset": "fast", "request": json.dumps({"config": TINY})},
        )

    assert answer.status_code == 200, answer.text
    report = answer.json()["metadata"]
    assert report["request"]["config"]["preset"] == "fast"
    assert Path(report["inputs"]["image"]["path"]).name == "image.png"


def test_knobs_are_resolved_as_on_the_command_line(client: httpx.Client, tmp_path: Path) -> None:
    over_http = client.post("/v1/generate", json=body(config={"preset": "quality"})).json()["metadata"]
    typed = omnirt(
        *generate_args(tmp_path / "v.mp4", "--max-chunks", "2", "--preset", "quality", "--dry-run", "--json")
    ).json["plan"]

    assert over_http["config_resolved"] == typed["config"]


def test_a_job_is_answered_at_once_and_found_again(client: httpx.Client) -> None:
    answer = client.post("/v1/generate", json=body(async_run=True))

    assert answer.status_code == 202
    document = answer.json()
    assert document["state"] in ("queued", "running")
    assert answer.headers["location"] == document["links"]["self"]
    ended = finished(client, document["id"])
    assert ended["state"] == "succeeded"
    assert ended["result"]["metadata"]["enqueued_at_ms"] == ended["enqueued_at_ms"]
    assert client.get(ended["links"]["report"]).json()["status"] == "succeeded"
    assert "Finished." in client.get(ended["links"]["log"], params={"tail": 5}).text


def test_a_run_that_fails_answers_with_its_own_error(tmp_path: Path) -> None:
    with serving(tmp_path, env={"MINIATURE_FAULT": "exit3"}) as server, with_media(server).client() as client:
        answer = client.post("/v1/generate", json=body())
        error = error_of(answer)

        assert (answer.status_code, error["code"], error["exit_code"]) == (502, "model_failed", 10)
        assert job(client, error["job_id"])["state"] == "failed"
        assert client.get(f"/v1/jobs/{error['job_id']}/report").json()["error"]["code"] == "model_failed"


def test_a_client_that_goes_away_takes_its_render_along(tmp_path: Path) -> None:
    with serving(tmp_path, env={"MINIATURE_CHUNK_S": "20"}) as server, with_media(server).client() as client:
        with contextlib.suppress(httpx.ReadTimeout):
            httpx.post(f"{server.url}/v1/generate", json=body(), timeout=4)

        listed = wait_for(lambda: client.get("/v1/jobs").json()["data"], what="the job")
        ended = finished(client, listed[0]["id"], seconds=20)

        assert ended["state"] == "cancelled"


def test_without_a_checkout_no_stand_in_is_rendered_in_its_place(tmp_path: Path) -> None:
    server = Server(tmp_path, flags=("--backend", "cuda"))
    try:
        with with_media(server.start()).client() as client:
            assert client.post("/v1/generate", json=body()).status_code >= 400
            ready = wait_for(lambda: (now := client.get("/readyz").json())["models"] and now, what="the survey")

            assert not ready["ok"]
            assert client.get("/readyz").status_code == 503
            assert client.get("/v1/audio2video/models").json()["models"] == []
    finally:
        server.stop()


def test_a_job_in_its_midst_tells_how_far_it_is(tmp_path: Path) -> None:
    with serving(tmp_path, env={"MINIATURE_CHUNK_S": "1"}) as server, with_media(server).client() as client:
        job_id = client.post("/v1/jobs", json=body()).json()["id"]

        now = generating(client, job_id)

        assert now["progress"]["chunks"] == 2
        assert client.get(now["links"]["report"]).json()["status"] == "running"
        assert client.get(now["links"]["log"]).status_code == 200
        assert error_of(client.get(now["links"]["video"]))["code"] == "busy"
