"""The log benchmark, small: it reads every chunk line of every profile, in flat memory."""

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


@pytest.mark.parametrize(("profile", "size_mb"), [("day", 20.0), ("flood", 20.0), ("recorded", 3.0)])
def test_a_long_log_is_read_whole_in_flat_memory(
    logs: ModuleType, tmp_path: Path, profile: str, size_mb: float
) -> None:
    result = logs.measure(profile, size_mb, 1, tmp_path)
    assert result.size_mb >= size_mb
    assert result.growth_mb < logs.TARGET_GROWTH_MB
    assert result.ours[0].cpu_s > 0
    assert (tmp_path / f"{profile}.copy").read_bytes() == (tmp_path / f"{profile}.log").read_bytes()


def test_the_profiles_tell_as_much_as_they_claim(logs: ModuleType) -> None:
    shares = {name: logs.telling_share(text()) for name, text in logs.PROFILES.items()}
    assert 0.03 < shares["day"] < 0.06
    assert shares["flood"] < 0.01
    assert 0.4 < shares["recorded"] < 0.6


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("profile", ["day", "flood"])
def test_a_gigabyte_is_read_in_flat_memory(logs: ModuleType, tmp_path: Path, profile: str) -> None:
    result = logs.measure(profile, 1000.0, 1, tmp_path)

    assert result.size_mb >= 1000.0
    assert result.growth_mb < logs.TARGET_GROWTH_MB
