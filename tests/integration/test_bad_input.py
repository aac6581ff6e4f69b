"""Bad input gets its exit code and a message from the table before a model is loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.omnirt_cli_runs import ASSETS, checkout, generate_args, omnirt


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--python-executable", "/no/python"), 66, "/no/python"),
        (("--python-executable", __file__), 66, "not executable"),
        (("--repo-path", "/no/checkout", "--python-executable", sys.executable), 66, "/no/checkout"),
        (("--repo-path", "/no/checkout"), 2, "--python-executable"),
        (("--ckpt-dir", "no/weights", *checkout("flashtalk_new")), 66, "no/weights"),
        (("--env-script", "/no/set_env.sh"), 66, "/no/set_env.sh"),
        (("--model", "soulx-flashtalk"), 2, "soulx-flashtalk"),
        (("--size", "704x416"), 2, "WIDTH*HEIGHT"),
        (("--seed", "-1"), 2, "--seed"),
        (("--seed", "many"), 2, "--seed"),
        (("--launcher", "mpi"), 2, "--launcher"),
        (("--env", "NOEQUALS"), 2, "KEY=VALUE"),
        (("--skip-check", "audoi"), 2, "audoi"),
        (("--latent-carry",), 2, "--latent-carry"),
        (("--quantize", "quanto-int4", *checkout("flashtalk_new")), 2, "--quantize"),
        (("--nproc-per-node", "2"), 2, "--nproc-per-node"),
        (("--no-such-flag",), 2, "--no-such-flag"),
        (("--output", "/proc/none/v.mp4"), 73, "/proc"),
        (("--output", "v.avi"), 2, ".mp4"),
        (("--config", "/no/request.yaml"), 66, "/no/request.yaml"),
    ],
)
def test_a_bad_flag_is_refused_with_its_code(args: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json"), *args, cwd=tmp_path)

    assert done.code == code, done.stderr
    error = done.report["error"]
    assert message in f"{error['message']} {error['hint']}"
    assert error["exit_code"] == code
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_request_file_renders_and_a_flag_beside_it_wins(tmp_path: Path) -> None:
    request = tmp_path / "request.yaml"
    request.write_text(
        f"""
        model: soulx-flashtalk-14b
        backend: cpu
        inputs: {{image: {ASSETS / "portrait.png"}, audio: {ASSETS / "speech.wav"}}}
        config: {{max_chunks: 3, size: 128*128, output: {tmp_path / "v.mp4"}}}
        """
    )

    done = omnirt("generate", "--config", str(request), "--max-chunks", "1", "--json")

    assert done.code == 0, done.stderr
    assert done.report["expected"]["chunks"] == 1
    assert done.report["config_sources"]["max_chunks"] == "flag"
    assert done.report["config_sources"]["size"].startswith(f"request file {request}:")


def test_an_env_script_that_exits_is_refused_and_its_words_are_in_the_log(tmp_path: Path) -> None:
    script = tmp_path / "set_env.sh"
    script.write_text("echo CANN is not installed\nexit 1\n")

    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json", "--env-script", str(script)))

    assert done.code == 78
    assert b"CANN is not installed" in (tmp_path / "v.log").read_bytes()


def test_no_clobber_keeps_an_existing_video(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"
    output.write_bytes(b"mine")

    done = omnirt(*generate_args(output, "--json", "--no-clobber"))

    assert done.code == 73
    assert output.read_bytes() == b"mine"
