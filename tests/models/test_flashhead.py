"""FlashHead: which checkout is which, how each knob travels there, and what is refused before a launch."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from soulx_cases import call_for, facts_of, model_of, request_for

from omnirt_cli.errors import UsageError
from omnirt_cli.models.base import AudioForm, Backend, Carrier
from omnirt_cli.models.frames import Loop
from omnirt_cli.models.soulx_script import ScriptVariant

MODEL = model_of("flashhead")
YAML = "flash_head/configs/infer_params.yaml"
NPU_KNOBS = ("vae_2d_split", "latent_carry", "npu_fusion_attention", "device", "profile")


def old_checkout():
    facts = facts_of("flashhead")
    source = dataclasses.replace(facts.source, pads_audio=False, script_trims_motion=False, pipeline_trims_motion=True)
    return dataclasses.replace(facts, source=source)


@pytest.mark.parametrize(("checkout", "variant"), [("flashhead", "public"), ("flashhead_ascend", "ascend")])
def test_variants_are_told_by_what_their_files_support(checkout: str, variant: str) -> None:
    found = MODEL.recognise(facts_of(checkout))
    assert found == ScriptVariant(variant, loop=Loop.PADDING, audio_form=AudioForm.WAV)


def test_the_public_checkout_before_march_2026_drops_the_tail() -> None:
    assert MODEL.recognise(old_checkout()) == ScriptVariant("public-old", loop=Loop.DROPPING, audio_form=AudioForm.WAV)


def test_the_published_910b_command_launches_exactly_as_described() -> None:
    call = call_for(
        "flashhead_ascend",
        backend=Backend.ASCEND,
        processes=2,
        sample_steps=2,
        vae_2d_split=True,
        npu_fusion_attention=True,
    )
    assert call.args == (
        "--ckpt_dir=/models/ckpt",
        "--wav2vec_dir=/models/wav2vec",
        "--model_type=pro",
        "--cond_image=image.png",
        "--audio_path=audio.wav",
        "--audio_encode_mode=stream",
        "--save_file=result.mp4",
        "--base_seed=42",
    )
    assert call.env == {
        "FLASHHEAD_SAMPLE_STEPS": "2",
        "FLASHHEAD_VAE_2D_SPLIT": "1",
        "FLASHHEAD_LATENT_CARRY": "0",
        "FLASHHEAD_NPU_FUSION_ATTENTION": "1",
        "FLASHHEAD_DEVICE": "npu",
        "FLASHHEAD_PROFILE": "0",
    }
    assert (call.result_name, call.silent_name) == ("result.mp4", "result_tmp.mp4")


def test_the_quality_preset_is_the_published_910b_profile() -> None:
    facts = facts_of("flashhead_ascend")
    presets = {preset.name: preset.knobs for preset in MODEL.presets(facts, MODEL.recognise(facts))}
    wanted = {
        "model_type": "pro",
        "audio_encode_mode": "stream",
        "sample_steps": 2,
        "vae_2d_split": True,
        "latent_carry": False,
        "npu_fusion_attention": True,
    }
    assert presets["quality"].items() >= wanted.items()
    assert presets["fast"]["latent_carry"] is True


@pytest.mark.parametrize("backend", list(Backend))
def test_the_device_follows_from_the_backend(backend: Backend) -> None:
    names = {Backend.ASCEND: "npu", Backend.CUDA: "cuda", Backend.CPU: "cpu"}
    assert call_for("flashhead_ascend", backend=backend).env["FLASHHEAD_DEVICE"] == names[backend]


def test_a_public_checkout_gets_no_variables() -> None:
    assert call_for("flashhead").env == {}


@pytest.mark.parametrize("knob", NPU_KNOBS)
def test_knobs_of_the_adaptation_are_refused_on_a_public_checkout(knob: str) -> None:
    value = "npu" if knob == "device" else True
    with pytest.raises(UsageError) as caught:
        MODEL.check(request_for("flashhead", **{knob: value}))
    assert f"has no --{knob.replace('_', '-')}" in caught.value.message
    assert f"FLASHHEAD_{knob.upper()}" in caught.value.message


def test_steps_are_built_in_on_a_public_checkout() -> None:
    facts = facts_of("flashhead")
    variant = MODEL.recognise(facts)
    assert MODEL.carrier("sample_steps", facts, variant) is Carrier.FIXED
    assert MODEL.defaults(facts, variant, Backend.CUDA)["sample_steps"] == 4
    MODEL.check(request_for("flashhead", sample_steps=4))
    with pytest.raises(UsageError, match="--sample-steps built in as 4; it cannot be set to 2"):
        MODEL.check(request_for("flashhead", sample_steps=2))


def test_an_adapted_checkout_defaults_to_two_steps() -> None:
    facts = facts_of("flashhead_ascend")
    defaults = MODEL.defaults(facts, MODEL.recognise(facts), Backend.ASCEND)
    assert (defaults["sample_steps"], defaults["vae_2d_split"], defaults["latent_carry"]) == (2, True, False)


@pytest.mark.parametrize(("kind", "motion", "latents"), [("pro", 5, 2), ("lite", 9, 2), ("pro", 9, 3), ("lite", 1, 1)])
def test_motion_frames_are_counted_in_latents(kind: str, motion: int, latents: int) -> None:
    call = call_for("flashhead", model_type=kind, motion_frames_num=motion)
    assert yaml.safe_load(call.files[YAML])["motion_frames_latent_num"] == latents


@pytest.mark.parametrize(("kind", "motion"), [("pro", 5), ("lite", 9)])
def test_the_motion_frames_follow_from_the_model_type(kind: str, motion: int) -> None:
    request = request_for("flashhead", model_type=kind)
    assert MODEL.geometry(request.checkout, request.knobs).motion_frames_num == motion
    params = yaml.safe_load(MODEL.script_call(request).files[YAML])
    assert params["motion_frames_latent_num"] == 2


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"motion_frames_num": 7}, "multiple of 4"),
        ({"model_type": "lite", "motion_frames_num": 5}, "multiple of 8"),
        ({"model_type": "lite", "frame_num": 29}, "multiple of 8"),
        ({"model_type": "lite", "size": "528*512"}, "multiples of 32"),
        ({"size": "500*512"}, "multiples of 16"),
        ({"model_type": "huge"}, "does not exist"),
    ],
)
def test_numbers_that_cannot_work_are_refused(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MODEL.check(request_for("flashhead", **knobs))


def test_a_prompt_is_refused() -> None:
    with pytest.raises(UsageError, match="takes no prompt"):
        MODEL.check(request_for("flashhead", prompt="smile"))


@pytest.mark.parametrize(("face_crop", "sent"), [(True, True), (False, False)])
def test_face_crop_off_is_left_out_because_any_text_turns_it_on(*, face_crop: bool, sent: bool) -> None:
    assert ("--use_face_crop=True" in call_for("flashhead", face_crop=face_crop).args) is sent
    assert "--use_face_crop=False" not in call_for("flashhead", face_crop=face_crop).args


def test_process_counts_that_work() -> None:
    pro, lite = (request_for("flashhead", model_type=kind) for kind in ("pro", "lite"))
    assert MODEL.process_counts(pro, limit=8) == [1, 2, 4, 8]
    assert MODEL.process_counts(lite, limit=8) == [1]
    assert MODEL.largest_process_count(3, pro) == 2


@pytest.mark.parametrize("processes", [3, 6])
def test_a_wrong_process_count_is_refused(processes: int) -> None:
    with pytest.raises(UsageError, match=f"cannot run on {processes} processes") as caught:
        MODEL.check(request_for("flashhead", processes=processes))
    assert "1, 2, 4, 8" in (caught.value.hint or "")


def test_lite_on_several_devices_is_refused() -> None:
    with pytest.raises(UsageError, match="lite model runs as one process"):
        MODEL.check(request_for("flashhead", processes=2, model_type="lite"))


def test_an_unadapted_checkout_on_ascend_is_warned_about() -> None:
    assert any("CUDA" in line for line in MODEL.check(request_for("flashhead", backend=Backend.ASCEND)))
    assert MODEL.check(request_for("flashhead_ascend", backend=Backend.ASCEND)) == []


def test_the_printed_time_covers_the_audio_only_when_it_streams() -> None:
    assert MODEL.core_scope("stream") == "audio_encoding+core"
    assert MODEL.core_scope("once") == "core"


def test_a_face_that_was_not_found_is_noted_for_the_script_goes_on_with_the_whole_picture() -> None:
    line = b"| ERROR    | flash_head.src.pipeline.flash_head_pipeline:get_image:31 - Error processing a.png: no face"
    rules = MODEL.log_rules(MODEL.recognise(facts_of("flashhead")))
    assert [rule.kind.value for rule in rules if rule.needle in line and rule.pattern.search(line)] == ["note"]
