"""Layers of settings: which one wins, where each value came from, and how mistakes are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from omnirt_cli.errors import ConfigInvalidError, InputMissingError, UsageError
from omnirt_cli.settings import Surroundings, read_request, resolve
from omnirt_cli.yaml_document import MAX_BYTES, load_mapping


def surroundings(cwd: Path, environ: dict[str, str] | None = None, user: Path | None = None) -> Surroundings:
    return Surroundings(environ=environ or {}, cwd=cwd, user_files=(user,) if user else (), home=None)


def test_flag_beats_request_file_beats_environment_beats_project_beats_user(tmp_path: Path) -> None:
    (tmp_path / "omnirt.yaml").write_text("flashtalk:\n  seed: 4\n  fps: 24\n")
    user = tmp_path / "user.yaml"
    user.write_text("seed: 5\nsample_steps: 9\n")
    request = tmp_path / "request.yaml"
    request.write_text("config:\n  seed: 2\n  size: 416*704\n")
    _, layer = read_request(request)
    around = surroundings(tmp_path, {"OMNIRT_FLASHTALK_SEED": "3", "OMNIRT_FLASHTALK_MAX_CHUNKS": "7"}, user)

    settings = resolve("flashtalk", {"seed": 1}, layer, around)

    assert settings.get("seed") == 1
    assert [lost.value for lost in settings.shadowed["seed"]] == [2, 3, 4, 5]
    assert settings.source("size") == f"request file {request}:3"
    assert settings.source("max_chunks") == "environment OMNIRT_FLASHTALK_MAX_CHUNKS"
    assert settings.source("fps") == f"project file {tmp_path / 'omnirt.yaml'}:3"
    assert settings.source("sample_steps") == f"user config {user}:2"


def test_a_models_section_beats_the_keys_for_every_model(tmp_path: Path) -> None:
    (tmp_path / "omnirt.yaml").write_text("seed: 1\nflashhead:\n  seed: 2\n")

    assert resolve("flashhead", {}, None, surroundings(tmp_path)).get("seed") == 2
    assert resolve("flashtalk", {}, None, surroundings(tmp_path)).get("seed") == 1


def test_one_models_variables_do_not_reach_another(tmp_path: Path) -> None:
    around = surroundings(tmp_path, {"OMNIRT_FLASHHEAD_SEED": "3"})

    assert resolve("flashtalk", {}, None, around).get("seed") is None


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("OMNIRT_FLASHTALK_PYTHON", "python_executable", "/usr/bin/env"),
        ("OMNIRT_FLASHTALK_ASCEND_ENV_SCRIPT", "env_script", "/opt/set_env.sh"),
        ("OMNIRT_FLASHTALK_ENV_SCRIPT", "env_script", "/opt/set_env.sh"),
        ("OMNIRT_FLASHTALK_REPO_PATH", "repo_path", "/opt/repo"),
    ],
)
def test_published_variable_names_are_kept(name: str, key: str, value: str, tmp_path: Path) -> None:
    assert resolve("flashtalk", {}, None, surroundings(tmp_path, {name: value})).get(key) == value


def test_an_unknown_variable_warns_with_the_nearest_name(tmp_path: Path) -> None:
    around = surroundings(tmp_path, {"OMNIRT_FLASHTALK_REPOPATH": "/x", "OMNIRT_FLASHTALK_PORT": "8765"})

    warnings = resolve("flashtalk", {}, None, around).warnings

    assert warnings == ("OMNIRT_FLASHTALK_REPOPATH is not a setting; did you mean OMNIRT_FLASHTALK_REPO_PATH?",)


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalidError, match="environment OMNIRT_FLASHTALK_SEED"):
        resolve("flashtalk", {}, None, surroundings(tmp_path, {"OMNIRT_FLASHTALK_SEED": "many"}))


def test_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    assert resolve("flashtalk", {}, None, surroundings(tmp_path, {"OMNIRT_FLASHTALK_SEED": ""})).get("seed") is None


def test_paths_are_relative_to_the_place_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "omnirt.yaml").write_text("repo_path: from_project\nckpt_dir: models/x\n")
    settings = resolve("flashtalk", {"output_dir": "out"}, None, surroundings(tmp_path))

    assert settings.get("repo_path") == str(tmp_path / "from_project")
    assert settings.get("output_dir") == str(tmp_path / "out")
    assert settings.get("ckpt_dir") == "models/x", "relative to the checkout, which is not known here"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config:\n  sede: 1\n", r"request.yaml:2: unknown key `sede`"),
        ("model: x\nmodel: y\n", r"request.yaml:2:1: `model` is set twice \(first in line 1\)"),
        ("config:\n\tseed: 1\n", r"request.yaml:2"),
        ("config:\n  seed: [1\n", r"request.yaml:3"),
        ("config:\n  seed: many\n", r"request.yaml:2: `config.seed`"),
        ("config:\n  size: 416x704\n", r"request.yaml:2: `config.size`: write it as WIDTH\*HEIGHT"),
        ("- a\n- b\n", r"request.yaml:1: expected keys and values"),
        ("inputs:\n  picture: a.png\n", r"request.yaml:2: unknown key `picture`"),
    ],
)
def test_a_bad_request_file_is_told_by_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "request.yaml"
    path.write_text(text)

    with pytest.raises(ConfigInvalidError, match=message):
        read_request(path)


def test_the_nearest_valid_key_is_in_the_hint(tmp_path: Path) -> None:
    path = tmp_path / "request.yaml"
    path.write_text("config:\n  sample_step: 2\n")

    with pytest.raises(ConfigInvalidError) as caught:
        read_request(path)

    assert caught.value.hint == "did you mean `sample_steps`?"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "request.yaml"
    path.write_bytes(b"\xef\xbb\xbfmodel: soulx-flashtalk-14b\n")

    assert read_request(path)[0].model == "soulx-flashtalk-14b"


def test_other_encodings_and_giant_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes("model: ü".encode("latin-1"))
    with pytest.raises(ConfigInvalidError, match="not UTF-8"):
        load_mapping(path)
    path.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(ConfigInvalidError, match="larger than"):
        load_mapping(path)
    with pytest.raises(InputMissingError):
        load_mapping(tmp_path / "none.yaml")


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("model: !!python/object/apply:os.system ['true']\n")

    with pytest.raises(ConfigInvalidError):
        load_mapping(path)


def test_a_request_file_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"model": "soulx-flashhead-1.3b", "config": {"seed": 3}}')

    request, layer = read_request(path)

    assert request.model == "soulx-flashhead-1.3b"
    assert layer.values["seed"].value == 3


def test_inputs_of_a_request_file_are_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("inputs: {image: p.png, audio: /abs/s.wav}\n")

    inputs = read_request(path)[0].inputs

    assert inputs.image == str(tmp_path / "p.png")
    assert inputs.audio == "/abs/s.wav"


def test_programs_are_read_from_a_project_file_only_if_it_is_the_users_own(tmp_path: Path) -> None:
    project = tmp_path / "omnirt.yaml"
    project.write_text("flashtalk:\n  python_executable: /bin/sh\n  env_script: evil.sh\n  seed: 3\n")
    project.chmod(0o666)

    settings = resolve("flashtalk", {}, None, surroundings(tmp_path))

    assert settings.get("python_executable") is None
    assert settings.get("env_script") is None
    assert settings.get("seed") == 3
    assert len(settings.warnings) == 2
    project.chmod(0o644)
    assert resolve("flashtalk", {}, None, surroundings(tmp_path)).get("python_executable") == "/bin/sh"


def test_a_project_folder_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "omnirt.yaml").write_text("python_executable: /bin/sh\n")

    assert resolve("flashtalk", {}, None, surroundings(folder)).get("python_executable") is None


def test_a_bad_flag_names_itself(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--seed"):
        resolve("flashtalk", {"seed": -1}, None, surroundings(tmp_path))


def test_a_home_that_is_not_there_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))

    around = Surroundings.current()

    assert around.user_files == ()
    assert resolve("flashtalk", {}, None, around).warnings == ()
    assert os.fspath(around.cwd)
