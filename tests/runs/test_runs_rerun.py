"""`omnirt runs rerun`: the same run again, or a refusal that says what is no longer the same."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kept_runs import Beside

from omnirt_cli.media.files import sha256_of
from omnirt_cli.report import RunReport
from omnirt_cli.request import Audio2VideoRequest, Config, Inputs
from omnirt_cli.runs.asked import asked_request
from omnirt_cli.runs.notes import note_finished
from omnirt_cli.runs.place import DATA_DIR_VARIABLE
from omnirt_cli.settings import Surroundings, resolve
from tests.omnirt_cli_runs import ASSETS, CHECKOUTS, checkout, generate_args, omnirt, read_report

SEED = 77


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished render and its inputs."""
    folder = tmp_path_factory.mktemp("rendered")
    image, audio = (Path(shutil.copy(ASSETS / name, folder)) for name in ("portrait.png", "speech.wav"))
    args = generate_args(folder / "talk.mp4", "--max-chunks", "2", "--seed", str(SEED), image=image, audio=audio)
    done = omnirt(*args, "--progress", "never", env={DATA_DIR_VARIABLE: str(folder / "data")})
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture
def before(rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in a folder of the test's own, noted as one run."""
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "data"))
    folder = tmp_path / "before"
    shutil.copytree(rendered, folder, ignore=shutil.ignore_patterns("data"))
    note(folder)
    return folder


def note(folder: Path, change: Callable[[dict[str, Any]], None] = lambda document: None, **config: Any) -> None:
    """Note the run of a folder, as if it had been rendered there."""
    document = read_report(folder / "talk.mp4")
    for info in document["inputs"].values():
        info["path"] = str(folder / Path(info["path"]).name)
    document["artifacts"][0]["path"] = str(folder / "talk.mp4")
    document["request"] = asked(folder, **config)
    change(document)
    beside = Beside(folder)
    report = RunReport.model_validate(document)
    beside.report.write_text(report.model_dump_json())
    assert note_finished(report, beside.report, beside.log) is None


def asked(folder: Path, **config: Any) -> dict[str, Any]:
    said = {"seed": SEED, "max_chunks": 2, "size": "128*128", "output": str(folder / "talk.mp4"), **config}
    request = Audio2VideoRequest(
        model="soulx-flashtalk-14b",
        inputs=Inputs(image="portrait.png", audio="speech.wav"),
        config=Config(**said),
    )
    nowhere = Surroundings(environ={}, cwd=folder, user_files=(), home=None)
    settings = resolve("flashtalk", request.config.said(), None, nowhere)
    return asked_request(request, settings, model=request.model, backend="cpu", cwd=folder)


def videos(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.mp4")}


# --- the same again -----------------------------------------------------------------------------------


def test_a_rerun_renders_the_same_beside_the_old_video(before: Path) -> None:
    old = sha256_of(before / "talk.mp4")

    done = omnirt("runs", "rerun", "last", "--json")

    assert done.code == 0, done.stderr
    first, again = read_report(before / "talk.mp4"), done.report
    assert again["run_id"] != first["run_id"]
    assert again["config_resolved"] == first["config_resolved"]
    assert again["inputs"] == first["inputs"]
    assert Path(again["artifacts"][0]["path"]).parent == before
    assert len(videos(before)) == 2
    assert sha256_of(before / "talk.mp4") == old


def test_a_dry_run_shows_the_same_command_and_starts_nothing(before: Path) -> None:
    done = omnirt("runs", "rerun", "last", "--dry-run", "--json", "--output", str(before / "again.mp4"))

    assert done.code == 0, done.stderr
    assert done.json["plan"]["argv"] == read_report(before / "talk.mp4")["command"]["argv"]
    assert done.json["plan"]["outputs"]["video"] == str(before / "again.mp4")
    assert videos(before) == {"talk.mp4"}


def test_settings_of_today_have_no_part_in_it(before: Path, tmp_path: Path) -> None:
    (tmp_path / "omnirt.yaml").write_text("sample_steps: 9\n")

    done = omnirt(
        "runs", "rerun", "last", "--dry-run", "--json", env={"OMNIRT_FLASHTALK_FRAME_NUM": "17"}, cwd=tmp_path
    )

    config = done.json["plan"]["config"]
    assert (config["seed"], config["sample_steps"], config["frame_num"]) == (SEED, 4, 33)


def test_a_report_without_a_request_gives_what_it_can_and_says_so(before: Path) -> None:
    note(before, lambda document: document.update(request={}))

    done = omnirt("runs", "rerun", "last", "--dry-run", "--json")

    assert done.code == 0, done.stderr
    assert "does not hold every setting" in done.stderr
    config = done.json["plan"]["config"]
    assert (config["seed"], config["size"], config["max_chunks"]) == (SEED, "128*128", 2)


def test_knobs_of_a_preset_stay_as_they_were(before: Path) -> None:
    def by_preset(document: dict[str, Any]) -> None:
        document["config_resolved"]["sample_steps"] = 3
        document["config_sources"]["sample_steps"] = "preset fast"

    note(before, by_preset, preset="fast")

    done = omnirt("runs", "rerun", "last", "--dry-run", "--json")

    assert done.json["plan"]["config"]["sample_steps"] == 3


def test_a_secret_is_taken_from_todays_environment(before: Path) -> None:
    note(before, env={"HF_TOKEN": "hush", "PLAIN": "1"})

    without = omnirt("runs", "rerun", "last", "--dry-run", "--json")
    with_it = omnirt("runs", "rerun", "last", "--dry-run", "--json", env={"HF_TOKEN": "new"})

    assert "HF_TOKEN was given then" in without.stderr
    assert "HF_TOKEN was given then" not in with_it.stderr
    assert with_it.json["plan"]["env"]["PLAIN"] == "1"
    assert "HF_TOKEN" not in with_it.json["plan"]["env"]
    assert "hush" not in omnirt("runs", "show", "last", "--json").stdout


# --- what is no longer the same ---------------------------------------------------------------------------


def test_a_changed_input_is_refused_and_can_be_accepted(before: Path) -> None:
    with (before / "speech.wav").open("ab") as file:
        file.write(bytes(3200))

    refused = omnirt("runs", "rerun", "last", "--json")
    accepted = omnirt("runs", "rerun", "last", "--accept-changes", "--dry-run")

    assert refused.code == 65
    assert "speech.wav is not the file that was rendered then" in refused.stderr
    assert refused.json["error"]["code"] == "input_invalid"
    assert videos(before) == {"talk.mp4"}
    assert accepted.code == 0
    assert "warning: the audio" in accepted.stderr


def test_a_missing_input_is_refused(before: Path) -> None:
    (before / "portrait.png").unlink()

    done = omnirt("runs", "rerun", "last")

    assert done.code == 66
    assert "portrait.png is gone" in done.stderr


def test_an_input_that_was_not_hashed_is_a_warning(before: Path) -> None:
    note(before, lambda document: document["inputs"]["image"].update(sha256=None))

    done = omnirt("runs", "rerun", "last", "--dry-run")

    assert done.code == 0
    assert "the image was not hashed in that run" in done.stderr


def git(folder: Path, *args: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t")
    done = subprocess.run(["git", "-C", str(folder), *identity, *args], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_another_revision_of_the_checkout_is_refused_and_can_be_accepted(before: Path, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    shutil.copytree(CHECKOUTS / "flashtalk_new", repo)
    git(repo, "init", "-q")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "then")
    then = git(repo, "rev-parse", "HEAD")
    flags = dict(zip(("repo_path", "python_executable"), checkout("flashtalk_new")[1::2], strict=True))
    state = {"path": str(repo), "revision": then, "variant": "public-new", "dirty": False}
    note(before, lambda document: document.update(checkout=state), **{**flags, "repo_path": str(repo)})
    assert omnirt("runs", "rerun", "last", "--dry-run").code == 0

    with (repo / "generate_video.py").open("a") as script:
        script.write("# local\n")
    changed = omnirt("runs", "rerun", "last", "--dry-run")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "now")
    moved = omnirt("runs", "rerun", "last", "--dry-run")
    accepted = omnirt("runs", "rerun", "last", "--dry-run", "--accept-changes")

    assert (changed.code, moved.code, accepted.code) == (78, 78, 0)
    assert "has local changes" in changed.stderr
    assert f"then it was at {then}" in moved.stderr
    assert "warning: the checkout" in accepted.stderr


def test_a_checkout_that_is_gone_is_refused(before: Path, tmp_path: Path) -> None:
    note(before, lambda document: document["checkout"].update(path=str(tmp_path / "gone")))

    assert omnirt("runs", "rerun", "last").code == 66


def test_a_run_that_was_refused_before_it_knew_its_inputs_cannot_be_repeated(before: Path) -> None:
    note(before, lambda document: document.update(inputs={}))

    done = omnirt("runs", "rerun", "last")

    assert done.code == 65
    assert "does not say what was rendered" in done.stderr
