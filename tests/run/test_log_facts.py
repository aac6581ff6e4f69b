"""What is kept of a log beside its times: which rank computed where, and what libraries remarked."""

from __future__ import annotations

import pytest
from recordings import recording

from omnirt_cli.models.soulx_script import LOG_RULES
from omnirt_cli.run.log_facts import CLUE_RULES, RANKS_AT_MOST, Clue, LogFacts, LogFactsReader
from omnirt_cli.run.log_scanner import LogScanner


def read(output: bytes, *, block: int = 1 << 16) -> LogFacts:
    """Through the scanner, as a run does it."""
    scanner, reader = LogScanner((*LOG_RULES, *CLUE_RULES)), LogFactsReader()
    marks = [mark for at in range(0, len(output), block) for mark in scanner.feed(output[at : at + block], 1.0)]
    for mark in [*marks, *scanner.finish(1.0)]:
        reader.note(mark)
    return reader.facts()


def test_a_recorded_run_on_two_devices_names_them() -> None:
    facts = read(recording("flashhead.ok_pro.2p").output)

    assert sorted(facts.devices) == [0, 1]
    assert facts.clues == {}


LINES = [
    (
        Clue.CPU_FALLBACK,
        (
            b"[rank1]:[W VariableFallbackKernel.cpp:51] Warning: CAUTION: The operator 'aten::isin.Tensor_Tensor_out' "
            b"is not currently supported on the NPU backend and will fall back to run on the CPU. This may have "
            b"performance implications. (function npu_cpu_fallback)"
        ),
        "operator 'aten::isin.Tensor_Tensor_out' is not currently supported on the NPU backend and will fall back",
    ),
    (
        Clue.NOT_A_NUMBER,
        b"/srv/generate_video.py:61: RuntimeWarning: invalid value encountered in cast",
        "invalid value encountered in cast",
    ),
    (
        Clue.RECOMPILES,
        b"W0703 22:26:28.375000 41 torch/_dynamo/convert_frame.py:906] torch._dynamo hit config.cache_size_limit (8)",
        "torch._dynamo hit config.cache_size_limit",
    ),
    (
        Clue.SLOW_ATTENTION,
        (
            b"UserWarning: Padding mask is disabled when using scaled_dot_product_attention. It can have a significant "
            b"impact on performance."
        ),
        "scaled_dot_product_attention",
    ),
    (
        Clue.TEXT_ENCODER,
        b'[rank0]:   File "/srv/SoulX-LiveAct/wan/modules/t5.py", line 500, in __init__',
        't5.py", line 500',
    ),
]


@pytest.mark.parametrize(("clue", "line", "says"), LINES, ids=[row[0].value for row in LINES])
def test_a_remark_is_noticed(clue: Clue, line: bytes, says: str) -> None:
    facts = read(b"loading\n" + line + b"\nloading\n")

    assert list(facts.clues) == [clue]
    assert says in facts.clues[clue]


def test_every_clue_is_tested_above() -> None:
    assert {row[0] for row in LINES} == set(Clue)


@pytest.mark.parametrize("block", [1, 7, 1 << 16])
def test_blocks_cut_anywhere_give_the_same_facts(block: int) -> None:
    output = b"".join(line + b"\n" for _, line, _ in LINES) + b"rank=0 device=npu:0\nrank=1 device=npu:0\n"

    facts = read(output, block=block)

    assert facts.devices == {0: "npu:0", 1: "npu:0"}
    assert set(facts.clues) == set(Clue)


def test_the_first_of_many_remarks_is_kept_and_no_more() -> None:
    fallback = b"The operator 'aten::%d' is not currently supported and will fall back to run on the CPU\n"

    facts = read(b"".join(fallback % number for number in range(1000)))

    assert "'aten::0'" in facts.clues[Clue.CPU_FALLBACK]


def test_absurdly_many_ranks_do_not_fill_the_memory() -> None:
    facts = read(b"".join(b"rank=%d device=npu:%d\n" % (rank, rank) for rank in range(1000)))

    assert len(facts.devices) == RANKS_AT_MOST


def test_an_ordinary_log_gives_no_clue() -> None:
    assert read(recording("flashtalk_old.ok.2p").output).clues == {}
