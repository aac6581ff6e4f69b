"""`omnirt bench` as people and CI call it: real renders, workers and scripts of the miniature."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omnirt_cli.bench.document import BenchReport
from omnirt_cli.resident.client import Connection
from tests.omnirt_cli_runs import (
    CHECKOUTS,
    ROOT,
    TINY,
    Finished,
    checkout,
    finish,
    marked_processes,
    omnirt,
    scratch_dirs,
    start,
    wait_for,
)
from tests.vendor_tools import Chip, fake_npu_smi, machine

TALK = ("--model", "soulx-flashtalk-14b", "--backend", "cpu", *TINY)
COLD = ("--cold", "--num-chunks", "1", "--verify", "fast")
STAND_IN = ROOT / "tests" / "bench" / "stand_in_bench_rtf.py"


@pytest.fixture(autouse=True)
def _no_daemon_is_left() -> Iterator[None]:
    yield
    connection = Connection.running(os.environ, any_version=True)
    if connection is not None:
        connection.shut_down(30)


def bench(folder: Path, *more: str, env: dict[str, str] | None = None) -> Finished:
    return omnirt("bench", *TALK, "--output-dir", str(folder), *more, env={"MINIATURE_CHUNK_S": "0.05", **(env or {})})


def saved(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "bench.json").read_text())
    assert isinstance(found, dict)
    return found


# --- cold and hot ---------------------------------------------------------------------------------


def test_cold_and_hot_are_measured_and_the_worker_is_put_away(tmp_path: Path) -> None:
    done = bench(tmp_path, "--requests", "1", "--num-chunks", "2", "--json")

    assert done.code == 0, done.stderr
    report = done.json
    assert report == saved(tmp_path)
    assert BenchReport.model_validate(report)
    assert [sample["heat"] for sample in report["samples"]] == ["cold", "hot", "hot"]
    assert [sample["left_out"] for sample in report["samples"]] == [None, "it had to load the model", None]
    for part in ("cold", "hot"):
        assert report[part]["end_to_end_ms_p50"] > 0
        assert report[part]["chunks_timed"] == 2
        assert report[part]["steady_chunk_core_ms_mean"] >= 50
        assert {"denoise_loop_ms", "export_ms", "chunk_core_ms_avg", "steady_chunk_core_ms_avg"} <= set(report[part])
    assert {"audio_embedding_ms_avg", "chunk_copy_ms_avg", "chunk_total_ms_avg", "steady_chunk_total_ms_avg"} <= set(
        report["hot"]
    )
    assert report["hot"]["end_to_end_ms_p50"] < report["cold"]["end_to_end_ms_p50"]
    assert "memory_peak_gib" not in report["cold"]  # there is no device
    assert report["rows"][0]["conditions"]["knobs"]["size"] == "128*128"
    connection = Connection.running(os.environ)
    assert connection is not None
    with connection:
        assert connection.workers() == ()


def test_liveact_is_measured_cold_alone_and_that_is_said(tmp_path: Path) -> None:
    args = ("--model", "soulx-liveact-14b", "--backend", "cpu", *TINY, "--output-dir", str(tmp_path), "--json")

    done = omnirt("bench", *args, "--max-chunks", "1", "--verify", "off")

    assert done.code == 0, done.stderr
    assert done.json["hot"] is None
    assert done.json["cold"]["requests"] == 1
    assert "measured cold alone: SoulX-LiveAct cannot be kept loaded" in done.stderr


def test_hot_liveact_is_refused_where_somebody_asks_for_it(tmp_path: Path) -> None:
    done = omnirt("bench", "--model", "soulx-liveact-14b", "--backend", "cpu", "--hot", cwd=tmp_path)

    assert done.code == 2
    assert "cannot be kept loaded" in done.stderr


# --- scenarios ------------------------------------------------------------------------------------


def test_a_scenario_is_the_published_profile_and_a_flag_wins_over_it(tmp_path: Path) -> None:
    args = ("--scenario", "flashtalk-realtime", "--backend", "cpu", *TINY, "--output-dir", str(tmp_path), "--json")

    done = omnirt("bench", *args, *COLD)

    assert done.code == 0, done.stderr
    found = done.json["rows"][0]["conditions"]
    assert found["knobs"]["frame_num"] == 29
    assert found["knobs"]["sample_steps"] == 2
    assert found["sources"]["sample_steps"] == "scenario flashtalk-realtime"
    assert found["sources"]["size"] == "flag"
    assert found["chunk_media_ms"] == 1120.0


def test_a_scenario_whose_knobs_the_checkout_lacks_is_refused_in_generates_words(tmp_path: Path) -> None:
    done = omnirt("bench", "--scenario", "flashhead-quality", "--backend", "cpu", *COLD, cwd=tmp_path)

    assert done.code == 2
    assert "--sample-steps" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_flashheads_scenario_runs_on_an_adapted_checkout(tmp_path: Path) -> None:
    args = ("--scenario", "flashhead-quality", "--backend", "cpu", *TINY, "--output-dir", str(tmp_path), "--json")

    done = omnirt("bench", *args, *COLD, *checkout("flashhead_ascend"))

    assert done.code == 0, done.stderr
    assert done.json["rows"][0]["conditions"]["knobs"]["vae_2d_split"] is True
    assert done.json["rows"][0]["conditions"]["core_scope"] == "audio_encoding+core"


# --- sweeps ---------------------------------------------------------------------------------------


def test_a_sweep_over_lengths_gives_one_table(tmp_path: Path) -> None:
    done = bench(tmp_path, "--cold", "--max-chunks", "1,2", "--verify", "fast")

    assert done.code == 0, done.stderr
    rows = saved(tmp_path)["rows"]
    assert [row["case"] for row in rows] == ["max_chunks=1", "max_chunks=2"]
    assert [row["picture"] for row in rows] == [
        "128x128 / 25 FPS / 1.12 s / 28 frames",
        "128x128 / 25 FPS / 2.24 s / 56 frames",
    ]
    for row in rows:
        assert f"| cold, {row['case']} |" in done.stdout
        assert row["run_ids"][0] in done.stdout
        assert row["checks"]["file"] == "passed"


def test_a_sweep_over_process_counts_gives_one_table(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    sweep = ("--launcher", "torchrun", "--nproc-per-node", "1,2")

    done = bench(tmp_path, "--cold", "--max-chunks", "1", "--verify", "fast", *sweep, env={"MINIATURE_TORCH": "1"})

    assert done.code == 0, done.stderr
    rows = saved(tmp_path)["rows"]
    assert [row["conditions"]["processes"] for row in rows] == [1, 2]
    assert all(row["figures"]["denoise_loop_ms"] > 0 and row["figures"]["export_ms"] > 0 for row in rows)


# --- gates and baselines --------------------------------------------------------------------------


def test_a_gate_that_is_kept_ends_well_and_a_missed_one_does_not(tmp_path: Path) -> None:
    kept = bench(tmp_path / "a", *COLD, "--require", "steady_rtf<=1.0")
    missed = bench(
        tmp_path / "b", *COLD, "--require", "steady_rtf<=1.0", env={"MINIATURE_CHUNK_S": "1.3"}
    )  # a chunk adds 1.12 s

    assert kept.code == 0, kept.stderr
    assert missed.code == 1
    assert "1 of 1 gates missed: cold.steady_rtf" in missed.stderr
    assert "| MISSED |" in missed.stdout
    assert saved(tmp_path / "b")["cold"]["goodput"] == 0


def test_device_memory_that_nobody_measured_misses_its_gate(tmp_path: Path) -> None:
    done = bench(tmp_path, *COLD, "--gates", "realtime-24gb", "--json")

    assert done.code == 1
    verdicts = {check["name"]: (check["status"], check["detail"]) for check in done.json["gates"]}
    assert verdicts["cold.memory_peak_gib"] == ("failed", "it was not measured")
    assert verdicts["cold.steady_rtf"][0] == "passed"


def test_device_memory_is_taken_from_the_vendors_tool(tmp_path: Path) -> None:
    fake_npu_smi(tmp_path / "tools", [Chip(0, used_mib=20_480)])
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(0o1777)
    env = machine(tmp_path / "tools", {"OMNIRT_LOCK_DIR": str(tmp_path / "locks"), "MINIATURE_LOAD_S": "4"})
    place = ("--backend", "ascend", "--visible-devices", "0", "--launcher", "python", *checkout("flashtalk_ascend"))

    done = bench(tmp_path / "out", *COLD, *place, "--gates", "realtime-24gb", "--json", env=env)

    assert done.code == 0, done.stderr
    assert done.json["cold"]["memory_peak_gib"] == 20.0
    assert done.json["rows"][0]["conditions"]["devices"] == ["910B2"]


def test_an_unknown_figure_is_a_usage_error_before_anything_runs(tmp_path: Path) -> None:
    done = bench(tmp_path / "out", *COLD, "--require", "memory_peak_gb<24", "--json")

    assert done.code == 2
    assert done.json["error"]["hint"] == "did you mean memory_peak_gib?"
    assert not (tmp_path / "out").exists()


def test_a_baseline_is_compared_with_ratios(tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    bench(tmp_path / "a", *COLD, "--save", str(before))

    same = bench(tmp_path / "b", *COLD, "--baseline", str(before))
    other = bench(tmp_path / "c", *COLD, "--baseline", str(before), "--sample-steps", "2")

    (compared,) = saved(tmp_path / "b")["comparisons"]
    ratios = {pair["name"]: pair["ratio"] for pair in compared["pairs"]}
    assert same.code == 0, same.stderr
    assert 0.1 < ratios["end_to_end_ms_p50"] < 10
    assert "the baseline (A) and this (B)" in same.stdout
    (refused,) = saved(tmp_path / "c")["comparisons"]
    assert other.code == 0
    assert refused["pairs"] == []
    assert refused["knobs"] == [{"name": "sample_steps", "a": 4, "b": 2}]
    assert "not compared: sample_steps" in other.stdout


# --- bad ends -------------------------------------------------------------------------------------


def test_where_every_request_fails_the_code_is_theirs_and_json_is_one_document(tmp_path: Path) -> None:
    done = bench(tmp_path, *COLD, "--requests", "2", "--json", env={"MINIATURE_FAULT": "oom_cuda"})

    assert done.code == 11
    assert [sample["error"]["code"] for sample in done.json["samples"]] == ["out_of_device_memory"] * 2
    assert done.json["cold"]["failed_requests"] == 2
    assert "end_to_end_ms_p50" not in done.json["cold"]


def test_a_stop_saves_and_prints_what_was_measured(tmp_path: Path) -> None:
    process = start(
        "bench", *TALK, *COLD, "--requests", "50", "--output-dir", str(tmp_path), "--json",
        env={"MINIATURE_CHUNK_S": "0.05"},
    )  # fmt: skip
    wait_for(lambda: len(list(tmp_path.glob("*.mp4"))) >= 1, seconds=60, what="the first video")

    process.send_signal(signal.SIGINT)
    done = finish(process)

    assert done.code == 130
    assert done.json["status"] == saved(tmp_path)["status"] == "cancelled"
    assert done.json["cold"]["end_to_end_ms_p50"] > 0
    assert scratch_dirs(tmp_path) == []
    for sample in done.json["samples"]:
        assert marked_processes(sample["run_id"]) == []


def test_results_that_cannot_be_saved_are_refused_before_anything_runs(tmp_path: Path) -> None:
    done = bench(tmp_path / "out", *COLD, "--save", str(tmp_path))

    assert done.code == 73
    assert not (tmp_path / "out").exists()


# --- the plain script -----------------------------------------------------------------------------


def test_the_plain_script_runs_in_turns_and_the_overhead_is_shown_by_phase(tmp_path: Path) -> None:
    done = bench(tmp_path, "--against-script", "--requests", "1", "--num-chunks", "1", "--verify", "fast")

    assert done.code == 0, done.stderr
    found = saved(tmp_path)["overhead"]
    assert found["pairs"] == 1
    assert found["overhead_ms_p50"] > 0
    phases = {pair["name"]: (pair["a"], pair["b"]) for pair in found["phases"]}
    for name in ("launch_ms", "model_load_ms", "generation_ms", "save_ms", "denoise_loop_ms", "total_ms"):
        assert all(value > 0 for value in phases[name]), name
    assert phases["prepare_conditions_ms"][0] is None
    assert found["plain"][0]["chunk_count"] == 2
    assert "The plain script (A) and OmniRT (B)" in done.stdout
    assert scratch_dirs(tmp_path) == []


def test_a_plain_script_that_fails_is_told(tmp_path: Path) -> None:
    done = bench(tmp_path, "--against-script", "--requests", "1", "--num-chunks", "1",
                 env={"MINIATURE_FAULT": "exit3"})  # fmt: skip

    assert done.code == 10
    assert "the plain script ended with exit code 3" in done.stdout


def test_a_stop_ends_the_plain_script_too(tmp_path: Path) -> None:
    process = start(
        "bench", *TALK, "--against-script", "--num-chunks", "1", "--verify", "off", "--output-dir", str(tmp_path),
        env={"MINIATURE_CHUNK_S": "6"},
    )  # fmt: skip
    wait_for(lambda: list(tmp_path.glob("plain-*.log")), seconds=60, what="the plain script")
    wait_for(lambda: _plain_processes(tmp_path), seconds=30, what="its process")

    process.send_signal(signal.SIGTERM)
    done = finish(process)

    assert done.code == 143
    assert _plain_processes(tmp_path) == []
    assert scratch_dirs(tmp_path) == []


def _plain_processes(folder: Path) -> list[int]:
    return [pid for pid in marked_processes() if os.path.realpath(f"/proc/{pid}/cwd").startswith(str(folder))]


# --- the checkout's own benchmark -----------------------------------------------------------------


@pytest.fixture
def quantizing(tmp_path: Path) -> tuple[str, ...]:
    """Flags for a quantizing checkout that brings its benchmark along."""
    place = tmp_path / "miniature"
    shutil.copytree(CHECKOUTS.parent, place, ignore=shutil.ignore_patterns("__pycache__"))
    repo = place / "checkouts" / "flashtalk_quant"
    shutil.copy(STAND_IN, repo / "bench_rtf.py")
    return ("--harness", "checkout", "--repo-path", str(repo), "--python-executable", sys.executable)


def test_the_checkouts_benchmark_is_run_and_its_table_read(tmp_path: Path, quantizing: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    env = {"MINIATURE_QUANT": "ok", "STAND_IN_VRAM": "14336"}

    done = bench(
        out,
        *quantizing,
        "--num-chunks",
        "2",
        "--quantize",
        "quanto-int4",
        "--gates",
        "realtime-24gb",
        "--json",
        env=env,
    )

    assert done.code == 0, done.stderr
    report = done.json
    assert report["harness"][0]["table"]["Chunks benchmarked"] == "2"
    assert report["harness"][0]["quantization"] == "quanto-int4"
    assert report["cold"]["memory_peak_gib"] == 14.0
    assert report["cold"]["rtf"] == report["cold"]["steady_rtf"] > 0
    assert report["cold"]["chunks_timed"] == 2
    assert report["cold"]["steady_chunk_core_ms_p95"] >= 50
    (sample,) = report["samples"]
    assert [chunk["core_ms"] >= 50 for chunk in sample["chunks"]] == [True] * 3
    assert {check["name"]: check["status"] for check in report["gates"]}["cold.quantized"] == "passed"
    assert not list(out.glob("*.mp4"))
    assert scratch_dirs(out) == []


def test_a_sweep_over_ways_to_quantize_gives_one_table(tmp_path: Path, quantizing: tuple[str, ...]) -> None:
    sweep = ("--sweep", "quantize=none,quanto-int4")

    done = bench(tmp_path / "out", *quantizing, *sweep, "--num-chunks", "1", env={"MINIATURE_QUANT": "ok"})

    assert done.code == 0, done.stderr
    report = saved(tmp_path / "out")
    assert [row["case"] for row in report["rows"]] == ["quantize=none", "quantize=quanto-int4"]
    assert [info["quantization"] for info in report["harness"]] == [None, "quanto-int4"]
    assert [check["name"] for check in report["gates"]] == ["cold.quantized (quantize=quanto-int4)"]


def test_quantizing_that_was_given_up_fails_the_gate(tmp_path: Path, quantizing: tuple[str, ...]) -> None:
    done = bench(tmp_path / "out", *quantizing, "--num-chunks", "1", "--quantize", "quanto-int4")

    assert done.code == 1
    assert "1 of 1 gates missed: cold.quantized" in done.stderr
    assert "it ran in bf16: quanto INT4 quantization failed" in done.stdout
    assert "| Latency mean" in done.stdout


def test_renders_that_gave_quantizing_up_fail_the_gate_too(tmp_path: Path) -> None:
    done = bench(tmp_path, *COLD, "--quantize", "quanto-int4", "--json", *checkout("flashtalk_quant"))

    assert done.code == 10
    (check,) = done.json["gates"]
    assert (check["name"], check["status"]) == ("cold.quantized", "failed")
    assert done.json["samples"][0]["fell_back"] in check["detail"]


def test_a_missed_target_is_no_good_end_for_a_gate(tmp_path: Path, quantizing: tuple[str, ...]) -> None:
    done = bench(
        tmp_path / "out", *quantizing, "--num-chunks", "1", "--require", "rtf<=1.0", env={"STAND_IN": "too_slow"}
    )

    assert done.code == 1
    assert "gates missed: cold.rtf" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "words"), [("crashes", "told to crash"), ("no_table", "printed no table")], ids=["crashes", "no table"]
)
def test_a_benchmark_that_fails_fails(wrong: str, words: str, tmp_path: Path, quantizing: tuple[str, ...]) -> None:
    done = bench(tmp_path / "out", *quantizing, "--num-chunks", "1", "--json", env={"STAND_IN": wrong})

    assert done.code == 10
    assert words in done.json["samples"][0]["error"]["message"]
    assert done.json["harness"] == []


def test_a_checkout_without_a_benchmark_is_refused_by_name(tmp_path: Path) -> None:
    done = bench(tmp_path, "--harness", "checkout", *checkout("flashtalk_quant"))

    assert done.code == 2
    assert "flashtalk_quant has no bench_rtf.py" in done.stderr


# --- soaks ----------------------------------------------------------------------------------------


def test_a_soak_judges_failures_and_memory_and_leaves_no_videos(tmp_path: Path) -> None:
    done = bench(tmp_path, "--duration", "8s", "--max-chunks", "1", "--verify", "off", "--json",
                 env={"MINIATURE_CHUNK_S": "0"})  # fmt: skip

    verdicts = {check["name"]: check["status"] for check in done.json["gates"]}
    assert verdicts["failures"] == "passed", done.stderr
    assert verdicts["growth of device memory"] == "skipped"
    assert len([sample for sample in done.json["samples"] if sample["measured"]]) >= 2
    assert list(tmp_path.iterdir()) == [tmp_path / "bench.json"]
    assert done.code == (0 if verdicts["growth of memory of the model's processes"] == "passed" else 1)
