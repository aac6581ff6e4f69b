"""The rules by which a child's environment is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchers.environment import ASCEND_VISIBILITY, CUDA_VISIBILITY, clean_environment, compose_environment


def clean(env: dict[str, str], **options: object) -> dict[str, str]:
    return clean_environment(env, **{"visibility": None, **options})


@pytest.mark.parametrize(
    "name",
    [
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "GROUP_RANK",
        "ROLE_NAME",
        "MASTER_ADDR",
        "MASTER_PORT",
        "TORCHELASTIC_RUN_ID",
        "PET_NPROC_PER_NODE",
        "PYTHON_EXEC",
        "LOGURU_LEVEL",
        "PYTHONHOME",
        "VIRTUAL_ENV",
    ],
)
def test_what_belongs_to_another_job_is_removed(name):
    assert clean({name: "1", "HOME": "/root"}) == {"HOME": "/root"}


@pytest.mark.parametrize(
    "name", ["RANKING", "MY_RANK", "LOCALE", "GROUPS", "PETS", "MASTER", "PYTHON_EXECUTABLE", "LOGURU"]
)
def test_names_that_only_look_alike_stay(name):
    assert clean({name: "1"}) == {name: "1"}


@pytest.mark.parametrize(
    ("kept", "expected"),
    [(CUDA_VISIBILITY, {CUDA_VISIBILITY}), (ASCEND_VISIBILITY, {ASCEND_VISIBILITY}), (None, set())],
)
def test_only_the_vendor_at_hand_keeps_its_visibility(kept, expected):
    assert set(clean({CUDA_VISIBILITY: "0", ASCEND_VISIBILITY: "1"}, visibility=kept)) == expected


def test_an_empty_number_for_flashtalk_is_removed_and_a_real_one_stays():
    assert clean({"FLASHTALK_HEIGHT": "", "FLASHTALK_WIDTH": "416", "OTHER": ""}) == {
        "FLASHTALK_WIDTH": "416",
        "OTHER": "",
    }


def test_own_roots_leave_the_python_path_by_whatever_spelling(tmp_path):
    root = tmp_path / "own"
    root.mkdir()
    link = tmp_path / "link"
    link.symlink_to(root)
    python_path = f"/a:{root}/:{link}:{root}/../own:{root}/inner:/b"
    assert clean({"PYTHONPATH": python_path}, own_roots=[root])["PYTHONPATH"] == f"/a:{root}/inner:/b"


def test_a_python_path_of_nothing_but_own_roots_is_removed(tmp_path):
    assert clean({"PYTHONPATH": str(tmp_path)}, own_roots=[tmp_path]) == {}


def test_leaving_a_virtual_environment_keeps_its_programs_in_the_path():
    assert clean({"VIRTUAL_ENV": "/venv", "PATH": "/venv/bin:/usr/bin"}) == {"PATH": "/venv/bin:/usr/bin"}


def test_fixed_values_are_set_over_everything_but_the_users():
    composed = compose_environment({"PYTHONUNBUFFERED": ""}, visibility=None, user={"LOGURU_COLORIZE": "YES"})
    assert composed.env == {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "LOGURU_COLORIZE": "YES"}


def test_each_layer_wins_over_the_one_before():
    layers = {
        "base": {"A": "base", "B": "base", "C": "base", "D": "base"},
        "script_env": {"A": "base", "B": "script", "C": "script", "D": "script"},
        "overlay": {"C": "omnirt", "D": "omnirt"},
        "user": {"D": "user", "RANK": "0"},
    }
    composed = compose_environment(layers.pop("base"), visibility=None, **layers)
    assert {name: composed.env[name] for name in "ABCD"} == {"A": "base", "B": "script", "C": "omnirt", "D": "user"}
    assert composed.env["RANK"] == "0", "what the user asks for is not cleaned away"


def test_the_env_scripts_result_replaces_the_base_and_is_cleaned_too():
    composed = compose_environment(
        {"UNSET_BY_SCRIPT": "1", "SAME": "1"},
        visibility=ASCEND_VISIBILITY,
        script_env={
            "SAME": "1",
            "ASCEND_HOME_PATH": "/cann",
            "RANK": "3",
            CUDA_VISIBILITY: "0",
            ASCEND_VISIBILITY: "5",
        },
    )
    assert set(composed.env) & {"UNSET_BY_SCRIPT", "RANK", CUDA_VISIBILITY} == set()
    assert composed.env["ASCEND_HOME_PATH"] == "/cann"
    assert composed.from_script == ("ASCEND_HOME_PATH", ASCEND_VISIBILITY)
    assert composed.removed == (CUDA_VISIBILITY, "RANK", "UNSET_BY_SCRIPT")


def test_a_report_can_tell_what_was_set_and_what_went():
    composed = compose_environment(
        {"RANK": "0", "HOME": "/root"}, visibility=None, overlay={"GPU_NUM": "2"}, user={"DEBUG": "1"}
    )
    assert composed.removed == ("RANK",)
    assert composed.assigned == {
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LOGURU_COLORIZE": "NO",
        "GPU_NUM": "2",
        "DEBUG": "1",
    }
    assert composed.from_script == ()


def test_inputs_are_not_changed(tmp_path: Path):
    base = {"RANK": "0", "PYTHONPATH": str(tmp_path)}
    compose_environment(base, visibility=None, own_roots=[tmp_path])
    assert base == {"RANK": "0", "PYTHONPATH": str(tmp_path)}
