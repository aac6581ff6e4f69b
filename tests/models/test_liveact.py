"""LiveAct: which checkout is which, how each knob travels there, and what is refused before a launch."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from soulx_cases import facts_of, model_of, request_for

from omnirt_cli.checkout import Flag
from omnirt_cli.errors import UsageError
from omnirt_cli.models.base import Backend, Carrier, ScratchNames, ScriptCall, ScriptRequest, Variant
from omnirt_cli.request import Config
from omnirt_cli.run.log_scanner import LogScanner

MODEL = model_of("liveact")
LOGS = Path(__file__).parents[1] / "data" / "logs"
CACHE = Path("/home/user/.cache/omnirt")
ADAPTED_ONLY = (
    "rank0_t5_only",
    "use_lightvae",
    "use_cache_vae",
    "vae_path",
    "condition_cache_dir",
    "disable_condition_cache",
    "fast_export",
    "disable_fast_export",
    "fast_export_preset",
    "fast_export_crf",
    "sequence_parallel_degree",
    "ulysses_degree",
    "ring_degree",
    "prepare_text_cache",
    "text_cache_device",
    "text_cache_visible_devices",
    "force_text_cache",
    "stage_profile",
)


def ascend(processes: int = 4, **knobs: Any) -> ScriptRequest:
    request = request_for("liveact_ascend", backend=Backend.ASCEND, processes=processes, **knobs)
    return dataclasses.replace(request, cache=CACHE, names=ScratchNames("portrait.png", "speech.wav"))


def public(processes: int = 1, **knobs: Any) -> ScriptRequest:
    return dataclasses.replace(request_for("liveact", processes=processes, **knobs), cache=CACHE)


def json_of(call: ScriptCall) -> Path:
    [path] = call.cache_files
    return path


# --- which checkout is which ----------------------------------------------------------------------


@pytest.mark.parametrize(("checkout", "variant"), [("liveact", "public"), ("liveact_ascend", "ascend")])
def test_variants_are_told_by_what_their_files_support(checkout: str, variant: str) -> None:
    assert MODEL.recognise(facts_of(checkout)) == Variant(variant)


@pytest.mark.parametrize("missing", ["--ring_degree", "--input_json", "prepare_text_cache.py"])
def test_a_checkout_that_is_neither_is_not_recognised(missing: str) -> None:
    facts = facts_of("liveact_ascend")
    other = dataclasses.replace(facts, flags=facts.flags - {missing}, scripts=facts.scripts - {missing})
    assert not MODEL.recognise(other).recognised


def test_a_checkout_tells_its_scripts_and_the_variables_of_all_of_its_code() -> None:
    facts = facts_of("liveact_ascend")
    assert {"generate.py", "prepare_text_cache.py"} <= facts.scripts
    assert "LIVEACT_STAGE_PROFILE" in facts.env_names


def test_a_script_that_names_a_variable_itself_is_understood(tmp_path: Path) -> None:
    from omnirt_cli.checkout import inspect_checkout

    (tmp_path / "generate.py").write_text("import os, helper\nPROFILE = os.environ.get('LIVEACT_STAGE_PROFILE')\n")
    (tmp_path / "helper.py").write_text("NAME = 'LIVEACT_OTHER'\n")
    facts = inspect_checkout(tmp_path, "generate.py")
    assert facts.env_names == {"LIVEACT_STAGE_PROFILE", "LIVEACT_OTHER"}
    assert facts.scripts == {"generate.py", "helper.py"}


# --- the call on Ascend ---------------------------------------------------------------------------


def test_the_published_ascend_command_launches_exactly_as_described() -> None:
    request = ascend(
        text_cache_visible_devices="2",
        use_lightvae=True,
        vae_path="models/vae/lightvaew2_1.pth",
        use_cache_vae=True,
        condition_cache_dir="cache/conditions",
    )
    assert MODEL.check(request) == []
    call = MODEL.script_call(request)
    checkout = request.checkout.path
    assert call.args == (
        "--ckpt_dir=/models/ckpt",
        "--wav2vec_dir=/models/wav2vec",
        f"--input_json={json_of(call)}",
        "--size=416*720",
        "--fps=20",
        "--seed=42",
        "--sample_steps=3",
        "--audio_cfg=1",
        "--steam_audio",
        "--rank0_t5_only",
        "--use_lightvae",
        "--use_cache_vae",
        f"--vae_path={checkout}/models/vae/lightvaew2_1.pth",
        f"--condition_cache_dir={checkout}/cache/conditions",
        "--fast_export_preset=veryfast",
        "--fast_export_crf=18",
        "--ring_degree=1",
        "--dura_print",
    )
    assert call.env == {"PLATFORM": "ascend_npu", "GPU_NUM": "4"}
    assert (call.result_name, call.silent_name, call.files) == ("portrait_speech.mp4", "tmp.mp4", {})


def test_the_text_context_is_made_first_on_one_device() -> None:
    call = MODEL.script_call(ascend(text_cache_visible_devices="2"))
    [step] = call.earlier
    assert step.name == "text context"
    assert step.script == facts_of("liveact_ascend").path / "prepare_text_cache.py"
    assert step.args == ("--ckpt_dir=/models/ckpt", f"--input_json={json_of(call)}", "--device=npu")
    assert step.env == {"PLATFORM": "ascend_npu", "GPU_NUM": "1"}
    assert (step.device, step.always) == ("2", False)
    assert step.record == json_of(call).with_suffix(".made")
    assert [path.name.startswith("liveact_text_ctx_") for path in step.makes] == [True]


def test_the_first_device_of_the_run_is_the_usual_one() -> None:
    assert MODEL.script_call(ascend()).earlier[0].device is None


def test_a_forced_text_context_is_made_whatever_is_there() -> None:
    step = MODEL.script_call(ascend(force_text_cache=True)).earlier[0]
    assert (step.args[-1], step.always) == ("--force", True)


@pytest.mark.parametrize("knobs", [{"disable_text_cache_prepare": True}, {"prepare_text_cache": False}])
def test_the_step_can_be_left_out(knobs: dict[str, bool]) -> None:
    call = MODEL.script_call(ascend(**knobs))
    assert call.earlier == ()
    assert call.cache_files


@pytest.mark.parametrize("backend", list(Backend))
def test_device_and_platform_follow_from_the_backend(backend: Backend) -> None:
    request = dataclasses.replace(request_for("liveact_ascend", backend=backend), cache=CACHE)
    call = MODEL.script_call(request)
    names = {Backend.ASCEND: "npu", Backend.CUDA: "cuda", Backend.CPU: "cpu"}
    assert call.earlier[0].args[-1] == f"--device={names[backend]}"
    assert call.env.get("PLATFORM") == ("ascend_npu" if backend is Backend.ASCEND else None)


@pytest.mark.parametrize(("asked", "value"), [(True, "1"), (False, None), (None, None)])
def test_the_profile_variable_is_set_only_when_asked_for(*, asked: bool | None, value: str | None) -> None:
    assert MODEL.script_call(ascend(stage_profile=asked)).env.get("LIVEACT_STAGE_PROFILE") == value


def test_every_flag_of_the_adaptation_travels() -> None:
    knobs: dict[str, Any] = {
        "size": "512*512",
        "fps": 24,
        "seed": 7,
        "sample_steps": 1,
        "audio_cfg": 1.7,
        "mean_memory": True,
        "t5_cpu": True,
        "offload_cache": True,
        "fp8_kv_cache": True,
        "block_offload": True,
        "disable_condition_cache": True,
        "disable_fast_export": True,
        "fast_export_preset": "slow",
        "fast_export_crf": 23,
        "sequence_parallel_degree": 4,
        "ulysses_degree": 2,
        "ring_degree": 2,
        "vae_path": "/elsewhere/vae.pth",
        "use_lightvae": True,
    }
    request = ascend(**knobs)
    assert MODEL.check(request) == []
    spoken = set(MODEL.script_call(request).args)
    switches = {f"--{knob}" for knob, value in knobs.items() if value is True}
    values = {f"--{knob}={value}" for knob, value in knobs.items() if value is not True}
    assert switches | values <= spoken


def test_the_result_is_named_up_to_the_first_dots() -> None:
    request = dataclasses.replace(ascend(), names=ScratchNames("my.photo.png", "voice.take1.wav"))
    assert MODEL.script_call(request).result_name == "my_voice.mp4"


def test_prompt_and_edits_stand_in_the_input_json() -> None:
    request = dataclasses.replace(ascend(edit_prompt={"[0,4]": "She nods."}), prompt="A person sings.")
    call = MODEL.script_call(request)
    [item] = json.loads(call.cache_files[json_of(call)])
    assert item["prompt"] == "A person sings."
    assert item["edit_prompt"] == {"[0, 4]": "She nods."}


# --- the public checkout --------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
def test_a_public_checkout_gets_its_own_flags_only(processes: int) -> None:
    request = public(processes)
    assert MODEL.check(request) == []
    call = MODEL.script_call(request)
    assert call.args == (
        "--ckpt_dir=/models/ckpt",
        "--wav2vec_dir=/models/wav2vec",
        f"--input_json={json_of(call)}",
        "--size=480*832",
        "--fps=24",
        "--seed=42",
        "--audio_cfg=1",
        "--dura_print",
    )
    assert call.env == {"GPU_NUM": str(processes), "USE_CHANNELS_LAST_3D": "1"}
    assert call.earlier == ()
    assert call.result_name == "image_audio.mp4"


def test_block_times_are_asked_for_unless_the_user_said_no() -> None:
    assert "--dura_print" not in MODEL.script_call(public(dura_print=False)).args
    assert any("no progress" in line for line in MODEL.check(public(dura_print=False)))


@pytest.mark.parametrize("knob", ADAPTED_ONLY)
def test_knobs_of_the_adaptation_are_refused_on_a_public_checkout(knob: str) -> None:
    values = {"fast_export_crf": 18, "text_cache_device": "npu"}
    with pytest.raises(UsageError) as caught:
        MODEL.check(public(**{knob: values.get(knob, True)}))
    assert f"has no --{knob.replace('_', '-')}" in caught.value.message
    assert "--fp8-kv-cache" in (caught.value.hint or "")


def test_leaving_out_a_step_that_is_not_there_is_no_mistake() -> None:
    assert MODEL.check(public(disable_text_cache_prepare=True)) == []


def test_steps_are_built_in_on_a_public_checkout() -> None:
    request = public()
    assert request.knobs["sample_steps"].carrier is Carrier.FIXED
    assert request.knobs["sample_steps"].value == 3
    with pytest.raises(UsageError, match="--sample-steps built in as 3; it cannot be set to 1"):
        MODEL.check(public(sample_steps=1))


def test_a_fork_with_steps_takes_them_by_its_own_flag() -> None:
    facts = facts_of("liveact")
    details = {**facts.flag_details, "--denoising_steps": Flag("--denoising_steps", default=2)}
    fork = dataclasses.replace(facts, flags=frozenset(details), flag_details=details)
    assert request_for(fork, MODEL).knobs["sample_steps"].value == 2
    assert "--denoising_steps=3" in MODEL.script_call(request_for(fork, MODEL, sample_steps=3)).args


def test_the_defaults_of_a_public_checkout_are_its_parsers() -> None:
    facts = facts_of("liveact")
    details = {
        **facts.flag_details,
        "--fps": Flag("--fps", default=30),
        "--size": Flag("--size", default="DEFAULT_SIZE"),
        "--audio_cfg": Flag("--audio_cfg", default="float(1)"),
    }
    other = dataclasses.replace(facts, flag_details=details)
    found = MODEL.defaults(other, MODEL.recognise(other), Backend.CUDA)
    assert (found["fps"], found["size"], found["audio_cfg"]) == (30, "416*720", 1.0), "source text is no value"


def test_a_parser_that_cannot_be_read_gets_what_every_variant_takes() -> None:
    unreadable = dataclasses.replace(facts_of("liveact"), flags=None, flag_details={}, scripts=frozenset())
    call = MODEL.script_call(dataclasses.replace(request_for(unreadable, MODEL), cache=CACHE))
    names = {argument.split("=")[0] for argument in call.args}
    assert names == {"--ckpt_dir", "--wav2vec_dir", "--input_json", "--size", "--fps", "--seed"}


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"size": "416*719"}, "multiples of 16"),
        ({"size": "huge"}, "not a size"),
        ({"fast_export": True, "disable_fast_export": True}, "--fast-export and --disable-fast-export"),
        ({"condition_cache_dir": "c", "disable_condition_cache": True}, "do not go together"),
        ({"force_text_cache": True, "disable_text_cache_prepare": True}, "do not go together"),
        ({"fp8_gemm": True, "fp4_gemm": True}, "finds none left"),
        ({"text_cache_visible_devices": "2,3"}, "runs on one device"),
        ({"text_cache_visible_devices": " "}, "runs on one device"),
        ({"stop_after_text_context": True}, "makes no video"),
        ({"edit_prompt": {"soon": "bow"}}, "not a range of blocks"),
        ({"sample_steps": 0}, "too small"),
    ],
)
def test_values_that_cannot_work_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MODEL.check(ascend(**knobs))


def test_the_working_directory_is_never_the_checkout_for_the_script_writes_there() -> None:
    with pytest.raises(UsageError, match="writes its video into its working directory"):
        MODEL.check(dataclasses.replace(ascend(), folder=Path("/out/scratch")))


@pytest.mark.parametrize("processes", [3, 4, 8])
def test_public_code_runs_on_two_devices_at_most(processes: int) -> None:
    with pytest.raises(UsageError, match=f"cannot run on {processes} processes: .*written for 2") as caught:
        MODEL.check(public(processes))
    assert "1, 2" in (caught.value.hint or "")


def test_public_code_for_two_devices_has_no_fp8_cache() -> None:
    assert MODEL.check(public(1, fp8_kv_cache=True)) == []
    with pytest.raises(UsageError, match="--fp8-kv-cache works with one process only"):
        MODEL.check(public(2, fp8_kv_cache=True))


@pytest.mark.parametrize(
    ("processes", "knobs", "message"),
    [
        (4, {"ulysses_degree": 2}, "--ulysses-degree 2 times --ring-degree 1 is not 4"),
        (4, {"ring_degree": 3}, "--ulysses-degree 1 times --ring-degree 3 is not 4"),
        (4, {"sequence_parallel_degree": 2}, "--sequence-parallel-degree 2 is not 4"),
        (3, {}, "40 attention heads do not divide by 3"),
        (8, {}, "2340 tokens, which do not divide by 8"),
        (1, {"ulysses_degree": 4}, "is not 1"),
    ],
)
def test_degrees_must_make_the_number_of_processes(processes: int, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        MODEL.check(ascend(processes, **knobs))


def test_process_counts_that_work() -> None:
    assert MODEL.process_counts(ascend(), limit=8) == [1, 2, 4, 5]
    assert MODEL.process_counts(ascend(size="512*512"), limit=8) == [1, 2, 4, 8]
    assert MODEL.process_counts(ascend(ring_degree=3, size="480*864"), limit=8) == [3, 6]
    assert MODEL.process_counts(public(), limit=8) == [1, 2]
    assert MODEL.largest_process_count(4, public()) == 2
    assert MODEL.largest_process_count(8, public(fp8_kv_cache=True)) == 1


def test_an_unrecognised_checkout_is_not_held_to_two_devices() -> None:
    request = public(4)
    loose = dataclasses.replace(request, variant=dataclasses.replace(request.variant, recognised=False))
    assert MODEL.check(loose) == []


# --- what is warned about -------------------------------------------------------------------------


def test_a_size_written_as_height_by_width_is_warned_about() -> None:
    assert any("416*720" in line for line in MODEL.check(ascend(size="720*416")))


@pytest.mark.parametrize("knobs", [{"use_lightvae": True}, {"vae_path": "vae.pth"}])
def test_half_a_light_vae_is_warned_about(knobs: dict[str, Any]) -> None:
    assert any("belong together" in line for line in MODEL.check(ascend(**knobs)))


def test_a_text_encoder_in_every_process_is_warned_about() -> None:
    in_all = {"disable_text_cache_prepare": True, "rank0_t5_only": False}
    assert any("each of the 4 processes loads the T5" in line for line in MODEL.check(ascend(4, **in_all)))
    assert MODEL.check(ascend(1, **in_all)) == []
    assert MODEL.check(ascend(4, disable_text_cache_prepare=True)) == []


def test_an_unadapted_checkout_on_ascend_is_warned_about() -> None:
    assert any("CUDA" in line for line in MODEL.check(request_for("liveact", backend=Backend.ASCEND)))


# --- the card -------------------------------------------------------------------------------------


def test_the_low_vram_preset_is_the_authors_for_small_cards() -> None:
    facts = facts_of("liveact")
    presets = {preset.name: preset.knobs for preset in MODEL.presets(facts, MODEL.recognise(facts))}
    assert presets["low-vram"] == {"size": "416*720", "t5_cpu": True, "block_offload": True, "fp8_kv_cache": True}


@pytest.mark.parametrize(
    ("request_", "mode"),
    [
        (public(), "bf16"),
        (
            public(t5_cpu=True, block_offload=True, fp8_kv_cache=True),
            "t5_cpu, block_offload and fp8_kv_cache, one device",
        ),
        (ascend(), "prompts encoded in a step of their own"),
        (ascend(disable_text_cache_prepare=True), "T5 in every process"),
    ],
)
def test_the_memory_rows_tell_the_ways_to_run_apart(request_: ScriptRequest, mode: str) -> None:
    row = MODEL.memory_row(request_.backend, request_.knobs)
    assert row is not None
    assert row.mode == mode


def test_the_key_value_cache_is_reckoned_as_the_script_allocates_it() -> None:
    row = MODEL.memory_row(Backend.CUDA, public().knobs)
    assert row is not None
    assert row.shared_bytes_per_pixel * 416 * 720 == 2 * 14 * (416 // 16) * (720 // 16) * 5120 * 2 * 40 * 3


def test_frames_are_kept_twice_on_the_host() -> None:
    assert MODEL.card.host.frame_copies == 2


def test_a_vae_of_ones_own_stands_for_the_checkpoints() -> None:
    usual = {row.file for row in MODEL.checkpoint_files(ascend().knobs)}
    own = {row.file for row in MODEL.checkpoint_files(ascend(vae_path="vae.pth").knobs)}
    assert usual - own == {"Wan2.1_VAE.pth"}


# --- the log --------------------------------------------------------------------------------------


def marks(log: str) -> dict[str, list[Any]]:
    scanner = LogScanner(MODEL.log_rules(MODEL.recognise(facts_of("liveact"))))
    block = (LOGS / log).read_bytes()
    found: dict[str, list[Any]] = {}
    for mark in [*scanner.feed(block, 1.0), *scanner.finish(2.0)]:
        found.setdefault(mark.kind.value, []).append(mark)
    return found


def test_a_recorded_run_on_two_ranks_is_understood() -> None:
    found = marks("liveact.ok.2p.log")
    assert [mark.index for mark in found["chunk"]] == list(range(7))
    assert [mark.value_ms for mark in found["chunk"]][:2] == [727.73, 533.07]
    assert (len(found["ready"]), len(found["finished"])) == (2, 2), "every rank tells"
    assert "note" not in found


def test_a_mux_that_failed_is_a_note_and_no_end() -> None:
    found = marks("liveact.stale_ffmpeg_fail.1p.log")
    assert "returned non-zero exit status 1" in found["note"][0].text
    assert "finished" not in found


def test_without_block_times_the_start_and_the_end_are_still_seen() -> None:
    found = marks("liveact.nodura.1p.log")
    assert "chunk" not in found
    assert {"ready", "finished"} <= set(found)


def test_a_forks_startup_line_ends_the_loading() -> None:
    scanner = LogScanner(MODEL.log_rules(MODEL.recognise(facts_of("liveact"))))
    lines = b"LIVEACT_STARTUP t5_s=0.117\nLIVEACT_READY\n"
    assert [mark.kind.value for mark in scanner.feed(lines, 1.0)] == ["ready"]


def test_the_printed_time_is_the_whole_blocks() -> None:
    assert MODEL.core_scope("stream") == "whole block"


# --- the request ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [{"[0, 4]": "She nods."}, ["[0, 4]=She nods."], '{"[0, 4]": "She nods."}'],
    ids=["mapping", "flag", "variable"],
)
def test_edits_can_be_written_in_files_flags_and_variables(written: Any) -> None:
    assert Config.model_validate({"edit_prompt": written}).edit_prompt == {"[0, 4]": "She nods."}


@pytest.mark.parametrize("written", ["[0, 4]", ["[0, 4]"], 5, {"[0, 4]": 5.5j}])
def test_edits_written_otherwise_are_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="edit_prompt"):
        Config.model_validate({"edit_prompt": written})


def test_every_knob_is_a_setting() -> None:
    assert set(MODEL.knobs()) <= set(Config.model_fields)
