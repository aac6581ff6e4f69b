from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from omnirt_cli.errors import InputMissingError
from omnirt_cli.media import tools


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_ffmpeg_tells_its_version() -> None:
    assert tools.ffmpeg_version()[0].isalnum()


def test_a_missing_tool_comes_with_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputMissingError, match="ffprobe is not on PATH") as caught:
        tools.find_tool("ffprobe")
    assert "apt-get install ffmpeg" in str(caught.value.hint)


def test_an_ffmpeg_without_an_h264_encoder_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools.require_h264_encoder()
    poor = tmp_path / "ffmpeg"
    poor.write_text("#!/bin/sh\necho ' V....D h264_nvenc NVIDIA NVENC H.264 encoder (codec h264)'\n")
    poor.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(InputMissingError, match=r"has no H\.264 encoder") as caught:
        tools.require_h264_encoder()
    assert "--executor driver" in (caught.value.hint or "")


def test_a_tool_that_hangs_is_killed_at_its_deadline() -> None:
    before = time.monotonic()
    outcome = tools.run(python("import time; time.sleep(60)"), timeout_s=0.3)
    assert outcome.timed_out
    assert not outcome.ok
    assert time.monotonic() - before < 10


def test_a_tool_that_writes_without_end_is_killed() -> None:
    outcome = tools.run(python("import sys\nwhile True: sys.stdout.write('x' * 65536)"), timeout_s=30, limit=1 << 20)
    assert outcome.overflowed
    assert outcome.stdout == b""


def test_only_the_end_of_much_stderr_is_kept() -> None:
    outcome = tools.run(python("import sys; sys.stderr.write('a' * 5_000_000 + ' the end')"), timeout_s=30)
    assert outcome.ok
    assert len(outcome.stderr) <= tools.STDERR_LIMIT
    assert outcome.stderr.endswith("the end")


def test_standard_input_is_empty() -> None:
    outcome = tools.run(python("import sys; print(repr(sys.stdin.read()))"), timeout_s=30)
    assert outcome.stdout.strip() == b"''"


def test_a_tool_does_not_outlive_its_block() -> None:
    pids = []

    def interrupted() -> None:
        with tools.Tool(python("import time; time.sleep(60)"), timeout_s=60) as tool:
            pids.append(tool._process.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_reports_and_colours_asked_for_in_the_environment_are_not_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FFREPORT", f"file={tmp_path}/report.log")
    monkeypatch.setenv("AV_LOG_FORCE_COLOR", "1")
    outcome = tools.run([tools.find_tool("ffprobe"), "-v", "error", "file:/nowhere"], timeout_s=30)
    assert "No such file" in outcome.stderr
    assert "\x1b" not in outcome.stderr
    assert list(tmp_path.iterdir()) == []
