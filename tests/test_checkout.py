"""Reading a checkout: what its parser declares, what its code does, what git says of it; nothing of it runs."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from omnirt_cli.checkout import AudioMux, CheckoutFacts, inspect_checkout
from omnirt_cli.errors import InputMissingError

SCRIPT = """
import argparse, subprocess, sys
import numpy as np
from toy.inference import run
sys.exit("a checkout is read, never run")
parser = argparse.ArgumentParser()
parser.add_argument("--image", type=str, default="examples/man.json")
parser.add_argument("--mode", default="stream", choices=["stream", "once"])
parser.add_argument("--offload", action="store_true")
parser.add_argument("--crop", type=bool, default=False)
args = parser.parse_args()
frames = run()[motion_frames_num:]
audio = np.concatenate([audio, np.zeros(7)])
subprocess.run(["ffmpeg", "-i", path, "-c:v", "copy", "-c:a", "aac", out], check=True)
"""
INFERENCE = """
import os, yaml
# os.environ["FLASHTALK_COMMENTED"] only looks like a variable
steps = os.environ.get("FLASHTALK_SAMPLE_STEPS", "4")
note = "FLASHTALK_IN_A_SENTENCE is not read"
with open("toy/configs/infer_params.yaml") as file:
    params = yaml.safe_load(file)
table = "toy/table.json"
gone = "toy/missing.json"
"""
PIPELINE = """
DEBUG_TIMING = False
class Pipeline:
    def generate(self):
        if DEBUG_TIMING:
            print(f"[generate] model denoise per step: {1}s")
        return videos[:, :, -self.motion_frames_num:]
"""


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return put(
        tmp_path / "toy checkout",
        {
            "generate_video.py": SCRIPT,
            "toy/inference.py": INFERENCE,
            "toy/src/pipeline/toy_pipeline.py": PIPELINE,
            "toy/configs/infer_params.yaml": "frame_num: 33\nnew_key: [1, 2]\n",
            "toy/table.json": "{}",
            "examples/man.json": "{}",
            "stranger/other.py": 'os.environ["FLASHTALK_OF_A_STRANGER"]',
        },
    )


def inspect(root: Path) -> CheckoutFacts:
    return inspect_checkout(root, "generate_video.py")


def test_flags_are_read_from_the_syntax_tree(toy: Path) -> None:
    facts = inspect(toy)
    assert facts.flags == {"--image", "--mode", "--offload", "--crop"}
    assert facts.flag_details["--mode"].choices == ("stream", "once")
    assert not facts.flag_details["--offload"].takes_value
    assert facts.flag_details["--crop"].any_text_is_true
    assert facts.flag_details["--image"].default == "examples/man.json"


@pytest.mark.parametrize(
    "line",
    [
        "parser.add_argument(NAME, type=str)",
        "parser.add_argument(f'--{name}')",
        "parser.add_argument('--known', **options)",
        "for name in names: parser.add_argument('--' + name)",
    ],
)
def test_a_parser_that_is_not_literal_is_unreadable_not_flagless(toy: Path, line: str) -> None:
    put(toy, {"generate_video.py": SCRIPT + line + "\n"})
    facts = inspect(toy)
    assert facts.flags is None
    assert "flags are unknown" in facts.notes[0]


def test_a_script_without_a_parser_is_unreadable(toy: Path) -> None:
    put(toy, {"generate_video.py": "from toy.inference import run\nrun()\n"})
    assert inspect(toy).flags is None


def test_a_syntax_error_leaves_a_note_and_the_rest_readable(toy: Path) -> None:
    put(toy, {"generate_video.py": "def (:\n"})
    facts = inspect(toy)
    assert facts.flags is None
    assert any("not valid Python" in note for note in facts.notes)
    assert facts.infer_params["frame_num"] == 33


def test_variables_are_whole_string_literals_of_its_own_packages(toy: Path) -> None:
    assert inspect(toy).env_names == {"FLASHTALK_SAMPLE_STEPS"}


def test_relative_files_are_those_that_the_code_names_and_that_exist(toy: Path) -> None:
    facts = inspect(toy)
    assert facts.relative_files == ("toy/configs/infer_params.yaml", "toy/table.json")
    assert facts.infer_params_paths == ("toy/configs/infer_params.yaml",)
    assert facts.infer_params == {"frame_num": 33, "new_key": [1, 2]}


def test_a_relative_path_that_leaves_the_checkout_is_not_taken(toy: Path) -> None:
    put(toy.parent, {"secret.json": "{}"})
    put(toy, {"toy/inference.py": 'open("../secret.json"); open("toy/../../secret.json")'})
    assert inspect(toy).relative_files == ()


def test_a_damaged_yaml_leaves_a_note(toy: Path) -> None:
    put(toy, {"toy/configs/infer_params.yaml": "a: [1\n"})
    facts = inspect(toy)
    assert facts.infer_params == {}
    assert any("not valid YAML" in note for note in facts.notes)


def test_habits_of_the_code(toy: Path) -> None:
    source = inspect(toy).source
    assert source.mux is AudioMux.ENCODE
    assert source.mux_checked
    assert source.pads_audio
    assert source.script_trims_motion
    assert source.pipeline_trims_motion is False
    assert source.prints_timing is False


def test_the_opposite_habits(toy: Path) -> None:
    script = SCRIPT.replace('"-c:v", "copy", "-c:a", "aac"', '"-c", "copy"').replace(", check=True", "")
    script = script.replace("[motion_frames_num:]", "").replace("np.concatenate", "np.asarray")
    pipeline = PIPELINE.replace("if DEBUG_TIMING", "if True").replace("-self.motion", "self.motion")
    put(toy, {"generate_video.py": script, "toy/src/pipeline/toy_pipeline.py": pipeline})
    source = inspect(toy).source
    assert source.mux is AudioMux.COPY
    assert not source.mux_checked
    assert not source.pads_audio
    assert not source.script_trims_motion
    assert source.pipeline_trims_motion is True
    assert source.prints_timing is True


def test_constants_that_are_off_and_functions_of_inference_are_named(toy: Path) -> None:
    put(
        toy,
        {"toy/inference.py": "def get_pipeline(): ...\ndef run_pipeline(): ...\nclass Other:\n    def no(self): ...\n"},
    )
    facts = inspect(toy)
    assert "DEBUG_TIMING" in facts.source.switched_off
    assert facts.functions["toy"] == frozenset({"get_pipeline", "run_pipeline"})
    put(toy, {"toy/inference.py": "def broken(:\n"})
    assert inspect(toy).functions == {}


def test_comments_change_nothing(toy: Path) -> None:
    before = inspect(toy)
    commented = "# pad audio with silence, videos[:, :, self.motion_frames_num:], '-c', 'copy'\n"
    for name in ("generate_video.py", "toy/src/pipeline/toy_pipeline.py"):
        (toy / name).write_text((toy / name).read_text() + commented)
    assert inspect(toy) == before


def test_a_missing_directory_says_which_flag_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="nowhere is not a directory") as caught:
        inspect(tmp_path / "nowhere")
    assert "--repo-path" in (caught.value.hint or "")


def test_a_directory_without_the_script_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"has no generate_video\.py"):
        inspect(tmp_path)


@pytest.mark.parametrize(
    ("text", "miniature"),
    [('{"miniature": true, "of": "x"}', True), ('{"miniature": "yes"}', False), ("not json", False)],
)
def test_a_miniature_says_so_itself(toy: Path, text: str, miniature: bool) -> None:
    assert not inspect(toy).miniature
    put(toy, {"MINIATURE": text})
    assert inspect(toy).miniature is miniature


def git(root: Path, *args: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "safe.directory=*"]
    done = subprocess.run(["git", "-C", root, *identity, *args], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(toy: Path) -> Path:
    git(toy, "init", "-q")
    git(toy, "add", ".")
    git(toy, "commit", "-qm", "first")
    return toy


def test_revision_and_dirtiness_come_from_git(repository: Path) -> None:
    facts = inspect(repository)
    assert facts.revision == git(repository, "rev-parse", "HEAD")
    assert facts.dirty is False
    (repository / "generate_video.py").write_text(SCRIPT + "\n")
    assert inspect(repository).dirty is True


def test_a_directory_inside_a_bigger_repository_has_no_revision(repository: Path) -> None:
    inner = put(repository / "vendored", {"generate_video.py": SCRIPT})
    facts = inspect(inner)
    assert (facts.revision, facts.dirty) == (None, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_checkout_of_another_user_is_read_all_the_same(repository: Path) -> None:
    revision = git(repository, "rev-parse", "HEAD")
    for path in (repository, repository / ".git"):
        os.chown(path, 12345, 12345)
    assert inspect(repository).revision == revision


def test_git_runs_nothing_of_the_checkout(repository: Path, tmp_path: Path) -> None:
    trap, sprung = tmp_path / "trap.sh", tmp_path / "sprung"
    trap.write_text(f"#!/bin/sh\ntouch '{sprung}'\n")
    trap.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(trap))
    git(repository, "config", "core.hooksPath", str(tmp_path))
    sprung.unlink(missing_ok=True)
    inspect(repository)
    assert not sprung.exists()


def test_without_git_there_is_no_revision(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    facts = inspect(repository)
    assert (facts.revision, facts.dirty) == (None, None)


def test_a_pipe_or_a_huge_file_among_the_sources_does_not_stop_it(toy: Path) -> None:
    os.mkfifo(toy / "toy" / "endless.py")
    with (toy / "toy" / "huge.py").open("wb") as file:
        file.truncate(3_000_000)
    assert inspect(toy).env_names == {"FLASHTALK_SAMPLE_STEPS"}


def test_a_checkout_of_usual_size_takes_milliseconds(toy: Path) -> None:
    body = "def f(x):\n    return x['key'] + 'value'\n" * 250
    put(toy, {f"toy/modules/part{index}.py": body for index in range(40)})
    inspect(toy)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        inspect(toy)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.2, "far above the 30 ms of a quiet machine"
