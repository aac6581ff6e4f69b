from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omnirt_cli.errors import InputInvalidError, InputMissingError
from omnirt_cli.media.files import regular_file, sha256_of


def test_the_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * 3_000_001)
    assert sha256_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_regular_file_gives_its_size(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert regular_file(file, "audio") == 3


def test_a_missing_file_is_missing_not_invalid(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="does not exist"):
        regular_file(tmp_path / "no", "audio")


def test_folders_pipes_and_empty_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    for name, reason in ((".", "folder"), ("pipe", "pipe or a device"), ("empty", "0 bytes")):
        with pytest.raises(InputInvalidError, match=reason):
            regular_file(tmp_path / name, "audio")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    file.chmod(0)
    with pytest.raises(InputInvalidError, match="Permission denied"):
        regular_file(file, "audio")


def test_what_runs_before_the_launch_imports_neither_numpy_nor_ffmpeg_python() -> None:
    code = (
        "import sys, omnirt_cli.media.audio, omnirt_cli.media.image, omnirt_cli.media.deliver\n"
        "import omnirt_cli.media.verify\n"
        "print(sorted({'numpy', 'ffmpeg', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
