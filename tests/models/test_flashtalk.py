"""FlashTalk: which checkout is which, how each knob travels there, and what is refused before a launch."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from soulx_cases import call_for, facts_of, model_of, request_for

from omnirt_cli.checkout import AudioMux
from omnirt_cli.errors import InputInvalidError, UsageError
from omnirt_cli.models.base import AudioForm, Backend, Carrier, MarkKind
from omnirt_cli.models.frames import Loop

MODEL = model_of("flashtalk")
VARIANTS = {
    "flashtalk_old": "public-old",
    "flashtalk_new": "public-new",
    "flashtalk_ascend": "ascend",
    "flashtalk_quant": "quantizing",
}
YAML = "flash_talk/configs/infer_params.yaml"


@pytest.mark.parametrize(("checkout", "variant"), VARIANTS.items())
def test_variants_are_told_by_what_their_files_support(checkout: str, variant: str) -> None:
    found = MODEL.recognise(facts_of(checkout))
    assert (found.name, found.recognised) == (variant, True)


@pytest.mark.parametrize(
    ("checkout", "loop", "form"),
    [
        ("flashtalk_old", Loop.DROPPING, AudioForm.M4A),
        ("flashtalk_new", Loop.PADDING, AudioForm.WAV),
        ("flashtalk_ascend", Loop.PADDING, AudioForm.WAV),
        ("flashtalk_quant", Loop.DROPPING, AudioForm.WAV),
    ],
)
def test_audio_is_prepared_for_the_variants_loop_and_mux(checkout: str, loop: Loop, form: AudioForm) -> None:
    request = request_for(checkout)
    geometry = MODEL.geometry(request.checkout, request.knobs)
    plan = MODEL.audio_plan(request.variant, geometry, mode="once", samples=160_000, duration_s=10.0, max_chunks=None)
    assert plan.form is form
    assert plan.lead_samples == (3200 if loop is Loop.DROPPING else 0)
    assert (plan.frames, plan.speech_samples, plan.cut) == (250, 160_000, False)


def test_capped_chunks_end_the_speech_early() -> None:
    request = request_for("flashtalk_new")
    geometry = MODEL.geometry(request.checkout, request.knobs)
    plan = MODEL.audio_plan(request.variant, geometry, mode="stream", samples=160_000, duration_s=10.0, max_chunks=2)
    assert (plan.chunks, plan.frames, plan.cut) == (2, 56, True)
    assert plan.speech_samples == 2 * geometry.slice_samples


@pytest.mark.parametrize("knobs", [{"frame_num": 5, "motion_frames_num": 5}, {"fps": 500_000}])
def test_audio_is_not_planned_for_chunks_without_new_frames(knobs: dict[str, int]) -> None:
    request = request_for("flashtalk_new", **knobs)
    geometry = MODEL.geometry(request.checkout, request.knobs)
    with pytest.raises(UsageError, match="leaves no new frame"):
        MODEL.audio_plan(request.variant, geometry, mode="stream", samples=9, duration_s=1.0, max_chunks=None)


def test_audio_without_samples_is_refused() -> None:
    request = request_for("flashtalk_new")
    geometry = MODEL.geometry(request.checkout, request.knobs)
    with pytest.raises(InputInvalidError, match="no samples"):
        MODEL.audio_plan(request.variant, geometry, mode="stream", samples=0, duration_s=0.0, max_chunks=None)


def test_mixed_script_and_pipeline_are_not_recognised_and_warned_about() -> None:
    facts = facts_of("flashtalk_new")
    mixed = dataclasses.replace(facts, source=dataclasses.replace(facts.source, pipeline_trims_motion=True))
    request = request_for(mixed, MODEL)
    assert not request.variant.recognised
    assert any("cut twice" in warning for warning in MODEL.check(request))


@pytest.mark.parametrize(
    ("knob", "old", "ascend"),
    [
        ("seed", Carrier.FLAG, Carrier.FLAG),
        ("audio_encode_mode", Carrier.FLAG, Carrier.FLAG),
        ("cpu_offload", Carrier.FLAG, Carrier.FLAG),
        ("max_chunks", Carrier.OMNIRT, Carrier.OMNIRT),
        ("sample_steps", Carrier.INFER_PARAMS, Carrier.ENVIRONMENT),
        ("size", Carrier.INFER_PARAMS, Carrier.ENVIRONMENT),
        ("fps", Carrier.INFER_PARAMS, Carrier.ENVIRONMENT),
        ("frame_num", Carrier.INFER_PARAMS, Carrier.ENVIRONMENT),
        ("motion_frames_num", Carrier.INFER_PARAMS, Carrier.ENVIRONMENT),
        ("color_correction_strength", Carrier.INFER_PARAMS, Carrier.ENVIRONMENT),
        ("sample_shift", Carrier.INFER_PARAMS, Carrier.INFER_PARAMS),
        ("audio_loudness_norm", Carrier.FIXED, Carrier.ENVIRONMENT),
        ("debug_timing", Carrier.FIXED, Carrier.FIXED),
        ("t5_quant", None, Carrier.ENVIRONMENT),
        ("wan_quant_include", None, Carrier.ENVIRONMENT),
        ("quantize", None, None),
    ],
)
def test_a_knob_travels_by_what_the_checkout_has(knob: str, old: Carrier | None, ascend: Carrier | None) -> None:
    for checkout, carrier in (("flashtalk_old", old), ("flashtalk_ascend", ascend)):
        facts = facts_of(checkout)
        assert MODEL.carrier(knob, facts, MODEL.recognise(facts)) is carrier


def test_the_realtime_profile_of_the_ascend_patch() -> None:
    call = call_for("flashtalk_ascend", backend=Backend.ASCEND, processes=8, seed=7)
    assert call.args == (
        "--ckpt_dir=/models/ckpt",
        "--wav2vec_dir=/models/wav2vec",
        "--cond_image=image.png",
        "--audio_path=audio.wav",
        "--audio_encode_mode=stream",
        "--save_file=res_result.mp4",
        "--base_seed=7",
    )
    assert call.env == {
        "FLASHTALK_HEIGHT": "704",
        "FLASHTALK_WIDTH": "416",
        "FLASHTALK_FRAME_NUM": "29",
        "FLASHTALK_MOTION_FRAMES_NUM": "1",
        "FLASHTALK_TGT_FPS": "25",
        "FLASHTALK_SAMPLE_STEPS": "2",
        "FLASHTALK_COLOR_CORRECTION_STRENGTH": "0",
        "FLASHTALK_AUDIO_LOUDNESS_NORM": "1",
        "GPU_NUM": "8",
    }
    assert (call.result_name, call.silent_name) == ("res_result.mp4", "result.mp4")


def test_a_public_checkout_gets_its_knobs_by_the_private_yaml() -> None:
    call = call_for("flashtalk_new", size="416*704", sample_steps=2, fps=24, sample_shift=3)
    params = yaml.safe_load(call.files[YAML])
    assert (params["width"], params["height"], params["sample_steps"]) == (416, 704, 2)
    assert (params["tgt_fps"], params["sample_shift"]) == (24, 3)
    assert params["cached_audio_duration"] == 8
    assert set(call.env) == {"GPU_NUM"}


def test_variables_and_yaml_of_an_adapted_checkout_agree() -> None:
    call = call_for("flashtalk_ascend", size="448*768", frame_num=33)
    params = yaml.safe_load(call.files[YAML])
    assert (call.env["FLASHTALK_WIDTH"], params["width"]) == ("448", 448)
    assert (call.env["FLASHTALK_FRAME_NUM"], params["frame_num"]) == ("33", 33)


def test_keys_that_omnirt_does_not_know_stay_in_the_yaml() -> None:
    facts = facts_of("flashtalk_new")
    grown = dataclasses.replace(facts, infer_params={**facts.infer_params, "audio_motion_scale": 1.5})
    assert yaml.safe_load(call_for(grown, model=MODEL).files[YAML])["audio_motion_scale"] == 1.5


def test_switches_stand_alone_and_values_are_glued_to_their_flags() -> None:
    call = call_for("flashtalk_quant", cpu_offload=True, quantize="quanto-int8", prompt="-- says hello --")
    assert "--cpu_offload" in call.args
    assert "--quantize=quanto-int8" in call.args
    assert "--input_prompt=-- says hello --" in call.args
    assert all(argument.startswith("--") for argument in call.args)


def test_an_unreadable_parser_gets_the_mandatory_flags() -> None:
    facts = dataclasses.replace(facts_of("flashtalk_new"), flags=None, flag_details={})
    request = request_for(facts, MODEL)
    assert not request.variant.recognised
    assert MODEL.check(request) == []
    flags = {argument.split("=")[0] for argument in MODEL.script_call(request).args}
    assert flags >= MODEL.mandatory_flags
    assert "--cpu_offload" not in flags


@pytest.mark.parametrize(
    ("checkout", "knob", "value"),
    [
        ("flashtalk_new", "quantize", "quanto-int4"),
        ("flashtalk_new", "t5_quant", "int8"),
        ("flashtalk_old", "wan_quant_exclude", "blocks.*"),
        ("flashtalk_ascend", "quantize", "quanto-int4"),
    ],
)
def test_a_knob_without_a_carrier_is_refused_by_name(checkout: str, knob: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        MODEL.check(request_for(checkout, **{knob: value}))
    assert f"has no --{knob.replace('_', '-')}" in caught.value.message
    assert str(facts_of(checkout).path) in caught.value.message
    assert "--sample-steps" in (caught.value.hint or "")


def test_what_is_built_in_may_be_asked_for_but_not_changed() -> None:
    MODEL.check(request_for("flashtalk_new", audio_loudness_norm=True))
    with pytest.raises(UsageError, match="--audio-loudness-norm built in as True"):
        MODEL.check(request_for("flashtalk_new", audio_loudness_norm=False))
    with pytest.raises(UsageError, match="--debug-timing built in as False"):
        MODEL.check(request_for("flashtalk_quant", debug_timing=True))


def test_an_unrecognised_checkout_gets_its_variables_with_a_warning() -> None:
    facts = facts_of("flashtalk_new")
    odd = dataclasses.replace(facts, source=dataclasses.replace(facts.source, mux=AudioMux.COPY, pads_audio=False))
    request = request_for(odd, MODEL, t5_quant="int8")
    assert not request.variant.recognised
    assert any("FLASHTALK_T5_QUANT" in warning for warning in MODEL.check(request))
    assert MODEL.script_call(request).env["FLASHTALK_T5_QUANT"] == "int8"


def test_an_unrecognised_checkout_warns_of_nothing_that_nobody_asked_for() -> None:
    facts = facts_of("flashtalk_new")
    odd = dataclasses.replace(facts, source=dataclasses.replace(facts.source, pads_audio=False))
    assert MODEL.check(request_for(odd, MODEL)) == []


def test_a_script_of_something_else_is_refused() -> None:
    facts = dataclasses.replace(facts_of("flashtalk_new"), flags=frozenset({"--input", "--save_file"}))
    with pytest.raises(UsageError, match="--audio_path, --ckpt_dir, --cond_image, --wav2vec_dir"):
        MODEL.check(request_for(facts, MODEL))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"size": "420*704"}, "multiples of 16"),
        ({"size": "416x"}, "is not a size"),
        ({"size": "0*704"}, "is not a size"),
        ({"frame_num": 30}, "a multiple of 4, plus 1"),
        ({"motion_frames_num": 2}, "a multiple of 4, plus 1"),
        ({"frame_num": 5, "motion_frames_num": 5}, "leaves no new frame"),
        ({"frame_num": 201}, "200 frames of audio"),
        ({"sample_steps": 0}, "too small"),
        ({"seed": -1}, "too small"),
        ({"frame_num": 0}, "too small"),
        ({"motion_frames_num": 0}, "too small"),
        ({"color_correction_strength": -0.5}, "too small"),
        ({"sample_shift": 0.0}, "too small"),
        ({"max_chunks": 0}, "too small"),
        ({"audio_encode_mode": "twice"}, "does not exist"),
        ({"t5_quant": "int4"}, "does not exist"),
    ],
)
def test_numbers_that_cannot_work_are_refused(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        MODEL.check(request_for("flashtalk_ascend", **knobs))
    assert caught.value.hint


@pytest.mark.parametrize("value", ["many", None, 0, 2.5, True])
def test_a_spoilt_yaml_of_the_checkout_is_named(value: object) -> None:
    facts = facts_of("flashtalk_new")
    spoilt = dataclasses.replace(facts, infer_params={**facts.infer_params, "frame_num": value})
    with pytest.raises(InputInvalidError, match=r"frame_num is .* infer_params\.yaml"):
        MODEL.geometry(spoilt, {})


def test_an_unknown_quantizing_names_the_forks_own_choices() -> None:
    with pytest.raises(UsageError) as caught:
        MODEL.check(request_for("flashtalk_quant", quantize="int4"))
    assert "quanto-int4" in (caught.value.hint or "")


def test_height_times_width_as_in_documents_is_warned_about() -> None:
    warnings = MODEL.check(request_for("flashtalk_ascend", size="704*416"))
    assert any("416*704" in warning for warning in warnings)
    assert MODEL.check(request_for("flashtalk_ascend", size="416*704")) == []


def test_steps_without_tuned_times_are_warned_about() -> None:
    assert any("2 and 4" in warning for warning in MODEL.check(request_for("flashtalk_new", sample_steps=3)))


def test_a_public_checkout_on_ascend_is_warned_about() -> None:
    warnings = MODEL.check(request_for("flashtalk_new", backend=Backend.ASCEND))
    assert any("CUDA" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("checkout", "backend", "knobs", "counts"),
    [
        ("flashtalk_new", Backend.CUDA, {}, [1, 2, 3, 4, 6, 7, 8]),
        ("flashtalk_new", Backend.ASCEND, {}, [1, 2, 4, 8]),
        ("flashtalk_ascend", Backend.CUDA, {}, [1, 2, 4, 8]),
        ("flashtalk_new", Backend.CUDA, {"cpu_offload": True}, [1]),
    ],
)
def test_process_counts_that_work(checkout: str, backend: Backend, knobs: dict[str, object], counts: list[int]) -> None:
    request = request_for(checkout, backend=backend, **knobs)
    assert MODEL.process_counts(request, limit=8) == counts
    assert MODEL.largest_process_count(5, request) == max(count for count in counts if count <= 5)


def test_a_wrong_process_count_is_refused_with_those_that_work() -> None:
    with pytest.raises(UsageError, match="cannot run on 5 processes: the 12096 tokens") as caught:
        MODEL.check(request_for("flashtalk_new", processes=5))
    assert "1, 2, 3, 4, 6, 7, 8" in (caught.value.hint or "")


def test_offloading_with_several_processes_is_refused() -> None:
    with pytest.raises(UsageError, match="--cpu-offload has an effect with one process only"):
        MODEL.check(request_for("flashtalk_new", processes=2, cpu_offload=True))


def test_the_fast_preset_is_the_published_realtime_profile() -> None:
    facts = facts_of("flashtalk_ascend")
    fast = {preset.name: preset.knobs for preset in MODEL.presets(facts, MODEL.recognise(facts))}["fast"]
    assert fast == {
        "audio_encode_mode": "stream",
        "size": "416*704",
        "frame_num": 29,
        "motion_frames_num": 1,
        "sample_steps": 2,
        "color_correction_strength": 0.0,
    }


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            b"x | WARNING | a:b:1 - quanto INT4 quantization failed: No module. Running without quantization.",
            "fell_back",
        ),
        (b"\rLoading: 0%| | 0/4 [00:00<?]2026-11-20 | INFO     | a:b:1 - Creating WanModel from models/x", "loading"),
        (b"| INFO | WanModel quantization requested but no supported modules matched a", "fell_back"),
        (b"| INFO     | __main__:generate:196 - Finished.", "finished"),
    ],
)
def test_lines_that_tell_something(line: bytes, kind: str) -> None:
    rules = MODEL.log_rules(MODEL.recognise(facts_of("flashtalk_quant")))
    assert [rule.kind.value for rule in rules if rule.needle in line and rule.pattern.search(line)] == [kind]


def test_the_printed_time_leaves_the_audio_encoding_out() -> None:
    assert {MODEL.core_scope(mode) for mode in ("stream", "once")} == {"core"}


def test_memory_follows_the_knobs() -> None:
    plain, offloaded = (request_for("flashtalk_new", cpu_offload=value).knobs for value in (False, True))
    whole = MODEL.memory_row(Backend.CUDA, plain)
    less = MODEL.memory_row(Backend.CUDA, offloaded)
    assert whole
    assert less
    assert (whole.per_device_gib or 0) > (less.per_device_gib or 0)
    assert MODEL.memory_row(Backend.CPU, plain) is None


def test_every_kind_of_line_has_a_rule() -> None:
    kinds = {rule.kind for rule in MODEL.log_rules(MODEL.recognise(facts_of("flashtalk_new")))}
    # Libraries' remarks, and what the driver prints, are not the script's own lines.
    others = {MarkKind.CLUE, MarkKind.AUDIO_EMBEDDING, MarkKind.COPY, MarkKind.ENCODE_WAIT}
    assert kinds == set(MarkKind) - others
