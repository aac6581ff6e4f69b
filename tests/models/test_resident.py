"""What an adapter says where a worker keeps the model loaded: what is the worker's, and what each request says anew."""

from __future__ import annotations

import json
from typing import Any

import pytest
from soulx_cases import facts_of, model_of, request_for

from omnirt_cli.errors import UsageError
from omnirt_cli.models.base import Backend, Carrier, ScriptCall
from omnirt_cli.models.resident import SERVE_NAME, ResidentAdapter

VARIANTS = ("flashtalk_old", "flashtalk_new", "flashtalk_ascend", "flashtalk_quant", "flashhead", "flashhead_ascend")


def resident(checkout: str) -> ResidentAdapter:
    found = model_of(checkout).resident(facts_of(checkout))
    assert isinstance(found, ResidentAdapter)
    return found


def call(checkout: str, **knobs: Any) -> ScriptCall:
    model = resident(checkout)
    request = request_for(checkout, model, **knobs)
    model.check(request)
    return model.script_call(request)


def asked(checkout: str, **knobs: Any) -> Any:
    worker = call(checkout, **knobs).worker
    assert worker is not None
    return worker.request


def of_the_worker(made: ScriptCall) -> tuple[dict[str, str], dict[str, bytes]]:
    return dict(made.env), dict(made.files)


@pytest.mark.parametrize("checkout", VARIANTS)
def test_knobs_and_defaults_are_the_scripts(checkout: str) -> None:
    script, worker, facts = model_of(checkout), resident(checkout), facts_of(checkout)
    variant = script.recognise(facts)

    assert worker.knobs() == script.knobs()
    assert worker.presets(facts, variant) == script.presets(facts, variant)
    kept = worker.defaults(facts, variant, Backend.CUDA)
    assert {**kept, "sample_steps": 0} == {**script.defaults(facts, variant, Backend.CUDA), "sample_steps": 0}


@pytest.mark.parametrize(
    "knobs",
    [
        {"seed": 5},
        {"prompt": "smile"},
        {"max_chunks": 3},
        {"audio_encode_mode": "once"},
        {"sample_steps": 2},
        {"sample_shift": 3.0},
        {"color_correction_strength": 0.5},
    ],
    ids=lambda knobs: next(iter(knobs)),
)
@pytest.mark.parametrize("checkout", ["flashtalk_new", "flashtalk_ascend"])
def test_what_a_request_chooses_starts_no_other_worker(checkout: str, knobs: dict[str, Any]) -> None:
    assert of_the_worker(call(checkout, **knobs)) == of_the_worker(call(checkout))


@pytest.mark.parametrize("knobs", [{"size": "64*128"}, {"frame_num": 37}, {"motion_frames_num": 9}, {"fps": 30}])
@pytest.mark.parametrize("checkout", ["flashtalk_new", "flashtalk_ascend"])
def test_sizes_belong_to_the_worker(checkout: str, knobs: dict[str, Any]) -> None:
    assert of_the_worker(call(checkout, **knobs)) != of_the_worker(call(checkout))


def test_what_travels_with_a_request_is_always_said() -> None:
    """A worker that served another request before must not keep that one's values."""
    render = asked("flashtalk_ascend", sample_steps=4)["render"]

    assert render["params"] == {"sample_steps": 4, "sample_shift": 5, "color_correction_strength": 0.0}
    assert asked("flashtalk_ascend", audio_loudness_norm=False)["render"]["inference_constants"] == {
        "_AUDIO_LOUDNESS_NORM_ENABLED": False
    }


def test_a_switch_of_the_pipelines_module_travels_too() -> None:
    assert asked("flashtalk_quant", debug_timing=True)["render"]["constants"] == {"DEBUG_TIMING": True}


def test_an_adaptation_whose_reading_is_unknown_keeps_its_variables() -> None:
    made = call("flashhead_ascend", sample_steps=2)

    assert made.env["FLASHHEAD_SAMPLE_STEPS"] == "2"
    assert asked("flashhead_ascend", sample_steps=2)["render"]["params"].keys() == {
        "sample_shift",
        "color_correction_strength",
    }


def test_a_checkout_of_no_known_variant_keeps_every_way() -> None:
    model, facts = resident("flashtalk_new"), facts_of("flashtalk_new")
    unknown = type(model.recognise(facts))("unrecognised", recognised=False)

    assert model.carrier("sample_steps", facts, unknown) is Carrier.INFER_PARAMS
    assert model.carrier("sample_steps", facts, model.recognise(facts)) is Carrier.WORKER


def test_the_worker_is_told_what_to_load_and_nothing_of_a_request() -> None:
    made = call("flashtalk_quant", quantize="quanto-int4", seed=7)
    serve = json.loads(made.files[SERVE_NAME])

    assert made.args == (f"--serve={SERVE_NAME}",)
    assert serve["model"]["load"]["quantize"] == "quanto-int4"
    assert serve["model"]["params"] == serve["model"]["constants"] == {}
    assert "seed" not in json.dumps(serve)


def test_what_a_worker_is_known_by() -> None:
    quantized = call("flashtalk_quant", quantize="quanto-int4").worker
    parts = call("flashtalk_ascend", t5_quant="int8", wan_quant="fp8").worker
    lite = call("flashhead", model_type="lite").worker

    assert quantized is not None
    assert parts is not None
    assert lite is not None
    assert quantized.quantization == "quanto-int4"
    assert parts.quantization == "t5-int8+wan-fp8"
    assert (lite.model_type, lite.quantization, lite.package) == ("lite", None, "flash_head")


def test_a_model_without_functions_is_refused_by_its_name() -> None:
    with pytest.raises(UsageError, match="SoulX-LiveAct cannot be kept loaded") as caught:
        model_of("liveact").resident(facts_of("liveact"))
    assert "--resident" in (caught.value.hint or "")
