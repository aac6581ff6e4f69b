"""What is told about a finished run: every rule by a report that calls for it, and by one that does not."""

from __future__ import annotations

from typing import Any

import pytest
from run_reports import FLASHTALK, audio, check, devices, failed, report, timings

from omnirt_cli.checks import CheckStatus
from omnirt_cli.finding import Finding, Severity
from omnirt_cli.models.card import ModelCard, model_card
from omnirt_cli.report import (
    CheckoutInfo,
    ChunkInfo,
    CommandInfo,
    ExpectedInfo,
    RunReport,
    RunStatus,
    UsePoint,
)
from omnirt_cli.run.diagnosis import diagnose_run
from omnirt_cli.run.diagnosis_rules import RULES
from omnirt_cli.run.log_facts import Clue, LogFacts
from omnirt_cli.runs.past import PastRun

QUIET = LogFacts()
FALLBACK = "operator 'aten::isin.Tensor_Tensor_out' is not currently supported and will fall back to run on the CPU"
OOM = {
    **failed("out_of_device_memory", "rank 1: out of device memory on device 3: could not allocate 2 GiB of 23.69 GiB"),
    "timings": {"launch_ms": 500.0, "denoise_loop_ms": 9_000.0},
}
CUDA_OOM = {**OOM, "model": FLASHTALK, "backend": "cuda", "devices": devices(1, "RTX 4090", total=24.0, free=23.5)}
KILLED = failed("model_failed", "rank 1 was ended by SIGKILL", signal="SIGKILL")
NO_CUDA = failed("devices_unavailable", "torch sees no CUDA device")
BLACK = {**failed("output_invalid", "the video is black"), "checks": [check("black", CheckStatus.FAILED)]}
DRIFTED = {"checks": [check("drift", CheckStatus.WARNED)]}


def past(number: int, *, load: float = 32_000.0, steady: float = 1_380.0) -> PastRun:
    return PastRun(
        run_id=f"run-{number}",
        total_ms=124_000.0,
        model_load_ms=load,
        first_chunk_ms=2_500.0,
        steady_chunk_ms=steady,
        rtf=1.2,
        steady_rtf=1.2,
        save_ms=5_000.0,
        chunk_count=54,
        started_at=f"2026-11-1{number}T12:00:00.000Z",
    )


FASTER_BEFORE = [past(number, steady=700.0) for number in range(4)]


def told(
    made: RunReport, log: LogFacts = QUIET, card: ModelCard | None = None, earlier: list[PastRun] | None = None
) -> dict[str, Finding]:
    """The findings by code."""
    findings = diagnose_run(made, log, earlier or [], card or model_card(made.model or ""))
    assert len({finding.code for finding in findings}) == len(findings)
    return {finding.code: finding for finding in findings}


def knobs(**values: Any) -> dict[str, Any]:
    return {"config_resolved": {**report().config_resolved, **values}}


CHUNKS = [
    ChunkInfo(index=0, interval_ms=2_500.0, at_ms=40_000.0),
    ChunkInfo(index=53, interval_ms=1_400.0, at_ms=114_000.0),
]


def seen(*, peaks: tuple[float, float] = (40.0, 40.0), use: tuple[float | None, float | None] = (97.0, 97.0)) -> Any:
    """Two NPUs as they were sampled: idle while the model loads and at the end, busy so much between."""
    found = devices(2)
    for device, peak, percent in zip(found.used, peaks, use, strict=True):
        device.memory_peak_gib = peak
        device.use_series = [
            UsePoint(at_ms=at, memory_gib=peak, use_percent=percent if 40_000 < at <= 114_000 else 0.0)
            for at in range(5_000, 124_000, 5_000)
        ]
    return found


def clue(which: Clue, line: str = "") -> LogFacts:
    return LogFacts(clues={which: line})


def ranks(*names: str) -> LogFacts:
    return LogFacts(devices=dict(enumerate(names)))


SPEAKS: list[tuple[str, RunReport, LogFacts, str]] = [
    (
        "modes_that_fit",
        report(**CUDA_OOM),
        QUIET,
        "quantize quanto-int4 and cpu_offload, one device, 16 GiB (estimated)",
    ),
    (
        "text_encoder_memory",
        report(**CUDA_OOM, config_carriers={"cpu_offload": "flag"}),
        clue(Clue.TEXT_ENCODER),
        "`--cpu-offload`, one process",
    ),
    (
        "quantizing_fell_back",
        report(
            **failed(
                "model_failed",
                "the script gave up what was asked for and went on without it: quanto INT4 quantization failed: No "
                "module named 'quanto'. Running without quantization.",
            )
        ),
        QUIET,
        "full weights",
    ),
    (
        "killed_for_host_memory",
        report(**KILLED, memory={"host_peak_gib": 58.0}, host={"memory_gib": 64.0}),
        QUIET,
        "91% of the machine's memory",
    ),
    ("cuda_asked_on_ascend", report(**NO_CUDA), QUIET, "OmniRT set no PLATFORM"),
    (
        "crashed_on_several",
        report(**failed("model_failed", "rank 0: a device failed: an illegal memory access was encountered")),
        ranks("cuda:0", "cuda:1"),
        "NCCL_P2P_DISABLE=1",
    ),
    ("black_on_several", report(**BLACK), ranks("cuda:0", "cuda:1"), "pro, 512*512, 33 frames: 1, 2, 4, 8"),
    ("not_a_number", report(), clue(Clue.NOT_A_NUMBER), "NaN"),
    ("not_a_number", report(**BLACK, devices=devices(1)), QUIET, "the video is black"),
    ("devices_shared", report(), ranks("npu:0", "npu:1", "npu:0", "npu:1"), "4 ranks computed on 2 devices"),
    (
        "checkout_not_adapted",
        report(checkout=CheckoutInfo(path="/srv/SoulX-FlashHead", variant="public")),
        QUIET,
        "NPU adaptation",
    ),
    ("speed_knobs_off", report(**knobs(npu_fusion_attention=False)), QUIET, "`--npu-fusion-attention` was off"),
    (
        "speed_knobs_off",
        report(**knobs(npu_fusion_attention=False, vae_2d_split=False)),
        QUIET,
        "`--npu-fusion-attention` and `--vae-2d-split` were off",
    ),
    (
        "devices_held",
        report(**OOM, devices=devices(2, total=64.0, free=40.5)),
        QUIET,
        "23.5 GiB of device 2, 23.5 GiB of device 3",
    ),
    ("computed_on_cpu", report(), clue(Clue.CPU_FALLBACK, FALLBACK), "aten::isin.Tensor_Tensor_out"),
    ("slow_attention", report(), clue(Clue.SLOW_ATTENTION), "flash_attn"),
    ("recompiled", report(), clue(Clue.RECOMPILES), "TORCHDYNAMO_DISABLE=1"),
    ("style_drift", report(**DRIFTED, **knobs(latent_carry=True)), QUIET, "Leave `--latent-carry` off"),
    ("style_drift", report(**DRIFTED, **knobs(color_correction_strength=0.0)), QUIET, "Raise `--color-correction"),
    ("style_drift", report(**DRIFTED), QUIET, "Split the recording"),
    (
        "portrait_advice",
        report(checks=[check("portrait", CheckStatus.WARNED, "the image p.png shows 2 faces")]),
        QUIET,
        "shows 2 faces",
    ),
    (
        "host_memory_near_limit",
        report(memory={"host_peak_gib": 60.0}, host={"memory_gib": 512.0, "memory_limit_gib": 64.0}),
        QUIET,
        "94% of the machine's memory",
    ),
    (
        "device_memory_near_limit",
        report(devices=seen(peaks=(40.0, 63.5))),
        QUIET,
        "device 3 was 99.2% full at its peak: 63.5 of 64 GiB",
    ),
    ("devices_waited", report(chunks=CHUNKS, devices=seen(use=(8.0, 21.0))), QUIET, "computed 21% of the time"),
    ("first_chunk", report(timings=timings(first_chunk_ms=39_000.0)), QUIET, "took 39.0 s, later ones 1.4 s each"),
    (
        "load_dominates",
        report(timings=timings(model_load_ms=56_000.0, total_ms=82_960.0)),
        QUIET,
        "loading took 61.0 s of 83.0 s (74%)",
    ),
    (
        "offload_is_slow",
        report(**knobs(cpu_offload=True), timings=timings(steady_rtf=28.4)),
        QUIET,
        "a second of video took 28.4 s",
    ),
    (
        "devices_left",
        report(devices=devices(2, requested="2,3,4,5")),
        ranks("npu:0", "npu:1"),
        "4 devices were named (2,3,4,5), and 2 were used",
    ),
    ("sample_rate", report(inputs={"audio": audio(rate=8000)}), QUIET, "8 kHz, 1 channel; the models take 16 kHz"),
    (
        "sample_rate",
        report(inputs={"audio": audio(rate=44100, channels=2, length_s=3600.0)}),
        QUIET,
        "44.1 kHz, 2 channels, and is 60 minutes long",
    ),
    (
        "mux_repaired",
        report(warnings=["the script's own mux failed; the video was repaired from its silent picture"]),
        QUIET,
        "here is ffmpeg 5.1.9",
    ),
]


def sentences(finding: Finding) -> str:
    return " | ".join((finding.what, finding.why, finding.do))


@pytest.mark.parametrize(
    ("code", "made", "log", "says"), SPEAKS, ids=[f"{row[0]}-{number}" for number, row in enumerate(SPEAKS)]
)
def test_a_rule_speaks(code: str, made: RunReport, log: LogFacts, says: str) -> None:
    found = told(made, log)

    assert says in sentences(found[code])
    assert all((found[code].what, found[code].why, found[code].do))


TOLD_OF_SLOW_RUNS = {"speed_knobs_missing", "env_script_missing"}


def test_every_rule_is_tested_above_under_its_own_name() -> None:
    assert {rule.__name__ for rule in RULES} == {row[0] for row in SPEAKS} | TOLD_OF_SLOW_RUNS
    assert all(rule.__doc__ for rule in RULES)


def test_nothing_is_told_of_a_run_that_went_well() -> None:
    assert told(report(), ranks("npu:0", "npu:1")) == {}


SILENT: list[tuple[str, RunReport, LogFacts]] = [
    ("modes_that_fit", report(**KILLED), QUIET),
    ("text_encoder_memory", report(**{**CUDA_OOM, "chunks": report().chunks}), clue(Clue.TEXT_ENCODER)),
    ("text_encoder_memory", report(**CUDA_OOM), QUIET),
    ("modes_that_fit", report(**{**CUDA_OOM, "timings": {}}), QUIET),
    ("killed_for_host_memory", report(**KILLED, memory={"host_peak_gib": 12.0}), QUIET),
    ("killed_for_host_memory", report(**KILLED, memory={}, host={}), QUIET),
    ("cuda_asked_on_ascend", report(**NO_CUDA, backend="cuda"), QUIET),
    (
        "crashed_on_several",
        report(**failed("model_failed", "a device failed: an illegal memory access"), devices=devices(1)),
        QUIET,
    ),
    ("black_on_several", report(**BLACK, devices=devices(1)), QUIET),
    ("not_a_number", report(**BLACK), ranks("cuda:0", "cuda:1")),
    ("checkout_not_adapted", report(backend="cuda", checkout=CheckoutInfo(path="/srv", variant="public")), QUIET),
    ("speed_knobs_off", report(backend="cuda", **knobs(npu_fusion_attention=False)), QUIET),
    ("speed_knobs_off", report(devices=devices(1), **knobs(vae_2d_split=False)), QUIET),
    ("speed_knobs_missing", report(config_carriers={}), QUIET),
    ("env_script_missing", report(command=CommandInfo(argv=[], cwd="/")), QUIET),
    (
        "env_script_missing",
        report(**failed("io_error", "the disk is full"), command=CommandInfo(argv=[], cwd="/")),
        QUIET,
    ),
    ("devices_held", report(devices=devices(2, free=40.0)), QUIET),
    ("devices_held", report(**OOM, devices=devices(2, total=64.0, free=60.6)), QUIET),
    ("host_memory_near_limit", report(**KILLED, memory={"host_peak_gib": 500.0}), QUIET),
    ("device_memory_near_limit", report(devices=seen(peaks=(40.0, 62.7))), QUIET),
    ("device_memory_near_limit", report(**{**OOM, "devices": seen(peaks=(40.0, 64.0))}), QUIET),
    ("devices_waited", report(chunks=CHUNKS, devices=seen(use=(8.0, 95.0))), QUIET),
    ("devices_waited", report(chunks=CHUNKS, devices=seen(use=(8.0, 8.0)), **knobs(cpu_offload=True)), QUIET),
    ("devices_waited", report(chunks=CHUNKS[:1], devices=seen(use=(8.0, 8.0))), QUIET),
    ("devices_waited", report(chunks=CHUNKS, devices=seen(use=(None, None))), QUIET),
    ("first_chunk", report(timings=timings(first_chunk_ms=3_000.0)), QUIET),
    ("first_chunk", report(timings=timings(first_chunk_ms=900.0, steady_chunk_interval_ms_avg=100.0)), QUIET),
    ("load_dominates", report(timings=timings(model_load_ms=4_000.0, launch_ms=500.0, total_ms=8_000.0)), QUIET),
    ("load_dominates", report(**failed("model_failed", "it failed"), backend="cuda"), QUIET),
    ("offload_is_slow", report(**knobs(cpu_offload=True), timings=timings(steady_rtf=0.8)), QUIET),
    ("devices_shared", report(backend="cpu"), ranks("cpu", "cpu")),
    ("devices_left", report(devices=devices(2, requested="2,3")), ranks("npu:0", "npu:1")),
    ("devices_left", report(devices=devices(2, requested="2 of 2,3,4,5")), ranks("npu:0", "npu:1")),
    ("sample_rate", report(inputs={"audio": audio(rate=44100, channels=2)}), QUIET),
    ("sample_rate", report(inputs={"audio": audio(length_s=7200.0)}), QUIET),
    ("sample_rate", report(inputs={}), QUIET),
    ("portrait_advice", report(checks=[check("portrait")]), QUIET),
]


@pytest.mark.parametrize(
    ("code", "made", "log"), SILENT, ids=[f"{row[0]}-{number}" for number, row in enumerate(SILENT)]
)
def test_a_rule_keeps_silent(code: str, made: RunReport, log: LogFacts) -> None:
    assert code not in told(made, log)


# --- what only a slow run is told -----------------------------------------------------------------


def test_a_slow_ascend_run_is_told_what_to_check() -> None:
    bare = report(config_carriers={}, command=CommandInfo(argv=[], cwd="/"), devices=devices(2, total=64.0, free=50.0))

    found = told(bare, earlier=FASTER_BEFORE)

    assert next(iter(found)) == "slower_than_before"
    assert {"speed_knobs_missing", "env_script_missing", "devices_held"} <= set(found)
    assert "`--npu-fusion-attention` or `--vae-2d-split`" in found["speed_knobs_missing"].what


def test_a_run_as_fast_as_ever_is_not() -> None:
    bare = report(config_carriers={}, command=CommandInfo(argv=[], cwd="/"))

    assert told(bare, earlier=[past(number) for number in range(4)]) == {}


def test_a_failure_for_want_of_cann_points_at_the_env_script() -> None:
    made = report(
        **failed("model_failed", "the Ascend library libhccl.so is not found"), command=CommandInfo(argv=[], cwd="/")
    )

    assert "env_script_missing" in told(made)


# --- which words are chosen -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("carriers", "says"),
    [
        ({"text_cache_visible_devices": "omnirt", "t5_cpu": "flag"}, "--text-cache-visible-devices"),
        ({"t5_quant": "environment", "cpu_offload": "flag"}, "--t5-quant int8"),
        ({"t5_cpu": "flag"}, "--t5-cpu"),
        ({"cpu_offload": "fixed"}, "more free memory"),
    ],
)
def test_the_text_encoder_s_way_out_is_one_that_the_checkout_has(carriers: dict[str, str], says: str) -> None:
    found = told(report(**CUDA_OOM, config_carriers=carriers), clue(Clue.TEXT_ENCODER))

    assert says in found["text_encoder_memory"].do


@pytest.mark.parametrize("left_out", [{"disable_text_cache_prepare": True}, {"prepare_text_cache": False}])
def test_a_text_step_that_was_left_out_is_blamed_without_a_traceback(left_out: dict[str, bool]) -> None:
    made = report(**CUDA_OOM, **knobs(**left_out), config_carriers={"text_cache_visible_devices": "omnirt"})

    assert "--disable-text-cache-prepare" in told(made)["text_encoder_memory"].do


def test_a_device_too_small_for_every_mode_is_told_so() -> None:
    found = told(report(**{**CUDA_OOM, "devices": devices(1, "Tesla T4", total=15.0, free=15.0)}))

    assert found["modes_that_fit"].what == "bf16 ran out of memory on 15 GiB"
    assert found["modes_that_fit"].do.startswith("No known way")


def test_memory_that_others_held_does_not_count_as_room() -> None:
    held = {**OOM, "model": FLASHTALK, "devices": devices(8, total=64.0, free=40.0)}

    assert told(report(**held))["modes_that_fit"].what == "bf16 ran out of memory on 40 GiB"


def test_a_device_of_unknown_size_is_taken_from_the_script_s_words() -> None:
    made = report(**{**CUDA_OOM, "devices": None})

    assert "23.69 GiB" in told(made)["modes_that_fit"].what


def test_more_devices_are_not_praised_for_a_cold_clip() -> None:
    short = timings(model_load_ms=56_000.0, total_ms=84_080.0)

    assert "84 s on four" in told(report(timings=short, devices=devices(4)))["load_dominates"].why
    assert "84 s on four" not in told(report(timings=short, devices=devices(1)))["load_dominates"].why


def test_a_slow_first_chunk_is_normal_when_cold_and_a_fault_when_hot() -> None:
    slow = timings(first_chunk_ms=39_000.0)
    hot = {name: value for name, value in slow.items() if name != "model_load_ms"}

    assert told(report(timings=slow))["first_chunk"].severity is Severity.INFO
    found = told(report(timings=hot, execution_mode="persistent_worker"))["first_chunk"]
    assert found.severity is Severity.WARNING
    assert "loaded already" in found.what


def test_a_drift_in_a_short_video_is_not_blamed_on_its_length() -> None:
    short = ExpectedInfo(chunks=9, frames=250, fps=25, duration_s=10, width=512, height=512)

    assert "`--seed`" in told(report(**DRIFTED, expected=short))["style_drift"].do


def test_advice_about_the_portrait_weighs_more_where_the_video_shows_it() -> None:
    advised = check("portrait", CheckStatus.WARNED, "the image p.png shows no face")
    spoilt = [advised, check("av_sync", CheckStatus.WARNED)]

    assert told(report(checks=[advised]))["portrait_advice"].severity is Severity.INFO
    assert told(report(checks=spoilt))["portrait_advice"].severity is Severity.WARNING


def test_a_platform_that_somebody_replaced_is_named() -> None:
    command = CommandInfo(argv=[], cwd="/", env={"PLATFORM": "cuda"}, env_script="/x.sh")

    assert "PLATFORM was cuda" in told(report(**NO_CUDA, command=command))["cuda_asked_on_ascend"].why


def test_warnings_come_before_explanations() -> None:
    made = report(
        **DRIFTED, timings=timings(model_load_ms=90_000.0, total_ms=124_000.0), inputs={"audio": audio(rate=8000)}
    )

    severities = [finding.severity for finding in told(made).values()]

    assert severities == [Severity.WARNING, Severity.INFO, Severity.INFO]


def test_a_report_with_hardly_anything_in_it_is_no_fault() -> None:
    bare = RunReport(run_id="1", status=RunStatus.FAILED, started_at="2026-11-20T12:16:55.973Z")

    assert diagnose_run(bare, QUIET) == []
