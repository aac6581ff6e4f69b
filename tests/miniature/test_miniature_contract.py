"""What the miniatures print, read and refuse."""

import ast
import functools
import json
import re
import shutil
import subprocess
import sys

import miniature_runs as runs
import numpy as np
import pytest

ALL = runs.FLASHTALK + runs.FLASHHEAD
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \| (INFO    |WARNING ) \| [\w.]+:\w+:\d+ - ")


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return runs.tone(tmp_path_factory.mktemp("sound") / "speech.wav", 1.2)


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory, speech):
    """An ordinary run of a variant, made once."""

    @functools.cache
    def ended(variant):
        return run(tmp_path_factory.mktemp("ordinary"), variant, speech)

    return ended


def run(tmp_path, variant, speech, *flags, **options):
    return runs.run(variant, runs.work_dir(tmp_path, variant), speech, *flags, **options)


@pytest.mark.parametrize("variant", ALL)
def test_a_checkout_says_that_it_is_a_miniature(variant):
    assert json.loads((runs.CHECKOUTS / variant / "MINIATURE").read_text()) == {"miniature": True, "of": variant}


@pytest.mark.parametrize("variant", ALL)
def test_the_flags_can_be_read_without_running_the_script(variant):
    tree = ast.parse((runs.CHECKOUTS / variant / "generate_video.py").read_text())
    flags = {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument"
    }
    common = {"--ckpt_dir", "--wav2vec_dir", "--save_file", "--base_seed", "--cond_image", "--audio_path"}
    common.add("--audio_encode_mode")
    own = {
        "flashtalk_quant": {"--input_prompt", "--cpu_offload", "--quantize"},
        "flash_talk": {"--input_prompt", "--cpu_offload"},
        "flash_head": {"--model_type", "--cond_image_dir", "--use_face_crop"},
    }
    assert flags == common | own.get(variant, own[runs.package(variant)])


def test_the_log_lines_are_in_the_published_form(ordinary):
    ended = ordinary("flashtalk_new")
    lines = re.split(r"[\r\n]+", ended.stderr)
    messages = [line for line in lines if LOG_LINE.match(line)]
    assert " | flash_talk.inference:get_pipeline:" in messages[0]
    assert messages[0].endswith(" - ulysses_degree: 1, ring_degree: 1, device: cpu")
    assert any("Creating WanModel from weights" in line for line in messages)
    assert "\rLoading checkpoint shards: 100%|██████████| 4/4 [" in ended.stderr
    assert re.search(r"chunk-0 done, cost time: \d+\.\d\ds\n", ended.stderr)
    assert messages[-1].endswith("Finished.")


def test_flashhead_counts_milliseconds(ordinary):
    assert re.search(r"chunk-0 done, cost time: \d+\.\d{3}s\n", ordinary("flashhead").stderr)


@pytest.mark.parametrize(("variant", "steps"), [("flashtalk_new", 4), ("flashtalk_ascend", 2), ("flashhead", 4)])
def test_sub_stages_are_printed_per_step(ordinary, variant, steps):
    ended = ordinary(variant)
    assert ended.stdout.count("[generate] model denoise per step: ") == steps * len(ended.chunks)
    assert ended.stdout.count("[generate] decode video frames: ") == len(ended.chunks)


def test_the_quantizing_fork_prints_no_sub_stages(ordinary):
    ended = ordinary("flashtalk_quant")
    assert ended.returncode == 0
    assert "[generate]" not in ended.stdout


@pytest.mark.parametrize(("env", "warned"), [({}, True), ({"MINIATURE_QUANT": "ok"}, False)])
def test_failed_quantizing_is_only_a_warning(tmp_path, speech, env, warned):
    ended = run(tmp_path, "flashtalk_quant", speech, "--quantize=quanto-int4", env=env)
    assert ended.returncode == 0
    assert ("quanto INT4 quantization failed: " in ended.stderr) is warned
    assert ("Running without quantization." in ended.stderr) is warned


def test_unknown_flags_and_choices_end_with_two(tmp_path, speech):
    assert run(tmp_path, "flashtalk_new", speech, "--max_chunks=0").returncode == 2
    assert run(tmp_path, "flashtalk_quant", speech, "--quantize=int4").returncode == 2


def test_the_model_type_is_asserted(tmp_path, speech):
    ended = run(tmp_path, "flashhead", speech, "--model_type=huge")
    assert ended.returncode == 1
    assert "AssertionError" in ended.stderr


def test_any_text_turns_face_cropping_on(tmp_path, ordinary, speech):
    plain = ordinary("flashhead")
    cropped = run(tmp_path, "flashhead", speech, "--use_face_crop=False", save_file="cropped.mp4")
    assert not np.array_equal(runs.pixels(plain.video)[0], runs.pixels(cropped.video)[0])


def test_the_ascend_variant_reads_its_environment(tmp_path, speech):
    env = {"FLASHTALK_HEIGHT": "80", "FLASHTALK_WIDTH": "96", "FLASHTALK_TGT_FPS": "20", "FLASHTALK_SAMPLE_STEPS": "3"}
    ended = run(tmp_path, "flashtalk_ascend", speech, env=env)
    video = runs.streams(ended.video)["video"]
    assert (video["width"], video["height"], video["r_frame_rate"]) == (96, 80, "20/1")
    assert ended.stdout.count("model denoise per step") == 3 * len(ended.chunks)


def test_the_ascend_variant_reports_its_shortcuts(tmp_path, speech):
    env = {"FLASHTALK_CACHE_INTERVAL": "2", "FLASHTALK_DIT_BLOCK_CACHE": "1", "FLASHTALK_BLOCK_PROFILE": "1"}
    ended = run(tmp_path, "flashtalk_ascend", speech, env=env)
    assert "[generate] step 1: reusing cached noise (skip model)" in ended.stdout
    assert "[generate] dit block cache: hits=1, misses=1" in ended.stdout
    assert "[block-profile] total " in ended.stdout


@pytest.mark.parametrize("value", ["", "many"])
def test_the_ascend_variant_refuses_a_bad_number(tmp_path, speech, value):
    ended = run(tmp_path, "flashtalk_ascend", speech, env={"FLASHTALK_FRAME_NUM": value})
    assert ended.returncode == 1
    assert "ValueError" in ended.stderr


def test_the_ascend_variant_names_its_quantization(tmp_path, speech):
    ended = run(tmp_path, "flashtalk_ascend", speech, env={"FLASHTALK_T5_QUANT": "int8"})
    assert "Using quantized T5 encoder: quant=int8, quant_dir=weights" in ended.stderr
    assert run(tmp_path, "flashtalk_ascend", speech, env={"FLASHTALK_WAN_QUANT": "int3"}).returncode == 1


def test_without_loudness_norm_a_quiet_voice_moves_less(tmp_path):
    loud = runs.tone(tmp_path / "loud.wav", 1.5)
    quiet = tmp_path / "quiet.wav"
    subprocess.run(["ffmpeg", "-v", "error", "-i", loud, "-af", "volume=-32dB", quiet], check=True)
    normed = run(tmp_path, "flashtalk_ascend", quiet, save_file="res_a.mp4")
    raw = run(tmp_path, "flashtalk_ascend", quiet, save_file="res_b.mp4", env={"FLASHTALK_AUDIO_LOUDNESS_NORM": "0"})
    assert not np.array_equal(runs.pixels(normed.video), runs.pixels(raw.video))


@pytest.mark.parametrize("variant", ["flashtalk_old", "flashtalk_new", "flashtalk_quant"])
def test_the_public_variants_ignore_the_environment(tmp_path, speech, variant):
    ended = run(tmp_path, variant, speech, env={"FLASHTALK_FRAME_NUM": "many", "FLASHTALK_HEIGHT": "80"})
    assert ended.returncode == 0


def test_the_ascend_flashhead_reads_its_environment(tmp_path, speech):
    env = {"FLASHHEAD_SAMPLE_STEPS": "2", "FLASHHEAD_LATENT_CARRY": "1", "FLASHHEAD_PROFILE": "1"}
    ended = run(tmp_path, "flashhead_ascend", speech, env=env)
    assert "sample_steps=2 vae_2d_split=True latent_carry=True" in ended.stderr
    assert ended.stdout.count("model denoise per step") == 2 * len(ended.chunks)
    assert "[stage-profile] generate=" in ended.stdout


def test_the_public_flashhead_always_runs_four_steps(tmp_path, speech):
    ended = run(tmp_path, "flashhead", speech, env={"FLASHHEAD_SAMPLE_STEPS": "2"})
    assert ended.stdout.count("model denoise per step") == 4 * len(ended.chunks)


def test_the_yaml_is_opened_in_the_working_directory(tmp_path, speech):
    ended = runs.run("flashtalk_new", tmp_path, speech)
    assert ended.returncode == 1
    assert "No such file or directory: 'flash_talk/configs/infer_params.yaml'" in ended.stderr


@pytest.mark.parametrize("variant", ["flashtalk_old", "flashhead"])
def test_a_missing_portrait_fails_after_the_load(tmp_path, speech, variant):
    ended = run(tmp_path, variant, speech, "--cond_image=nowhere.png")
    assert ended.returncode == 1
    assert "4/4" in ended.stderr
    assert "FileNotFoundError" in ended.stderr


def test_only_the_first_png_of_a_directory_is_used(tmp_path, speech):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(runs.PORTRAIT, pictures / "b.png")
    ended = run(tmp_path, "flashhead", speech, f"--cond_image_dir={pictures}")
    assert ended.returncode == 0
    (pictures / "b.png").rename(pictures / "b.jpg")
    ended = run(tmp_path, "flashhead", speech, f"--cond_image_dir={pictures}")
    assert ended.returncode == 1
    assert "AttributeError" in ended.stderr


def test_a_checkout_works_in_place_from_its_own_directory(tmp_path, speech):
    """As a user does it: the checkout is the working directory, the default weights are in it."""
    variant = "flashhead"
    ended = runs.run(
        variant,
        runs.CHECKOUTS / variant,
        speech,
        "--ckpt_dir=models/SoulX-FlashHead-1_3B",
        save_file=str(tmp_path / "out.mp4"),
    )
    assert ended.returncode == 0
    video = runs.streams(tmp_path / "out.mp4")["video"]
    assert (video["width"], video["height"]) == (512, 512)


def test_a_copied_tree_works_and_a_lone_checkout_says_what_is_missing(tmp_path):
    shutil.copytree(runs.MINIATURE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(runs.CHECKOUTS / "flashhead", tmp_path / "alone" / "flashhead")
    whole = [sys.executable, "generate_video.py", "--help"]
    ended = subprocess.run(whole, cwd=tmp_path / "copy/checkouts/flashhead", capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    ended = subprocess.run(whole, cwd=tmp_path / "alone/flashhead", capture_output=True, check=False)
    assert ended.returncode == 1
    assert b"copied with its whole miniature/ tree" in ended.stderr


def test_nothing_in_it_imports_omnirt():
    for file in runs.MINIATURE.rglob("*.py"):
        assert not re.search(r"^\s*(from|import) (omnirt|omnirt_cli|launchers)\b", file.read_text(), re.M), file
