"""What the flags of a benchmark decide, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from omnirt_cli.bench.order import Options, Order, decide, duration_s
from omnirt_cli.bench.scenarios import SAMPLE_SPEECH, scenarios, with_scenario
from omnirt_cli.errors import UsageError
from omnirt_cli.models import registry
from omnirt_cli.request import Audio2VideoRequest, Config
from omnirt_cli.settings import Layer, Setting

TALK = "soulx-flashtalk-14b"


def order(config: dict[str, Any] | None = None, **said: Any) -> Order:
    request = Audio2VideoRequest(model=TALK, config=Config(**(config or {})))
    heats = frozenset(said.pop("heats", ()))
    return decide(Options(heats=heats, **said), request, None, cwd=Path("/here"))


# --- scenarios ------------------------------------------------------------------------------------


def test_every_scenario_sets_knobs_that_its_model_has() -> None:
    for scenario in scenarios().values():
        adapter = registry.adapter(scenario.model)
        assert set(scenario.config) <= set(adapter.knobs())
        Config.model_validate(scenario.config)


def test_the_realtime_scenario_is_the_published_profile() -> None:
    request, layer = with_scenario("flashtalk-realtime", Audio2VideoRequest(), None)

    assert request.model == TALK
    assert layer is not None
    values = {key: setting.value for key, setting in layer.values.items()}
    assert values == {
        "size": "416*704",
        "frame_num": 29,
        "motion_frames_num": 1,
        "sample_steps": 2,
        "color_correction_strength": 0.0,
        "audio_encode_mode": "stream",
    }


def test_a_request_file_wins_over_the_scenario() -> None:
    file = Layer("request file", {"sample_steps": Setting(4, "request file r.yaml:3")})

    _, layer = with_scenario("flashtalk-realtime", Audio2VideoRequest(), file)

    assert layer is not None
    assert layer.values["sample_steps"] == Setting(4, "request file r.yaml:3")
    assert layer.values["frame_num"].source == "scenario flashtalk-realtime"


def test_inputs_that_nobody_named_are_the_shipped_samples() -> None:
    request, _ = with_scenario(None, Audio2VideoRequest(), None)

    assert request.inputs.audio == str(SAMPLE_SPEECH)
    assert SAMPLE_SPEECH.is_file()


def test_an_unknown_scenario_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        with_scenario("flashtalk-realtme", Audio2VideoRequest(), None)

    assert caught.value.hint == "did you mean flashtalk-realtime?"


def test_a_scenario_of_another_model_is_refused() -> None:
    with pytest.raises(UsageError, match="is for soulx-flashhead"):
        with_scenario("flashhead-quality", Audio2VideoRequest(model=TALK), None)


# --- rows -----------------------------------------------------------------------------------------


def test_by_default_one_cold_and_three_hot_requests_are_measured() -> None:
    found = order()

    assert found.heats == ("cold", "hot")
    assert dict(found.requests) == {"cold": 1, "hot": 3}
    assert found.warmup_chunks == 1
    assert not found.chosen_heats


def test_a_sweep_has_a_row_for_each_combination() -> None:
    found = order({"visible_devices": "2,3,4,5"}, max_chunks="1,full", nproc_per_node="2,4")

    assert [case.name for case in found.cases] == [
        "nproc_per_node=2, max_chunks=1",
        "nproc_per_node=2, max_chunks=full",
        "nproc_per_node=4, max_chunks=1",
        "nproc_per_node=4, max_chunks=full",
    ]
    assert found.cases[0].config == {"nproc_per_node": 2, "visible_devices": "2,3", "max_chunks": 1}
    assert found.cases[3].config == {"nproc_per_node": 4, "max_chunks": None}
    assert found.cases[1].slug == "nproc_per_node-2-max_chunks-full"


def test_one_value_is_no_sweep() -> None:
    (case,) = order(max_chunks="3").cases

    assert case.name == ""
    assert case.config == {"max_chunks": 3}


@pytest.mark.parametrize("text", ["", "0", "1,,3", "1,1", "one", "-1", "1;3", "1.5"])
def test_a_malformed_sweep_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-chunks"):
        order(max_chunks=text)


def test_any_knob_can_be_swept() -> None:
    found = order(sweeps=("quantize=none,quanto-int4", "cpu-offload=true,false"))

    assert [case.name for case in found.cases] == [
        "quantize=none, cpu_offload=true",
        "quantize=none, cpu_offload=false",
        "quantize=quanto-int4, cpu_offload=true",
        "quantize=quanto-int4, cpu_offload=false",
    ]
    assert found.cases[0].config == {"quantize": None, "cpu_offload": True}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quantize", "write it as KNOB=VALUE"),
        ("quantize=", "write it as KNOB=VALUE"),
        ("quantize=none,none", "write it as KNOB=VALUE"),
        ("quantise=none", "no knob called quantise"),
        ("output=a,b", "no knob called output"),
        ("sample_steps=2,many", "many"),
        ("quantize=quanto-int5", "quanto-int5"),
    ],
)
def test_a_malformed_sweep_of_a_knob_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        order(sweeps=(text,))


def test_process_counts_are_numbers() -> None:
    with pytest.raises(UsageError, match="--nproc-per-node"):
        order(nproc_per_node="2,full")


def test_a_requests_chunks_are_the_warm_up_and_the_measured_ones() -> None:
    found = order(num_chunks=5, warmup_chunks=2)

    request = found.request_of(found.cases[0], "cold", Path("/out/x.mp4"))

    assert request.config.max_chunks == 7
    assert request.config.output == "/out/x.mp4"
    assert request.config.executor == "script"


def test_hot_requests_go_to_a_resident_worker_and_cold_ones_never() -> None:
    found = order({"executor": "driver"})
    case = found.cases[0]

    assert found.request_of(case, "hot", Path("/x.mp4")).config.executor == "resident"
    assert found.request_of(case, "cold", Path("/x.mp4")).config.executor == "driver"
    assert found.plain_request(case, Path("/x.mp4")).config.executor == "script"


def test_the_resident_executor_means_hot() -> None:
    assert order({"executor": "resident"}).heats == ("hot",)


def test_the_parts_that_were_named_are_measured() -> None:
    assert order(heats=["hot"]).heats == ("hot",)
    assert order(heats=["hot", "cold"]).heats == ("cold", "hot")
    assert order(against_script=True).heats == ("cold",)
    assert order(harness="checkout").heats == ("cold",)
    assert order(duration="30m").heats == ("hot",)


def test_results_go_where_they_were_sent() -> None:
    assert order({"output_dir": "there"}).folder == Path("/here/there")
    assert order().folder.parent == Path("/here/outputs")


def test_the_checkouts_benchmark_is_one_process_of_five_chunks() -> None:
    found = order(harness="checkout")

    assert found.request.config.launcher == "python"
    assert (found.warmup_chunks, found.num_chunks) == (1, 5)


@pytest.mark.parametrize(
    ("config", "said", "words"),
    [
        ({"output": "x.mp4"}, {}, "--output names one video"),
        ({"output_dir": "x.mp4"}, {}, "--output-dir names a video"),
        ({}, {"max_chunks": "3", "num_chunks": 3}, "both say how long"),
        ({}, {"duration": "1m", "requests": 3}, "both say how many"),
        ({}, {"duration": "1m", "max_chunks": "1,3"}, "not a sweep"),
        ({}, {"against_script": True, "heats": ["hot"]}, "compares cold runs"),
        ({}, {"against_script": True, "max_chunks": "1,3"}, "on one profile"),
        ({}, {"harness": "other"}, "no such harness"),
        ({}, {"harness": "checkout", "heats": ["hot"]}, "cold process"),
        ({"launcher": "torchrun"}, {"harness": "checkout"}, "is one process"),
        ({"executor": "resident"}, {"heats": ["cold"]}, "renders hot"),
        ({"executor": "resident"}, {"harness": "checkout"}, "cold measurements"),
        ({}, {"concurrency": 2, "heats": ["cold"]}, "--concurrency is for hot"),
    ],
)
def test_what_does_not_go_together_is_refused(config: dict[str, Any], said: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        order(config, **said)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400)])
def test_lengths_of_time_are_read(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["0", "0m", "m", "-1m", "soon", "1d", "1m30s"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a length of time"):
        duration_s(text)
