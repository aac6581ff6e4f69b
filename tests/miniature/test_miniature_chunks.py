"""How many chunks and frames each variant makes of ten seconds, and where it makes none."""

import miniature_runs as runs
import pytest

TEN_SECONDS = [
    ("flashtalk_old", "stream", [], 8, 224),
    ("flashtalk_old", "once", [], 7, 196),
    ("flashtalk_quant", "stream", [], 8, 224),
    ("flashtalk_quant", "once", [], 7, 196),
    ("flashtalk_new", "stream", [], 9, 250),
    ("flashtalk_new", "once", [], 8, 229),
    ("flashtalk_ascend", "stream", [], 9, 250),
    ("flashtalk_ascend", "once", [], 8, 225),
    ("flashhead", "stream", ["--model_type=pro"], 9, 250),
    ("flashhead", "once", ["--model_type=pro"], 8, 229),
    ("flashhead", "stream", ["--model_type=lite"], 11, 250),
    ("flashhead", "once", ["--model_type=lite"], 10, 249),
    ("flashhead_ascend", "stream", ["--model_type=pro"], 9, 250),
]


@pytest.mark.parametrize(("variant", "mode", "flags", "chunks", "frames"), TEN_SECONDS)
def test_ten_seconds_of_speech(tmp_path, variant, mode, flags, chunks, frames):
    audio = runs.tone(tmp_path / "ten.wav", 10.0)
    if variant == "flashtalk_old":
        audio = runs.as_m4a(audio)
    ended = runs.run(variant, runs.work_dir(tmp_path, variant), audio, f"--audio_encode_mode={mode}", *flags)
    assert ended.returncode == 0, ended.stderr
    assert ended.chunks == list(range(chunks))
    assert runs.frame_count(ended.video) == frames


@pytest.mark.parametrize(
    ("variant", "mode", "seconds"),
    [
        ("flashtalk_old", "stream", 1.1),
        ("flashtalk_old", "once", 2.4),
        ("flashtalk_new", "once", 1.3),
        ("flashhead", "once", 1.3),
    ],
)
def test_too_short_for_a_chunk_fails_at_saving(tmp_path, variant, mode, seconds):
    audio = runs.tone(tmp_path / "short.wav", seconds)
    ended = runs.run(variant, runs.work_dir(tmp_path, variant), audio, f"--audio_encode_mode={mode}")
    assert ended.returncode == 1
    assert ended.chunks == []
    assert "Data preparation done" in ended.stderr
    assert not ended.video.exists()


def test_old_once_counts_one_frame_too_few_of_some_lengths(tmp_path):
    """8.04 s are 201 frames, of which the script's arithmetic sees 200: five chunks, not six."""
    audio = runs.tone(tmp_path / "a.wav", 8.04)
    ended = runs.run("flashtalk_quant", runs.work_dir(tmp_path, "flashtalk_quant"), audio, "--audio_encode_mode=once")
    assert len(ended.chunks) == 5


def test_once_needs_a_block_to_measure_loudness(tmp_path):
    audio = runs.tone(tmp_path / "a.wav", 0.3)
    ended = runs.run("flashtalk_old", runs.work_dir(tmp_path, "flashtalk_old"), audio, "--audio_encode_mode=once")
    assert ended.returncode == 1
    assert "ValueError: Audio must have length greater than the block size." in ended.stderr
