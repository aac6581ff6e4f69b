"""Runs by the hundred leave nothing behind: no process, no descriptor, no file, no memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.omnirt_cli_runs import ASSETS, marked_processes, scratch_dirs

RUNS = 100


def _resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def _count(folder: str) -> int:
    return len(list(Path(folder).iterdir()))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_renders_in_one_process_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omnirt import generate
    from omnirt.requests import audio2video

    monkeypatch.setenv("MINIATURE_TORCH", "0")
    request = audio2video(
        model="soulx-flashtalk-14b",
        backend="cpu",
        image=ASSETS / "portrait.png",
        audio=ASSETS / "speech.wav",
        size="64*64",
        max_chunks=1,
        output=tmp_path / "v.mp4",
    )
    sizes = []
    for number in range(RUNS):
        generate(request)
        if number >= 9:
            sizes.append((_resident_kib(), _count("/proc/self/fd"), _count("/proc/self/task")))

    first, last = sizes[0], sizes[-1]
    assert last[1] == first[1], "descriptors"
    assert last[2] == first[2], "threads"
    assert last[0] - first[0] < 20 * 1024, "resident KiB"
    assert marked_processes() == []
    assert scratch_dirs(tmp_path) == []
