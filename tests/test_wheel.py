"""The wheel works alone: installed in an empty environment, far from the repository."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from omnirt_cli.server.page import FILES

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_what_it_needs_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    assert "omnirt_cli/configs/models/soulx-flashtalk-14b.yaml" in names
    assert "omnirt_cli/miniature/assets/portrait.png" in names
    assert "omnirt_cli/miniature/checkouts/flashtalk_new/generate_video.py" in names
    assert "launchers/accelerate.yaml" in names
    assert {f"omnirt_cli/server/page/{file.name}" for file in FILES.values()} <= names
    assert not [name for name in names if name.startswith(("tests/", "scripts/", "configs/"))]


@pytest.mark.timeout(600)
def test_an_installed_wheel_lists_models_and_renders(wheel: Path, tmp_path: Path) -> None:
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)], check=True
    )
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    omnirt = str(python.with_name("omnirt"))

    listed = subprocess.run([omnirt, "models"], capture_output=True, text=True, env=env, cwd=tmp_path, check=True)
    assets = next((tmp_path / "env" / "lib").glob("python3*/site-packages")) / "omnirt_cli" / "miniature" / "assets"
    args = ["--model", "soulx-flashhead-1.3b", "--backend", "cpu", "--size", "128*128", "--max-chunks", "2"]
    inputs = ["--image", str(assets / "portrait.png"), "--audio", str(assets / "speech.wav")]
    rendered = subprocess.run(
        [omnirt, "generate", *args, *inputs, "--output", "v.mp4"], capture_output=True, text=True, env=env, cwd=tmp_path
    )

    assert "soulx-flashtalk-14b" in listed.stdout
    assert rendered.returncode == 0, rendered.stderr
    assert (tmp_path / "v.mp4").stat().st_size > 0
