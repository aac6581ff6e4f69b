"""The scanner: the same marks however the stream is cut and whatever else is in it, in bounded memory."""

from __future__ import annotations

import itertools
import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import recording

from omnirt_cli.models.base import LogRule, MarkKind
from omnirt_cli.run.log_scanner import LINE_BYTES, TAIL_LINES, LogMark, LogScanner

SECONDS = rb"(?P<seconds>\d+(?:\.\d+)?)s"
RULES = (
    LogRule(MarkKind.READY, b"Data preparation done", re.compile(rb"Data preparation done\. Start")),
    LogRule(
        MarkKind.CHUNK,
        b"Generate video chunk-",
        re.compile(rb"Generate video chunk-(?P<index>\d+) done, cost time: " + SECONDS),
    ),
    LogRule(MarkKind.DENOISE_STEP, b"denoise per step", re.compile(rb"denoise per step: " + SECONDS)),
    LogRule(MarkKind.VAE_DECODE, b"decode video frames", re.compile(rb"decode video frames: " + SECONDS)),
    LogRule(MarkKind.FINISHED, b"Finished.", re.compile(rb" - Finished\.$")),
    LogRule(MarkKind.FELL_BACK, b"quantization failed", re.compile(rb"quantization failed: .*")),
)
CHUNK_LINE = (
    b"2026-11-20 10:14:30.308 | INFO     | __main__:generate:160 - Generate video chunk-3 done, cost time: 0.96s"
)


def scan(*blocks: bytes) -> list[LogMark]:
    scanner = LogScanner(RULES)
    return [mark for block in blocks for mark in scanner.feed(block, 1.0)] + scanner.finish(1.0)


def test_a_chunk_line_gives_index_duration_and_stamp() -> None:
    (mark,) = scan(CHUNK_LINE + b"\n")
    assert (mark.kind, mark.index, mark.value_ms, mark.rank) == (MarkKind.CHUNK, 3, 960.0, None)
    assert mark.text == CHUNK_LINE.decode()
    (later,) = scan(CHUNK_LINE.replace(b"30.308", b"31.009") + b"\n")
    assert later.stamp_ms is not None
    assert mark.stamp_ms is not None
    assert later.stamp_ms - mark.stamp_ms == 701.0


def test_a_line_glued_behind_a_progress_bar_is_recognised() -> None:
    (mark,) = scan(b"\rLoading:   0%|  | 0/4 [00:00<?, ?it/s]" + CHUNK_LINE + b"\n")
    assert mark.index == 3
    assert mark.text == CHUNK_LINE.decode()


def test_a_line_that_ends_in_a_carriage_return_is_recognised() -> None:
    assert [mark.index for mark in scan(CHUNK_LINE + b"\r" + CHUNK_LINE.replace(b"-3 ", b"-4 ") + b"\r\n")] == [3, 4]


def test_two_ranks_in_one_line_give_both_marks_in_order() -> None:
    marks = scan(b"[generate] denoise per step: 0.5s[generate] decode video frames: 0.25s\n\n")
    assert [(mark.kind, mark.value_ms) for mark in marks] == [
        (MarkKind.DENOISE_STEP, 500.0),
        (MarkKind.VAE_DECODE, 250.0),
    ]


def test_the_rank_prefix_is_read() -> None:
    (mark,) = scan(b"[rank1]: quantization failed: no module\n")
    assert (mark.rank, mark.text) == (1, "quantization failed: no module")


def test_colour_is_stripped() -> None:
    marks = scan(recording("flashhead.ci_ansi.1p").output)
    assert [mark.index for mark in marks if mark.kind is MarkKind.CHUNK] == [0, 1, 2, 3, 4]
    assert marks[0].text.endswith("generate:126 - Data preparation done. Start to generate video...")
    assert MarkKind.FINISHED in [mark.kind for mark in marks]


def test_a_colour_sequence_that_never_ends_swallows_no_line() -> None:
    assert [mark.index for mark in scan(b"\x1b]0;title\n" + CHUNK_LINE + b"\n\x1b[1;\n" + CHUNK_LINE + b"\n\x07")] == [
        3,
        3,
    ]


def test_marks_of_several_rules_come_in_the_order_of_the_text() -> None:
    text = (recording("flashtalk_old.ok.2p").output,) * 2
    kinds = [mark.kind for mark in scan(*text)]
    assert kinds == [mark.kind for mark in scan(b"".join(text))]
    chunk = [MarkKind.DENOISE_STEP] * 4 + [MarkKind.VAE_DECODE, MarkKind.CHUNK]
    assert kinds == [MarkKind.READY, *chunk * 8, MarkKind.FINISHED] * 2


def test_garbage_around_and_inside_a_line_does_no_harm() -> None:
    (mark,) = scan(b"\xff\xfe\0\0\n\0" + CHUNK_LINE + b"\0\xff\n\x80\n")
    assert mark.index == 3
    assert "\0" not in mark.text


@pytest.mark.parametrize("stamp", [b"2026-13-20 10:14:30.308", b"0000-00-00 00:00:00.000"])
def test_an_impossible_stamp_is_no_stamp(stamp: bytes) -> None:
    (mark,) = scan(stamp + CHUNK_LINE[23:] + b"\n")
    assert mark.stamp_ms is None


def test_a_number_too_long_to_be_one_is_none() -> None:
    (mark,) = scan(CHUNK_LINE.replace(b"-3 ", b"-" + b"9" * 5000 + b" ") + b"\n")
    assert mark.index is None


def test_an_unended_last_line_is_read_at_the_end() -> None:
    scanner = LogScanner(RULES)
    assert scanner.feed(CHUNK_LINE, 1.0) == []
    assert [mark.at_s for mark in scanner.finish(2.0)] == [2.0]
    assert scanner.finish(3.0) == []


def test_arrival_is_that_of_the_block_which_completed_the_line() -> None:
    scanner = LogScanner(RULES)
    scanner.feed(CHUNK_LINE[:40], 1.0)
    (mark,) = scanner.feed(CHUNK_LINE[40:] + b"\n", 2.5)
    assert (mark.at_s, scanner.first_output_at) == (2.5, 1.0)


PARTS = st.sampled_from(
    [
        CHUNK_LINE,
        b"\x1b[32m" + CHUNK_LINE.replace(b"Generate", b"\x1b[1mGenerate") + b"\x1b[0m",
        b"[rank1]: quantization failed: x",
        b"[generate] denoise per step: 3.4s",
        b"Loading 10%|\xe2\x96\x88 | 1/4",
        b"\x1b[3",
        b"\r",
        b"\n",
        b"\r\n",
        b"\xff\0",
        b"x" * (LINE_BYTES // 2),
        b"Finished.",
        b" - ",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PARTS, max_size=14), st.data())
def test_any_cut_of_the_stream_gives_the_same_marks(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    bounds = [0, *cuts, len(stream)]
    blocks = [stream[start:end] for start, end in itertools.pairwise(bounds)]
    assert scan(*blocks) == scan(stream)


@pytest.mark.parametrize("name", ["flashtalk_old.ok.2p", "flashhead.ci_ansi.1p"])
def test_a_recorded_run_byte_by_byte_gives_the_same_marks(name: str) -> None:
    output = recording(name).output
    assert scan(*(output[index : index + 1] for index in range(len(output)))) == scan(output)


def test_a_line_without_end_takes_bounded_memory() -> None:
    scanner = LogScanner(RULES)
    block = b"x" * (1 << 20)
    tracemalloc.start()
    try:
        for _ in range(100):
            assert scanner.feed(block, 1.0) == []
        assert scanner.feed(CHUNK_LINE + b"\n", 1.0)[0].index == 3
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * (1 << 20)


def test_the_tail_shows_a_bar_in_its_last_state_only() -> None:
    scanner = LogScanner(RULES)
    scanner.feed(b"before\n", 1.0)
    for percent in range(100):
        scanner.feed(b"\rLoading %d%%" % percent, 1.0)
    scanner.feed(b"\rLoading 100%\nafter\nunfin", 1.0)
    assert scanner.tail() == ["before", "Loading 100%", "after", "unfin"]


def test_a_bar_that_runs_for_hours_pushes_nothing_out_of_the_tail() -> None:
    scanner = LogScanner(RULES)
    scanner.feed(b"the line before\n", 1.0)
    for number in range(20_000):
        scanner.feed(b"\rwaiting %06d %s" % (number, b"." * 80), 1.0)
    assert scanner.tail()[0] == "the line before"
    assert scanner.tail()[-1].startswith("waiting 019999")


def test_the_tail_is_bounded_in_lines_and_in_bytes() -> None:
    scanner = LogScanner(RULES)
    for number in range(5000):
        scanner.feed(b"line %d " % number + b"y" * 5000 + b"\n", 1.0)
    tail = scanner.tail()
    assert len(tail) <= TAIL_LINES
    assert tail[-1].startswith("line 4999 ")
    assert sum(map(len, tail)) < 1 << 20


def test_the_watcher_gets_every_complete_line_once() -> None:
    seen: list[bytes] = []
    scanner = LogScanner(RULES, watch=seen.append)
    stream = b"".join(b"line %d\n" % number for number in range(10_000))
    for start in range(0, len(stream), 7777):
        scanner.feed(stream[start : start + 7777], 1.0)
    assert b"".join(seen) == stream
