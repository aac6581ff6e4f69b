"""The worker program gives the frames that the script gives, to the bit, before any encoder saw them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.driver_runs import SIDE, drive, raw_encoder, request
from tests.miniature import miniature_runs

FRAME_BYTES = SIDE * SIDE * 3
SECONDS = 4.3
VARIANTS = [
    *((name, None) for name in miniature_runs.FLASHTALK),
    *((name, kind) for name in miniature_runs.FLASHHEAD for kind in ("pro", "lite")),
]


def _both(
    folder: Path, variant: str, model_type: str | None, mode: str, *, ranks: int = 0, more_chunks: int = 0
) -> tuple[bytes, bytes, int]:
    """The script's frames, the program's for as many chunks and some more, and the number of chunks."""
    cwd = miniature_runs.work_dir(folder, variant)
    audio = miniature_runs.tone(folder / "speech.wav", SECONDS)
    kind = [f"--model_type={model_type}"] if model_type else []
    frames = folder / "script.rgb"
    script = miniature_runs.run(
        variant,
        cwd,
        audio,
        f"--audio_encode_mode={mode}",
        "--base_seed=3",
        *kind,
        env={"MINIATURE_FRAMES": str(frames)},
    )
    chunks = len(script.chunks)
    asked = request(
        variant,
        audio,
        mode=mode,
        chunks=chunks + more_chunks,
        model_type=model_type or "pro",
        ffmpeg=raw_encoder(folder),
    )
    driven = drive(cwd, asked, ranks=ranks)
    assert driven.returncode == 0, driven.stderr
    assert chunks > 0
    return frames.read_bytes(), driven.pixels, chunks


@pytest.mark.parametrize("mode", ["stream", "once"])
@pytest.mark.parametrize(("variant", "model_type"), VARIANTS)
def test_the_frames_are_the_scripts(variant: str, model_type: str | None, mode: str, tmp_path: Path) -> None:
    script, driven, _ = _both(tmp_path, variant, model_type, mode)

    assert len(driven) % FRAME_BYTES == 0
    assert driven == script


def test_with_torch_they_are_the_same(tmp_path: Path) -> None:
    cwd = miniature_runs.work_dir(tmp_path, "flashtalk_new")
    audio = miniature_runs.tone(tmp_path / "speech.wav", SECONDS)
    asked = request("flashtalk_new", audio, mode="stream", chunks=3, ffmpeg=raw_encoder(tmp_path))

    with_torch = drive(cwd, asked, env={"MINIATURE_TORCH": "1"}).pixels
    without = drive(cwd, asked).pixels

    assert with_torch == without
    assert len(without) == 3 * 28 * FRAME_BYTES


def test_two_real_ranks_give_them_too_and_rank_zero_alone_writes(tmp_path: Path) -> None:
    script, driven, _ = _both(tmp_path, "flashtalk_old", None, "stream", ranks=2)

    assert driven == script


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["stream", "once"])
@pytest.mark.parametrize(("variant", "model_type"), [row for row in VARIANTS if row[1] != "lite"])
def test_every_variant_gives_them_on_two_real_ranks(
    variant: str, model_type: str | None, mode: str, tmp_path: Path
) -> None:
    script, driven, _ = _both(tmp_path, variant, model_type, mode, ranks=2)

    assert driven == script


@pytest.mark.parametrize("variant", ["flashtalk_new", "flashhead"])
def test_the_last_chunk_of_once_is_not_lost(variant: str, tmp_path: Path) -> None:
    model_type = "pro" if variant == "flashhead" else None
    script, driven, _ = _both(tmp_path, variant, model_type, "once", more_chunks=1)

    assert driven.startswith(script)
    assert len(driven) - len(script) == 28 * FRAME_BYTES


def test_another_seed_gives_other_frames(tmp_path: Path) -> None:
    """The comparison can fail."""
    cwd = miniature_runs.work_dir(tmp_path, "flashtalk_new")
    audio = miniature_runs.tone(tmp_path / "speech.wav", SECONDS)
    asked = request("flashtalk_new", audio, mode="stream", chunks=2, ffmpeg=raw_encoder(tmp_path))
    first = drive(cwd, asked).pixels
    asked["render"]["base"]["seed"] = 4

    assert drive(cwd, asked).pixels != first
