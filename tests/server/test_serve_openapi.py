"""The API's schema: what it promises is what is answered, whatever is sent."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from omnirt_cli.server.problems import ErrorBody
from tests.server.server_runs import Server, serving, with_media

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def _sweep(server: Server, folder: Path, *more: str) -> None:
    """Requests made of the schema, in and out of what it allows."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--checks", CHECKS),
            # The event stream of a job that runs has no end for as long as it does.
            *("--exclude-path-regex", "events", "--seed", "1", "--no-color", *more),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "traceback" not in server.log()


def test_nothing_in_the_schema_leads_to_a_500(tmp_path: Path) -> None:
    with serving(tmp_path, "--max-queue", "4", env={"MINIATURE_CHUNK_S": "60"}) as server:
        _sweep(with_media(server), tmp_path, "--phases", "fuzzing", "--max-examples", "12")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_at_the_schema_s_edges_leads_to_a_500(tmp_path: Path) -> None:
    with serving(tmp_path, "--max-queue", "4", env={"MINIATURE_CHUNK_S": "60"}) as server:
        _sweep(with_media(server), tmp_path, "--phases", "coverage,fuzzing", "--max-examples", "60")


def test_every_route_tells_its_errors_and_the_document_stands_by_itself(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()

    schemas = document["components"]["schemas"]
    assert {"GenerateBody", "JobBody", "GenerationConfig", ErrorBody.__name__} <= set(schemas)
    references = {word.split('"')[0] for word in client.get("/openapi.json").text.split("#/components/schemas/")[1:]}
    assert references <= set(schemas)
    assert "$defs" not in client.get("/openapi.json").text
    assert "repo_path" not in schemas["GenerationConfig"]["properties"]


def test_the_reference_shows_every_route_and_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()

    page = client.get("/docs")

    assert page.headers["content-type"].startswith("text/html")
    assert all(path in page.text for path in document["paths"])
    assert all(f'id="{name}"' in page.text for name in document["components"]["schemas"])
    assert not re.search(r"<script|(src|href)=.(https?:)?//", page.text)
