"""Two real ranks under torchrun, and what is the same in every run."""

import subprocess
import sys

import miniature_runs as runs
import numpy as np
import pytest

DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from {package} import inference
pipeline = inference.get_pipeline(world_size=1, ckpt_dir="c", wav2vec_dir="w"{model_type})
speech = np.sin(np.arange(16000 * 2) / 20).astype(np.float32) * 0.3
runs = []
for _ in range(2):
    inference.get_base_data(pipeline, {base_data}, base_seed=7{face_crop})
    embedding = inference.get_audio_embedding(pipeline, speech)
    first = inference.run_pipeline(pipeline, embedding[:, :33].contiguous())
    second = inference.run_pipeline(pipeline, embedding[:, 17:].contiguous())
    runs.append([first.cpu().numpy(), second.cpu().numpy()])
assert first.shape == (33, 64, 64, 3) and runs[0][0].dtype == np.float32, (first.shape, runs[0][0].dtype)
for a, b in zip(*runs):
    assert np.array_equal(a, b)
np.save(sys.argv[3], np.concatenate(runs[0]))
"""


@pytest.fixture
def speech(tmp_path):
    return runs.tone(tmp_path / "speech.wav", 2.2)


@pytest.mark.parametrize("variant", ["flashtalk_new", "flashhead"])
def test_two_runs_are_equal_to_the_bit_and_another_seed_is_not(tmp_path, speech, variant):
    cwd = runs.work_dir(tmp_path, variant)
    same = [runs.run(variant, cwd, speech, save_file=f"res_{i}.mp4") for i in range(2)]
    other = runs.run(variant, cwd, speech, "--base_seed=5", save_file="res_o.mp4")
    assert np.array_equal(runs.pixels(same[0].video), runs.pixels(same[1].video))
    assert not np.array_equal(runs.pixels(same[0].video), runs.pixels(other.video))


@pytest.mark.parametrize("variant", ["flashtalk_new", "flashhead"])
def test_two_ranks_meet_and_rank_zero_alone_reports(tmp_path, speech, variant):
    cwd = runs.work_dir(tmp_path, variant)
    ended = runs.run(variant, cwd, speech, ranks=2)
    assert ended.returncode == 0, ended.stderr
    for rank in (0, 1):
        assert f"rank={rank} device=cpu" in ended.stderr
    assert ended.stderr.count("ulysses_degree: 2, ring_degree: 1, device: cpu") == 2
    assert ended.stderr.count("Finished.") == 1
    assert ended.chunks == [0, 1]
    alone = runs.run(variant, cwd, speech, save_file="res_alone.mp4")
    assert np.array_equal(runs.pixels(ended.video), runs.pixels(alone.video)), "with torch and without, alike"


def test_a_failing_rank_is_named_and_ends_the_other(tmp_path, speech):
    cwd = runs.work_dir(tmp_path, "flashtalk_new")
    ended = runs.run("flashtalk_new", cwd, speech, env={"MINIATURE_FAULT": "oom_cuda@chunk1:rank1"}, ranks=2)
    assert ended.returncode == 1
    assert "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.32 GiB. GPU 1 has" in ended.stderr
    assert "Root Cause (first observed failure):" in ended.stderr
    assert ended.chunks == [0]


def test_a_leaked_world_size_stops_plain_python(tmp_path, speech):
    cwd = runs.work_dir(tmp_path, "flashtalk_new")
    ended = runs.run("flashtalk_new", cwd, speech, env={"WORLD_SIZE": "2", "RANK": "0", "MINIATURE_TORCH": "1"})
    assert ended.returncode == 1
    assert "environment variable MASTER_ADDR expected, but not set" in ended.stderr


@pytest.mark.parametrize("variant", ["flashtalk_new", "flashhead"])
def test_another_program_can_drive_it_with_and_without_torch(tmp_path, variant):
    cwd = runs.work_dir(tmp_path, variant)
    head = variant == "flashhead"
    portrait = repr(str(runs.PORTRAIT))
    code = DRIVER.format(
        package=runs.package(variant),
        model_type=', model_type="pro"' if head else "",
        base_data=f"cond_image_path_or_dir={portrait}" if head else f'input_prompt="x", cond_image={portrait}',
        face_crop=", use_face_crop=False" if head else "",
    )
    for torch in ("0", "1"):
        command = [sys.executable, "-c", code, str(runs.CHECKOUTS / variant), "-", f"frames{torch}.npy"]
        subprocess.run(command, cwd=cwd, env=runs.environment({"MINIATURE_TORCH": torch}), check=True)
    without, with_torch = (np.load(cwd / f"frames{torch}.npy") for torch in ("0", "1"))
    assert np.array_equal(without, with_torch)
    assert np.array_equal(without[28:33], without[33:38]), "the motion frames are carried over"
