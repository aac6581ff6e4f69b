"""The command line's own manners: help, version, JSON, start-up."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from omnirt_cli.app import COMMANDS
from omnirt_cli.errors import ERRORS, PRECEDENCE, ExitCode
from tests.omnirt_cli_runs import environment, omnirt

HEAVY = re.compile(r"\b(torch|numpy|PIL|ahocorasick_rs|cv2|fastapi|ray|imageio|psutil|pynvml)\b")


def _imports(*args: str) -> set[str]:
    """Top-level modules that a command line imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "omnirt", *args],
        capture_output=True,
        text=True,
        env=environment(None),
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.parametrize("args", [("--help",), ("generate", "--help"), ("models",)])
def test_nothing_heavy_is_imported_before_it_is_needed(args: tuple[str, ...]) -> None:
    assert not {name for name in _imports(*args) if HEAVY.fullmatch(name)}


def test_version_imports_next_to_nothing() -> None:
    assert not {"typer", "pydantic", "rich", "yaml"} & _imports("--version")


def test_version_is_one_line() -> None:
    done = omnirt("--version")

    assert done.code == 0
    assert re.fullmatch(r"omnirt \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    args = (command, "show") if command == "config" else (command,)

    done = omnirt(*args, "--help", env={"NO_COLOR": "1", "TERM": "dumb"})

    assert done.code == 0
    assert "Example" in done.stdout
    assert "--json" in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        ("models", "--json"),
        ("models", "soulx-flashhead-1.3b", "--json"),
        ("presets", "--json"),
        ("config", "show", "--json"),
        ("schema", "report"),
        ("schema", "event"),
        ("schema", "request"),
        ("schema", "plan"),
    ],
)
def test_json_is_exactly_one_document(args: tuple[str, ...]) -> None:
    done = omnirt(*args)

    assert done.code == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)


def test_a_command_that_does_not_exist_is_a_usage_error() -> None:
    done = omnirt("generat")

    assert done.code == 2
    assert "generate" in done.stderr


def test_an_error_of_another_command_is_one_document_too() -> None:
    done = omnirt("models", "nothing", "--json")

    assert done.code == 2
    assert done.json["error"]["code"] == "usage"


def test_each_error_class_has_its_own_code_and_exit_code() -> None:
    assert len({error.code for error in ERRORS}) == len(ERRORS)
    assert len({error.exit_code for error in ERRORS}) == len(ERRORS)
    assert set(PRECEDENCE) <= set(ExitCode)


def test_colour_is_never_forced_into_a_pipe() -> None:
    done = omnirt("--help", env={"NO_COLOR": "1", "FORCE_COLOR": ""})

    assert "\x1b[" not in done.stdout
