"""What an adapter says where the driver runs the chunks: the script's own settings, in a request instead of flags."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from soulx_cases import facts_of, model_of, request_for

from omnirt_cli.errors import UsageError
from omnirt_cli.models.base import AudioForm, Backend, Carrier, Geometry, MarkKind
from omnirt_cli.models.driven import HELD_CHUNKS, DrivenAdapter

VARIANTS = ("flashtalk_old", "flashtalk_new", "flashtalk_ascend", "flashtalk_quant", "flashhead", "flashhead_ascend")


def driven(checkout: str) -> DrivenAdapter:
    found = model_of(checkout).driven(facts_of(checkout))
    assert isinstance(found, DrivenAdapter)
    return found


def document(checkout: str, *, prompt: str | None = None, **knobs: Any) -> Any:
    model = driven(checkout)
    request = request_for(checkout, model, prompt=prompt, **knobs)
    model.check(request)
    return json.loads(model.script_call(request).files["driver.json"])


@pytest.mark.parametrize("checkout", VARIANTS)
def test_knobs_and_defaults_are_the_scripts(checkout: str) -> None:
    script, driver, facts = model_of(checkout), driven(checkout), facts_of(checkout)
    variant = script.recognise(facts)

    assert driver.recognise(facts) == variant
    assert driver.knobs() == script.knobs()
    assert driver.defaults(facts, variant, Backend.CUDA) == script.defaults(facts, variant, Backend.CUDA)
    assert driver.presets(facts, variant) == script.presets(facts, variant)


@pytest.mark.parametrize("checkout", VARIANTS)
def test_environment_and_private_yaml_are_the_scripts(checkout: str) -> None:
    script, driver = model_of(checkout), driven(checkout)
    knobs = {"size": "64*128", "frame_num": 29}
    by_script = script.script_call(request_for(checkout, **knobs))
    by_driver = driver.script_call(request_for(checkout, driver, **knobs))

    assert dict(by_driver.env) == dict(by_script.env)
    for name, content in by_script.files.items():
        assert by_driver.files[name] == content
    assert set(by_driver.files) - set(by_script.files) == {"driver.json"}
    assert by_driver.script.is_file()
    assert by_driver.args == ("--request=driver.json",)


def test_a_request_names_the_functions_arguments() -> None:
    asked = document("flashtalk_quant", prompt="smile", seed=5, quantize="quanto-int4", size="64*128")

    assert asked["model"]["package"] == "flash_talk"
    assert asked["model"]["load"] == {
        "ckpt_dir": "/models/ckpt",
        "wav2vec_dir": "/models/wav2vec",
        "cpu_offload": False,
        "quantize": "quanto-int4",
    }
    assert asked["render"]["base"] == {"image": "image.png", "seed": 5, "prompt": "smile"}
    assert (asked["picture"]["width"], asked["picture"]["height"]) == (64, 128)


@pytest.mark.parametrize(("checkout", "pads"), [("flashtalk_old", False), ("flashtalk_new", True), ("flashhead", True)])
def test_whether_the_sound_is_filled_up_follows_the_script(checkout: str, pads: bool) -> None:
    assert document(checkout)["render"]["pads"] is pads


def test_without_a_prompt_the_scripts_own_is_passed() -> None:
    assert document("flashtalk_new")["render"]["base"]["prompt"] == "A person is talking."


def test_where_nothing_tells_the_scripts_prompt_one_must_be_given() -> None:
    model, facts = driven("flashtalk_new"), replace(facts_of("flashtalk_new"), flags=None, flag_details={})
    request = request_for(facts, model)

    with pytest.raises(UsageError, match="default prompt") as caught:
        model.script_call(request)
    assert caught.value.hint == "Give --prompt."


@pytest.mark.parametrize(("value", "params"), [(2, {"sample_steps": 2}), (4, {}), (None, {})])
def test_steps_of_public_flashhead_are_set_only_where_they_differ(value: int | None, params: dict[str, int]) -> None:
    knobs = {} if value is None else {"sample_steps": value}

    assert document("flashhead", **knobs)["model"]["params"] == params


def test_an_adapted_flashhead_takes_its_steps_by_its_variable() -> None:
    model = driven("flashhead_ascend")
    request = request_for("flashhead_ascend", model, sample_steps=3)

    assert model.script_call(request).env["FLASHHEAD_SAMPLE_STEPS"] == "3"
    assert document("flashhead_ascend", sample_steps=3)["model"]["params"] == {}


def test_a_switched_off_constant_is_switched_on_and_one_that_is_not_there_is_not() -> None:
    assert document("flashtalk_quant", debug_timing=True)["model"]["constants"] == {"DEBUG_TIMING": True}
    facts = facts_of("flashtalk_new")
    model = driven("flashtalk_new")
    assert model.carrier("debug_timing", facts, model.recognise(facts)) is Carrier.FIXED


def test_the_script_itself_still_refuses_what_only_the_driver_can_set() -> None:
    for checkout, knob, value in (("flashhead", "sample_steps", 2), ("flashtalk_quant", "debug_timing", True)):
        with pytest.raises(UsageError, match="built in"):
            model_of(checkout).check(request_for(checkout, **{knob: value}))


def test_flags_travel_in_the_request() -> None:
    facts = facts_of("flashhead")
    model = driven("flashhead")
    variant = model.recognise(facts)

    assert model.carrier("seed", facts, variant) is Carrier.WORKER
    assert model.carrier("size", facts, variant) is Carrier.INFER_PARAMS
    assert model.carrier("max_chunks", facts, variant) is Carrier.OMNIRT


@pytest.mark.parametrize("checkout", ["flashtalk_old", "flashtalk_new"])
@pytest.mark.parametrize("mode", ["stream", "once"])
def test_the_sound_is_a_wav_of_the_lengths_that_the_script_gets(checkout: str, mode: str) -> None:
    script, driver, facts = model_of(checkout), driven(checkout), facts_of(checkout)
    variant = script.recognise(facts)
    said = {"mode": mode, "samples": 100_000, "duration_s": 6.25, "max_chunks": None}

    plan = driver.audio_plan(variant, Geometry(64, 64, 33, 5, 25), **said)

    assert plan.form is AudioForm.WAV
    assert replace(plan, form=AudioForm.M4A) == replace(
        script.audio_plan(variant, Geometry(64, 64, 33, 5, 25), **said), form=AudioForm.M4A
    )


def test_what_is_held_does_not_grow_with_the_video() -> None:
    geometry = Geometry(64, 64, 33, 5, 25)

    held = [driven("flashtalk_new").held_frames(frames, geometry) for frames in (28, 2800, 280_000)]

    assert held == [28, HELD_CHUNKS * 33, HELD_CHUNKS * 33]
    assert model_of("flashtalk_new").held_frames(2800, geometry) == 2800


def test_its_log_has_the_scripts_lines_and_its_own_times() -> None:
    model = driven("flashhead")
    facts = facts_of("flashhead")
    kinds = {rule.kind for rule in model.log_rules(model.recognise(facts))}

    assert {MarkKind.CHUNK, MarkKind.READY, MarkKind.AUDIO_EMBEDDING, MarkKind.COPY, MarkKind.ENCODE_WAIT} <= kinds
    assert model.core_scope("stream") == "core"


def test_liveact_has_no_functions_to_call() -> None:
    with pytest.raises(UsageError, match="SoulX-LiveAct cannot be driven") as caught:
        model_of("liveact").driven(facts_of("liveact"))
    assert "--executor driver" in (caught.value.hint or "")


def test_a_checkout_without_them_is_refused_by_what_is_missing() -> None:
    facts = replace(facts_of("flashhead"), functions={"flash_head": frozenset({"get_pipeline", "run_pipeline"})})

    with pytest.raises(UsageError, match=r"flash_head/inference\.py defines no get_audio_embedding, get_base_data"):
        model_of("flashhead").driven(facts)
