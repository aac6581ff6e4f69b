"""The quantizing fork's own benchmark: its recorded output, read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from omnirt_cli.errors import ModelFailedError, UsageError
from omnirt_cli.models import registry
from omnirt_cli.models.base import MarkKind, ScriptCall
from omnirt_cli.models.rtf_harness import LOG_RULES, harness_args, read_table, require_harness
from omnirt_cli.run.log_scanner import LogScanner
from tests.conftest import CHECKOUTS
from tests.run.recordings import recording

RECORDED = recording("flashtalk_quant.bench_rtf.1p")
LINES = RECORDED.output.decode().splitlines()


def table_with(name: str, value: str) -> list[str]:
    return [re.sub(rf"^(  {name}: +).*", rf"\g<1>{value}", line) for line in LINES]


def test_the_table_becomes_figures() -> None:
    found = read_table(LINES)

    assert found.figures == {
        "steady_chunk_core_ms_mean": 479.0,
        "steady_chunk_core_ms_std": 12.0,
        "steady_chunk_core_ms_min": 467.0,
        "steady_chunk_core_ms_max": 499.0,
        "steady_frames_per_second": 58.5,
        "model_load_ms": 1000.0,
        "rtf": 0.427,
        "steady_rtf": 0.427,
    }
    assert found.rows["Chunks benchmarked"] == "5"
    assert found.quantization is None


def test_memory_that_was_measured_is_gib() -> None:
    assert read_table(table_with("VRAM peak", "14336 MB")).figures["memory_peak_gib"] == 14.0


def test_the_mode_that_it_says_it_ran_in() -> None:
    assert read_table(table_with("Quantization", "quanto-int4")).quantization == "quanto-int4"


def test_its_chunk_lines_are_marks_with_three_decimals() -> None:
    scanner = LogScanner(LOG_RULES)
    marks = [mark for at_s, line in RECORDED.lines for mark in scanner.feed(line, at_s)]

    assert [mark.kind for mark in marks] == [MarkKind.READY, *[MarkKind.CHUNK] * 6]
    assert [mark.value_ms for mark in marks[1:]] == [938.0, 485.0, 467.0, 470.0, 471.0, 499.0]
    assert [mark.index for mark in marks[1:]] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("lines", [[], LINES[:5], [line for line in LINES if "RTF =" not in line]])
def test_output_without_a_table_is_a_failure(lines: list[str]) -> None:
    with pytest.raises(ModelFailedError, match="printed no table"):
        read_table(lines)


def test_a_table_that_is_not_understood_is_a_failure() -> None:
    with pytest.raises(ModelFailedError, match="Throughput: fast"):
        read_table(table_with("Throughput", "fast"))


def test_it_gets_the_arguments_that_it_has() -> None:
    args = ("--ckpt_dir=/c", "--wav2vec_dir=/w", "--cond_image=portrait.png", "--audio_path=speech.wav",
            "--save_file=res_result.mp4", "--base_seed=7", "--quantize=quanto-int4")  # fmt: skip
    call = ScriptCall(Path("/x/generate_video.py"), args, {}, {}, "res_result.mp4", "result.mp4")

    assert harness_args(call, warmup_chunks=2, num_chunks=8) == (
        "--ckpt_dir=/c", "--wav2vec_dir=/w", "--cond_image=portrait.png", "--audio_path=speech.wav",
        "--base_seed=7", "--quantize=quanto-int4", "--num_chunks=8", "--warmup_chunks=2",
    )  # fmt: skip


def test_a_checkout_without_it_is_refused_by_name() -> None:
    from omnirt_cli.checkout import inspect_checkout

    info = registry.adapter("flashtalk").info
    with pytest.raises(UsageError, match=r"flashtalk_new has no bench_rtf\.py"):
        require_harness(inspect_checkout(CHECKOUTS / "flashtalk_new", info.script))
