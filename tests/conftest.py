"""What every test starts from: an environment without the machine's own settings, and the package on PYTHONPATH."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "omnirt_cli" / "miniature" / "assets"
CHECKOUTS = ROOT / "omnirt_cli" / "miniature" / "checkouts"


def pytest_configure() -> None:
    """Signals mean what they mean in a shell, also where the tests were started by nohup or in the background."""
    for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the developer's own settings."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name, place in (("CONFIG", ".config"), ("DATA", ".local/share"), ("CACHE", ".cache")):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / place))
    for name in list(os.environ):
        if name.startswith(("OMNIRT_", "FLASHTALK_", "FLASHHEAD_", "LIVEACT_", "MINIATURE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OMNIRT_LOCK_DIR", str(home / "locks"))
    monkeypatch.setenv("OMNIRT_RUNTIME_DIR", str(home / "run"))
    for name in ("ASCEND_RT_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def portrait() -> Path:
    return ASSETS / "portrait.png"


@pytest.fixture
def speech() -> Path:
    return ASSETS / "speech.wav"


@pytest.fixture
def python() -> str:
    return sys.executable
