"""The log benchmark, small: it reads every chunk line of both profiles, in flat memory."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks" / "logs.py"


@pytest.fixture(scope="module")
def logs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("log_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("profile", "size_mb"), [("noisy", 20.0), ("dense", 5.0)])
def test_a_long_log_is_read_whole_in_flat_memory(
    logs: ModuleType, tmp_path: Path, profile: str, size_mb: float
) -> None:
    result = logs.measure(profile, size_mb, 1, tmp_path)
    assert result.size_mb >= size_mb
    assert result.growth_mb < logs.TARGET_GROWTH_MB
    assert (tmp_path / f"{profile}.copy").read_bytes() == (tmp_path / f"{profile}.log").read_bytes()
