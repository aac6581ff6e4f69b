"""ffmpeg's version is asked once for each file, and an ffmpeg that cannot serve is told before anything starts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import platformdirs
import pytest

from omnirt_cli.errors import InputMissingError
from omnirt_cli.media.tool_versions import known_version, require_tools


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def fake(folder: Path, name: str, version: str) -> Path:
    """A tool that says its version, and notes each call."""
    tool = folder / name
    tool.write_text(f"#!/bin/sh\necho called >> {folder}/calls\necho '{name} version {version} Copyright'\n")
    tool.chmod(0o755)
    return tool


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def test_a_tool_is_asked_once_and_again_when_it_was_replaced(tools: Path) -> None:
    fake(tools, "ffmpeg", "6.1")

    assert [known_version("ffmpeg"), known_version("ffmpeg")] == ["6.1", "6.1"]
    assert calls(tools) == 1

    fake(tools, "ffmpeg", "7.1.1")
    assert known_version("ffmpeg") == "7.1.1"
    assert calls(tools) == 2


@pytest.mark.parametrize("garbage", [b"{", b"[1]", b"\xff\xfe", b'{"x": 1}'])
def test_a_damaged_cache_costs_a_question_and_nothing_else(tools: Path, garbage: bytes) -> None:
    fake(tools, "ffmpeg", "6.1")
    place = platformdirs.user_cache_path("omnirt") / "tool-versions.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(garbage)

    assert known_version("ffmpeg") == "6.1"
    assert "6.1" in json.loads(place.read_text()).values()


def test_without_a_place_to_remember_it_is_asked_each_time(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tools, "ffmpeg", "6.1")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")

    assert [known_version("ffmpeg"), known_version("ffmpeg")] == ["6.1", "6.1"]
    assert calls(tools) == 2


@pytest.mark.parametrize(
    ("version", "fits"), [("4.1.9", False), ("4.2.2", True), ("n7.1", True), ("N-1234-gabc", True)]
)
def test_only_an_ffmpeg_that_is_known_to_be_too_old_is_refused(tools: Path, version: str, fits: bool) -> None:
    fake(tools, "ffprobe", "6.1")
    fake(tools, "ffmpeg", version)

    if fits:
        require_tools()
    else:
        with pytest.raises(InputMissingError, match="too old"):
            require_tools()
