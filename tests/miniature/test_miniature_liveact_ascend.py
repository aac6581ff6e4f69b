"""The Ascend adaptation of LiveAct in miniature: its own flags, its text step, and what it prints more."""

import hashlib
import json
import re
import subprocess
import sys

import miniature_liveact as liveact
import miniature_runs as runs
import pytest

OWN_FLAGS = {
    "--sample_steps", "--sequence_parallel_degree", "--ulysses_degree", "--ring_degree", "--rank0_t5_only",
    "--stop_after_text_context", "--use_cache_vae", "--use_lightvae", "--vae_path", "--condition_cache_dir",
    "--disable_condition_cache", "--fast_export", "--disable_fast_export", "--fast_export_preset",
    "--fast_export_crf",
}  # fmt: skip
SWITCHES = [
    "--t5_cpu", "--rank0_t5_only", "--offload_cache", "--fp8_kv_cache", "--block_offload", "--steam_audio",
    "--mean_memory", "--use_cache_vae", "--use_lightvae", "--fast_export",
]  # fmt: skip
WHERE = "import sys; sys.path.insert(0, sys.argv[1]); from model_liveact import text_context as t; print({expression})"


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return runs.tone(tmp_path_factory.mktemp("sound") / "speech.wav", 1.5)


@pytest.fixture
def cwd(tmp_path, speech):
    """A working directory with the input of a render of two blocks."""
    liveact.inputs(tmp_path / "work", speech)
    return tmp_path / "work"


@pytest.fixture(autouse=True)
def contexts(tmp_path, monkeypatch):
    """The directory of the text contexts, this test's own."""
    place = tmp_path / "contexts"
    place.mkdir()
    monkeypatch.setenv("MINIATURE_TEXT_CTX_DIR", str(place))
    return place


def run(cwd, *flags, **options):
    return liveact.run("liveact_ascend", cwd, *flags, **options)


def context_name(input_json, data_idx=0, **edit_prompts):
    key = {"input_json": str(input_json), "data_idx": data_idx, "prompt": liveact.PROMPT, "edit_prompts": edit_prompts}
    text = json.dumps(key, sort_keys=True, ensure_ascii=False)
    return f"liveact_text_ctx_{hashlib.sha1(text.encode()).hexdigest()[:16]}.pt"


# --- the command line -----------------------------------------------------------------------------


def test_it_says_that_it_is_a_miniature():
    said = json.loads((runs.CHECKOUTS / "liveact_ascend" / "MINIATURE").read_text())
    assert said == {"miniature": True, "of": "liveact_ascend"}


def test_its_flags_are_the_public_ones_and_its_own():
    public = liveact.declared_flags(runs.CHECKOUTS / "liveact" / "generate.py")
    assert liveact.declared_flags(runs.CHECKOUTS / "liveact_ascend" / "generate.py") == public | OWN_FLAGS


def test_the_flags_of_the_text_step():
    declared = liveact.declared_flags(runs.CHECKOUTS / "liveact_ascend" / "prepare_text_cache.py")
    assert declared == {"--ckpt_dir", "--input_json", "--device", "--force"}


def test_all_flags_together(cwd):
    values = ["--sample_steps=2", "--ring_degree=1", "--sequence_parallel_degree=1", "--ulysses_degree=1"]
    values += ["--fast_export_preset=veryfast", "--fast_export_crf=18", "--audio_cfg=1.0", "--fps=20", "--seed=1"]
    ended = run(cwd, *SWITCHES, *values)
    assert ended.returncode == 0, ended.stderr
    assert ended.videos() == {"tmp.mp4", "portrait_speech.mp4"}


def test_unknown_flags_end_with_two(cwd):
    assert run(cwd, "--max_chunks=1").returncode == 2
    assert liveact.prepare(cwd, "--wav2vec_dir=w").returncode == 2


# --- what it prints and writes --------------------------------------------------------------------


def test_both_scripts_say_at_once_which_platform_and_devices_they_were_given(cwd):
    env = {"PLATFORM": "ascend_npu", "ASCEND_RT_VISIBLE_DEVICES": "2,3", "GPU_NUM": "2"}
    line = "[platform] PLATFORM=ascend_npu ASCEND_RT_VISIBLE_DEVICES=2,3 GPU_NUM=2: npu is the CPU here"
    for ended in (liveact.prepare(cwd, env=env), run(cwd, env=env)):
        assert ended.stdout.splitlines()[0] == line
        assert "CUDA" not in ended.stdout


def test_without_the_platform_it_says_what_the_real_code_would_do(cwd):
    ended = run(cwd)
    assert ended.returncode == 0
    assert ended.stdout.startswith("[platform] PLATFORM=(unset) ")
    assert "[platform] not ascend_npu: the real code would look for CUDA" in ended.stdout


def test_the_steps_are_the_bars_length(cwd):
    assert run(cwd, "--sample_steps=2").stderr.count("| 2/2 [") == 2
    assert run(cwd).stderr.count("| 3/3 [") == 2


def test_stages_are_printed_on_demand(cwd):
    assert "[stage-profile]" not in run(cwd).stdout
    stdout = run(cwd, env={"LIVEACT_STAGE_PROFILE": "1", "MINIATURE_CHUNK_S": "0.1"}).stdout
    stages = dict(re.findall(r"^\[stage-profile\] (\w+) avg=(\d+\.\d{4})s$", stdout, re.M))
    assert list(stages) == ["sample_model_forward", "vae_decode", "export", "total"]
    assert float(stages["sample_model_forward"]) >= 0.2
    parts = [float(stages[name]) for name in ("sample_model_forward", "vae_decode", "export")]
    assert sum(parts) <= float(stages["total"]) + 0.001


def test_export_with_an_encoder_setting_of_its_own(cwd):
    sizes = []
    for crf in (10, 40):
        run(cwd, f"--fast_export_crf={crf}", "--fast_export_preset=ultrafast")
        sizes.append((cwd / "tmp.mp4").stat().st_size)
    assert sizes[0] > 1.5 * sizes[1]


def test_without_fast_export_the_picture_is_the_public_one(cwd):
    liveact.run("liveact", cwd)
    public = runs.pixels(cwd / "tmp.mp4")
    run(cwd, "--disable_fast_export")
    assert (runs.pixels(cwd / "tmp.mp4") == public).all()


def test_the_conditions_of_a_portrait_are_kept(cwd, tmp_path):
    cache = f"--condition_cache_dir={tmp_path / 'conditions'}"
    assert "[condition-cache]" not in run(cwd, cache, "--disable_condition_cache").stdout
    assert "[condition-cache] miss " in run(cwd, cache).stdout
    assert "[condition-cache] hit " in run(cwd, cache).stdout
    assert "[condition-cache] miss " in run(cwd, cache, "--size=80*64").stdout
    assert len(list((tmp_path / "conditions").iterdir())) == 2


def test_a_named_vae_has_to_be_there(cwd):
    missing = run(cwd, "--use_lightvae", "--vae_path=light.pth")
    assert missing.returncode == 1
    assert "4/4" in missing.stderr
    assert "No such file or directory: 'light.pth'" in missing.stderr
    (cwd / "light.pth").touch()
    assert run(cwd, "--use_lightvae", "--vae_path=light.pth").returncode == 0


@pytest.mark.parametrize("flag", ["--ulysses_degree=2", "--ring_degree=2", "--sequence_parallel_degree=4"])
def test_degrees_have_to_fit_the_ranks(cwd, flag):
    ended = run(cwd, flag)
    assert ended.returncode == 1
    assert "AssertionError: sequence_parallel_degree" in ended.stderr


# --- the text step --------------------------------------------------------------------------------


def test_the_text_step_writes_a_context_for_each_item(tmp_path, contexts, speech):
    path = liveact.inputs(tmp_path, speech, speech, edit_prompt={"[0, 4]": "ein Lächeln"})
    ended = liveact.prepare(tmp_path)
    assert ended.returncode == 0, ended.stderr
    expected = {context_name(path, index, **{"[0, 4]": "ein Lächeln"}) for index in (0, 1)}
    assert {file.name for file in contexts.iterdir()} == expected
    assert "\rLoading T5: 100%" in ended.stderr
    assert re.fullmatch(r"\[text-cache-profile\] total=\d+\.\d\ds", ended.stdout.splitlines()[-1])


def test_a_context_is_found_again_instead_of_loading_t5(cwd, contexts):
    liveact.prepare(cwd)
    ended = run(cwd)
    assert f"[text-cache] loaded {contexts / context_name(cwd / 'input.json')}" in ended.stdout
    assert "Loading T5" not in ended.stderr


def test_without_a_context_t5_is_loaded_in_the_render_and_nothing_is_kept(cwd, contexts):
    ended = run(cwd)
    assert ended.returncode == 0
    assert f"[text-cache] not found {contexts / context_name(cwd / 'input.json')}: encoded here" in ended.stdout
    assert "\rLoading T5: 100%" in ended.stderr
    assert not list(contexts.iterdir())


def test_another_list_is_another_context(tmp_path, speech):
    for name in ("one", "two"):
        liveact.inputs(tmp_path / name, speech)
    liveact.prepare(tmp_path / "one")
    assert "[text-cache] not found " in run(tmp_path / "two").stdout


def test_a_second_text_step_loads_t5_all_the_same_and_keeps_what_is_there(cwd, contexts):
    liveact.prepare(cwd)
    (kept,) = contexts.iterdir()
    kept.write_text("older")
    again = liveact.prepare(cwd)
    assert f"[text-cache] hit {kept}" in again.stdout
    assert "\rLoading T5: 100%" in again.stderr
    assert kept.read_text() == "older"
    assert "[text-cache] wrote " in liveact.prepare(cwd, "--force").stdout
    assert kept.read_text() != "older"


def test_a_context_is_taken_as_it_is(cwd, contexts):
    (contexts / context_name(cwd / "input.json")).write_text("no context at all")
    ended = run(cwd)
    assert ended.returncode == 1
    assert "JSONDecodeError" in ended.stderr
    assert not ended.videos()


def test_contexts_lie_in_tmp_by_default(cwd):
    code = WHERE.format(expression="t.path_of('input.json', 0, {'prompt': '" + liveact.PROMPT + "'})")
    command = [sys.executable, "-c", code, str(runs.CHECKOUTS / "liveact_ascend")]
    env = liveact.environment({"MINIATURE_TEXT_CTX_DIR": ""})
    done = subprocess.run(command, cwd=cwd, env=env, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "/tmp/" + context_name(cwd / "input.json")


def test_stopping_after_the_text_context_renders_nothing(cwd):
    ended = run(cwd, "--stop_after_text_context")
    assert ended.returncode == 0
    assert "encoded here" in ended.stdout
    assert "iter_total_num" not in ended.stdout
    assert not ended.videos()


def test_the_text_step_needs_its_list(tmp_path):
    ended = liveact.prepare(tmp_path)
    assert ended.returncode == 1
    assert "FileNotFoundError" in ended.stderr
    assert "[text-cache-profile]" not in ended.stdout


def test_the_text_step_takes_the_time_asked_for(cwd):
    ended = liveact.prepare(cwd, env={"MINIATURE_LOAD_S": "0.4"})
    assert float(re.search(r"total=([\d.]+)s", ended.stdout)[1]) >= 0.4


def test_a_fault_may_strike_the_text_step_or_the_render(cwd, contexts):
    struck = liveact.prepare(cwd, env={"MINIATURE_FAULT": "oom_npu@text"})
    assert struck.returncode == 1
    assert "NPU out of memory" in struck.stderr
    assert not list(contexts.iterdir())
    at_load = {"MINIATURE_FAULT": "oom_npu"}
    assert liveact.prepare(cwd, env=at_load).returncode == 0
    assert run(cwd, env=at_load).returncode == 1


# --- several ranks --------------------------------------------------------------------------------


def test_more_than_two_ranks_render_and_one_alone_encodes_for_all(cwd):
    ended = run(cwd, "--rank0_t5_only", "--dura_print", ranks=3)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("----iter_total_num= 2") == 3
    assert ended.stdout.count("Done Block ") == 2
    assert ended.stderr.count("\rLoading T5: 100%") == 1
    assert set(runs.streams(cwd / "portrait_speech.mp4")) == {"video", "audio"}


def test_otherwise_every_rank_loads_t5(cwd):
    ended = run(cwd, "--stop_after_text_context", ranks=2)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("\rLoading T5: 100%") == 2
