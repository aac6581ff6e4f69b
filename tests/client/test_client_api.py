"""`omnirt.Client`: jobs, models, keys; and how it reads what a server says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import omnirt
from omnirt_cli.client.answers import error_of_answer
from omnirt_cli.client.client import Client
from omnirt_cli.client.documents import Job, read
from omnirt_cli.client.event_lines import SentEvent, parse
from omnirt_cli.errors import (
    ERRORS,
    BusyError,
    CancelledRunError,
    ConfigInvalidError,
    InputInvalidError,
    InputMissingError,
    IOFailureError,
    NotAuthorisedError,
    OmniRTError,
    OutputUncreatableError,
    UsageError,
)
from omnirt_cli.report import RunReport
from omnirt_cli.server.problems import Problem
from tests.client.client_runs import KEY, report_beside, there, wish
from tests.omnirt_cli_runs import omnirt as run
from tests.omnirt_cli_runs import wait_for
from tests.server.server_runs import MODEL, Server, serving


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server that wants a key, and the file with it."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "keys"
    keys.write_text(f"# of the tests\n{KEY}\n")
    with serving(folder / "server", "--api-key-file", str(keys)) as found:
        yield found, keys


# --- jobs -----------------------------------------------------------------------------------------


def test_a_job_is_submitted_followed_and_collected(client: Client, tmp_path: Path) -> None:
    job = client.submit(wish(seed=3), priority="high")
    with pytest.raises(BusyError):
        client.collect(job.id, tmp_path / "v.mp4")

    names = [getattr(event, "event", "") for event in client.events(job.id)]
    result = client.collect(job.id, tmp_path / "v.mp4")

    assert (names[0], names[-1]) == ("run_started", "run_finished")
    assert (job.priority, client.job(job.id).state.value) == ("high", "succeeded")
    assert result.path == tmp_path / "v.mp4"
    assert result.metadata.model_dump(mode="json") == report_beside(result.path)
    assert result.metadata.job_id == job.id
    with pytest.raises(OutputUncreatableError):
        client.collect(job.id, tmp_path / "v.mp4", no_clobber=True)


def test_jobs_are_listed_page_by_page(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [client.submit(wish()).id for _ in range(3)]
    for job_id in asked:
        client.cancel(job_id)
        wait_for(lambda job_id=job_id: client.job(job_id).state.final, what="the job's end")
    monkeypatch.setattr("omnirt_cli.client.client._PAGE", 2)

    found = [job.id for job in client.jobs(model=MODEL)]

    assert found[:3] == asked[::-1]
    assert len(found) == len(set(found))
    assert all(job.state.value == "cancelled" for job in client.jobs(state="cancelled"))


def test_a_cancelled_job_has_no_video(client: Client, tmp_path: Path) -> None:
    job = client.submit(wish())
    client.cancel(job.id)
    wait_for(lambda: client.job(job.id).state.final, what="the job's end")

    with pytest.raises(CancelledRunError):
        client.collect(job.id, tmp_path / "v.mp4")

    assert list(tmp_path.iterdir()) == []


def test_a_job_that_is_not_there(client: Client) -> None:
    for ask in (client.job, client.cancel, lambda job_id: list(client.events(job_id))):
        with pytest.raises(InputMissingError, match="there is no job"):
            ask("0" * 32)
    with pytest.raises(InputMissingError):
        client.job("../models")


def test_a_refusal_that_comes_before_all_is_sent_is_heard(tmp_path: Path) -> None:
    """A server that refuses does not read what it refuses."""
    long = tmp_path / "long.wav"
    with long.open("wb") as file:
        file.truncate(64 << 20)
    too_long = wish().model_copy(update={"inputs": wish().inputs.model_copy(update={"audio": str(long)})})
    flags = ("--max-queue", "1", "--max-upload-mib", "8")
    with serving(tmp_path / "s", *flags, env={"MINIATURE_CHUNK_S": "60"}) as server, Client(server.url) as client:
        with pytest.raises(InputInvalidError, match="larger than"):
            client.submit(too_long)
        jobs = [client.submit(wish())]
        wait_for(lambda: client.job(jobs[0].id).state.value == "running", what="the first job")
        jobs.append(client.submit(wish()))

        with pytest.raises(BusyError) as caught:
            client.submit(wish())

    assert (jobs[1].position, caught.value.exit_status) == (0, 75)
    assert "try again in about" in (caught.value.hint or "")


def test_models_and_health(client: Client) -> None:
    wait_for(lambda: client.health().ok, what="a ready server")

    models = {model.id: model for model in client.models()}

    assert MODEL in models
    assert models[MODEL].ready
    assert "fast" in models[MODEL].presets
    assert "sample_steps" in models[MODEL].knobs


def test_a_call_from_python_says_its_place(client: Client, tmp_path: Path) -> None:
    result = client.generate(wish(output_dir="elsewhere"), output=tmp_path / "here.mp4")

    assert result.path == tmp_path / "here.mp4"
    assert result.path.exists()


def test_the_client_is_part_of_the_package() -> None:
    assert omnirt.Client is Client
    assert KEY not in repr(Client("http://h:1", KEY))


@pytest.mark.parametrize("url", ["h:8000", "ftp://h", "http://", "http://me:pw@h", "http://h/?key=1", "http://h:x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        Client(url)


# --- keys -----------------------------------------------------------------------------------------


def test_without_a_key_or_with_a_wrong_one_the_server_refuses(guarded: tuple[Server, Path], tmp_path: Path) -> None:
    for key in (None, KEY[::-1]):
        with Client(guarded[0].url, key) as client:
            with pytest.raises(NotAuthorisedError) as caught:
                client.generate(wish(output=str(tmp_path / "v.mp4")))
            assert "--api-key-file" in (caught.value.hint or "")
            client.health()
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_takes_the_key_from_a_file_and_shows_it_nowhere(
    guarded: tuple[Server, Path], tmp_path: Path
) -> None:
    server, keys = guarded
    wrong = tmp_path / "wrong"
    wrong.write_text("x" * 40)
    video = tmp_path / "out" / "v.mp4"
    events = tmp_path / "e.jsonl"

    refused = run(*there(server.url, video, "--api-key-file", str(wrong)))
    taken = run(*there(server.url, video, "--json", "--events", str(events)), env={"OMNIRT_API_KEY_FILE": str(keys)})

    assert refused.code == 77
    assert "x" * 40 not in refused.stderr
    assert taken.code == 0, taken.stderr
    written = [path.read_bytes() for path in (*video.parent.iterdir(), events)]
    assert not any(KEY.encode() in data for data in written)
    assert KEY not in taken.stdout + taken.stderr + server.log()


def test_a_key_file_that_is_no_use_is_told(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none\n")

    missing = run(*there("http://127.0.0.1:9", tmp_path / "v.mp4", "--api-key-file", str(tmp_path / "nothing")))
    empty = run(*there("http://127.0.0.1:9", tmp_path / "v.mp4", "--api-key-file", str(tmp_path / "keys")))

    assert (missing.code, empty.code) == (66, int(ConfigInvalidError.exit_code))


# --- what a server says ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ERRORS)
def test_the_server_s_error_body_is_the_same_error_again(kind: type[OmniRTError]) -> None:
    answer = Problem(kind("what happened", hint="what to do")).response()

    error = error_of_answer(answer.status_code, bytes(answer.body), "http://h")

    assert type(error) is kind
    assert (error.message, error.hint, error.exit_status) == (
        "what happened",
        "what to do",
        kind("").exit_status,
    )


def test_errors_that_no_omnirt_server_sends() -> None:
    unknown = b'{"error": {"code": "of_a_later_time", "message": "m", "hint": null, "exit_code": 99}}'

    assert type(error_of_answer(400, unknown, "http://h")) is IOFailureError
    assert "is not an OmniRT server" in error_of_answer(404, b"<html>", "http://h").message
    assert "overloaded" in error_of_answer(503, b"Service Unavailable", "http://h").message


def test_keys_of_a_later_server_are_passed_over() -> None:
    report = {
        "run_id": "r",
        "status": "succeeded",
        "started_at": "",
        "later": 1,
        "chunks": [{"index": 0, "later": {"a": 1}}],
    }

    found = read(RunReport, report, "http://h")

    assert (found.run_id, found.chunks[0].index) == ("r", 0)
    assert "later" in report
    with pytest.raises(InputMissingError, match=r"Job has a state that does not fit"):
        read(Job, {"id": "1", "state": "elsewhere", "model": "m"}, "http://h")


def test_events_are_cut_at_line_ends_only() -> None:
    stream = (
        ': ping\r\n\r\nid: 4\r\nevent: log_line\r\ndata: {"text": "a\u2028b\x85c"}\r\n\r\n'
        "data: one\ndata: two\n\nid: 9\nevent: half\ndata: x"
    ).encode()

    for size in (1, 3, 1000):
        blocks = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert list(parse(blocks)) == [
            SentEvent(4, "log_line", '{"text": "a\u2028b\x85c"}'),
            SentEvent(0, "message", "one\ntwo"),
        ]
