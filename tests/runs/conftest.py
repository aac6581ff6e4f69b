"""A data directory and a folder of outputs of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept_runs import Runs

from omnirt_cli.runs.place import DATA_DIR_VARIABLE, DataPlace


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataPlace:
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "data"))
    return DataPlace(tmp_path / "data")


@pytest.fixture
def runs(place: DataPlace, tmp_path: Path) -> Runs:
    folder = tmp_path / "outputs"
    folder.mkdir()
    return Runs(folder)
