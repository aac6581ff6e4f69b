"""The page at `/` as files over HTTP, and the picture of a job's run; what a browser does with it is beside."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import httpx
import pytest

from omnirt_cli.picture.document import run_document, style_source
from omnirt_cli.picture.run_view import run_view
from omnirt_cli.picture.video import VideoLink
from omnirt_cli.report import RunReport
from omnirt_cli.server import page
from tests.server.server_runs import error_of, finished, job, serving, submit, with_media

KEY = "a-key-of-the-page-0123456789"
FOLDER = Path(page.__file__).parent

ADDRESS = re.compile(r"""(?:href|src)="(/[^"#]*)"|from "\./([\w.]+)\"""")


def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("address", "file"), page.FILES.items())
def test_each_file_is_served_with_its_type_and_locked_down(
    client: httpx.Client, address: str, file: page.PageFile
) -> None:
    answer = client.get(address)

    assert answer.status_code == 200
    assert answer.content == (FOLDER / file.name).read_bytes()
    assert answer.headers["content-type"] == file.media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.head(address).status_code == 200


def test_the_policy_lets_only_the_page_s_own_files_run(client: httpx.Client) -> None:
    policy = dict(part.split(" ", 1) for part in client.get("/").headers["content-security-policy"].split("; "))

    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert not [sources for sources in policy.values() if "unsafe" in sources or "*" in sources or "http" in sources]


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    html = text_of("index.html")

    assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL) == [""]
    assert "<style" not in html
    assert not re.findall(r"\s(?:style|on\w+)=", html)
    for file in page.FILES.values():
        elsewhere = [found for found in re.findall(r"https?://[^\s\"'`]+", text_of(file.name)) if "w3.org" not in found]
        assert elsewhere == [], file.name


def test_the_page_finds_every_file_that_it_names_and_leaves_none_out() -> None:
    named = {
        found or f"/page/{module}"
        for file in page.FILES.values()
        for found, module in ADDRESS.findall(text_of(file.name))
    }

    assert named - {"/docs"} == set(page.FILES) - {"/"}
    assert {file.name for file in page.FILES.values()} == {
        path.name for path in FOLDER.iterdir() if path.suffix not in (".py", "") and path.is_file()
    }


@pytest.mark.parametrize(
    "path", ["/page/", "/page/__init__.py", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/x/y"]
)
def test_nothing_else_of_the_package_is_served(client: httpx.Client, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 404
    assert error_of(answer)["code"] == "input_missing"


def test_the_page_needs_no_key_and_what_it_shows_does(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY + "\n")
    with serving(tmp_path, "--api-key-file", str(keys)) as server, server.client() as client:
        assert {client.get(address).status_code for address in page.FILES} == {200}
        for address in ("/v1/models", "/v1/jobs", "/openapi.json", f"/v1/jobs/{'0' * 32}/page", "/page/other.js"):
            assert client.get(address).status_code == 401, address
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
        assert client.get("/", headers={"Origin": "http://evil.example"}).status_code == 403


def test_a_job_s_picture_is_the_picture_of_its_run(client: httpx.Client) -> None:
    job_id = submit(client)
    assert finished(client, job_id)["state"] == "succeeded"

    answer = client.get(f"/v1/jobs/{job_id}/page")

    report = RunReport.model_validate(client.get(f"/v1/jobs/{job_id}/report").json())
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == run_document(run_view(report, VideoLink(href=f"/v1/jobs/{job_id}/video")))


def test_a_picture_s_only_style_is_the_one_that_the_policies_name(client: httpx.Client) -> None:
    job_id = submit(client)
    finished(client, job_id)

    answer = client.get(f"/v1/jobs/{job_id}/page")

    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    source = f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
    assert style_source() == source
    assert f"style-src {source}; " in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]
    assert f"style-src 'self' {source}; " in client.get("/").headers["content-security-policy"]
    assert not re.findall(r"<script|\sstyle=|\son\w+=", answer.text)


def test_a_job_that_never_began_has_no_picture(tmp_path: Path) -> None:
    with serving(tmp_path, env={"MINIATURE_CHUNK_S": "5"}) as server, with_media(server).client() as client:
        first, second = submit(client), submit(client)
        client.delete(f"/v1/jobs/{second}")

        answer = client.get(f"/v1/jobs/{second}/page")

        assert job(client, second)["state"] == "cancelled"
        assert answer.status_code == 404
        assert "did not begin" in error_of(answer)["message"]
        client.delete(f"/v1/jobs/{first}")


def test_the_picture_of_a_failed_job_tells_why(client: httpx.Client) -> None:
    job_id = submit(client, config={"size": "17*17"})
    assert finished(client, job_id)["state"] == "failed"

    text = client.get(f"/v1/jobs/{job_id}/page").text

    assert "both sides must be multiples of 16" in text
    assert "There is no video." in text
    assert "<video" not in text
