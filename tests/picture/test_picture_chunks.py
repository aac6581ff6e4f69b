"""The chart of the chunks: its columns, the line of real time, and its bounded size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictured import COLD, chunks, report

from omnirt_cli.picture.chunks import MOST_COLUMNS, ChunkChart, Measure, Part, chunk_chart, real_time_ms
from omnirt_cli.report import ChunkInfo, RunReport


def chart(of: RunReport) -> ChunkChart:
    found = chunk_chart(of)
    assert found is not None
    return found


def test_each_chunk_has_a_column_as_high_as_the_script_s_time_and_a_mark_at_the_wall_time() -> None:
    found = chart(report())

    assert [(column.name, column.height_ms, column.interval_ms) for column in found.columns[:2]] == [
        ("1", 1_900.0, 2_000.0),
        ("2", 900.0, 1_000.0),
    ]
    assert (found.parts, found.marks_interval, found.together) == ((Part.CORE,), True, 1)
    assert found.columns[1].title == ("chunk 2: the script's own time 900 ms, wall time since the chunk before 1.00 s")


def test_embedding_core_and_copy_stand_on_one_another() -> None:
    driven = [
        chunk.model_copy(update={"audio_embedding_ms": 40.0, "chunk_copy_ms": 60.0, "core_ms": 900.0})
        for chunk in chunks()
    ]

    column = chart(report(chunks=driven)).columns[1]

    assert [(layer.part, layer.start_ms, layer.end_ms) for layer in column.layers] == [
        (Part.EMBEDDING, 0, 40),
        (Part.CORE, 40, 940),
        (Part.COPY, 940, 1_000),
    ]


def test_where_the_script_prints_no_time_the_wall_time_is_the_column() -> None:
    found = chart(report(chunks=[ChunkInfo(index=index, interval_ms=500.0) for index in range(3)]))

    assert (found.parts, found.marks_interval) == ((Part.INTERVAL,), False)
    assert found.columns[1].height_ms == 500.0


def test_chunks_without_any_time_make_no_chart() -> None:
    assert chunk_chart(report(chunks=[])) is None
    assert chunk_chart(report(chunks=[ChunkInfo(index=0), ChunkInfo(index=1)])) is None


# --- real time ------------------------------------------------------------------------------------------


def test_real_time_is_the_duration_of_a_chunk_s_new_frames() -> None:
    # 28 frames at 25 fps; the report rounds the rate that this is read from.
    assert real_time_ms(report()) == 1_120.0


def test_one_chunk_is_enough_to_know_real_time() -> None:
    timings = {"chunk_count": 1.0, "generation_ms": 2_000.0, "frames_per_second": 14.0}

    assert real_time_ms(report(timings=timings, chunks=chunks(1))) == 1_120.0


def test_without_rates_or_without_expectations_real_time_is_not_known() -> None:
    assert real_time_ms(report(timings={"generation_ms": 1.0})) is None
    assert real_time_ms(report(expected=None)) is None
    assert chart(report(expected=None)).real_time_ms is None


def test_a_line_of_real_time_far_above_the_chart_is_said_instead() -> None:
    fast = [ChunkInfo(index=index, core_ms=20.0, interval_ms=20.0) for index in range(9)]
    timings = {**COLD, "steady_chunk_interval_ms_avg": 20.0, "steady_rtf": 0.018}

    found = chart(report(chunks=fast, timings=timings))

    assert found.scale.top < 30
    assert not found.shows_real_time
    assert [note for note in found.notes if "far above the chart" in note]


# --- the first chunk ---------------------------------------------------------------------------------------


def test_a_first_chunk_that_dwarfs_the_others_is_cut_and_its_time_said() -> None:
    found = chart(report(chunks=chunks(first_ms=60_000.0)))

    assert found.scale.top < 2_000
    assert found.cut is found.columns[0]
    assert "The first chunk took 60.0 s; its column is cut." in found.notes


def test_a_first_chunk_of_common_height_is_not_cut() -> None:
    found = chart(report())

    assert found.cut is None
    assert found.scale.top > 2_000


def test_a_single_chunk_is_never_cut() -> None:
    found = chart(report(chunks=chunks(1, first_ms=60_000.0)))

    assert found.cut is None


# --- many chunks -----------------------------------------------------------------------------------------------


def test_neighbours_share_a_column_where_there_are_too_many_and_the_slowest_is_kept() -> None:
    many = chunks(10_000)
    many[5_000] = many[5_000].model_copy(update={"core_ms": 4_000.0})

    found = chart(report(chunks=many))

    assert len(found.columns) <= MOST_COLUMNS
    assert found.columns[0].name == "1"
    assert found.columns[1].name == "2\N{EN DASH}86"
    assert found.columns[-1].last == 10_000
    slow = next(column for column in found.columns if column.first <= 5_001 <= column.last)
    assert slow.slowest_ms == 4_000.0
    assert slow.height_ms == pytest.approx(900 + 3_100 / 85)
    assert "average of up to 85 neighbours" in found.notes[0]


@given(count=st.integers(1, 3_000))
def test_columns_are_bounded_and_leave_no_chunk_out(count: int) -> None:
    found = chart(report(chunks=[ChunkInfo(index=index, interval_ms=1.0) for index in range(count)]))

    assert len(found.columns) <= MOST_COLUMNS
    assert [column.first for column in found.columns] == [1, *(column.last + 1 for column in found.columns[:-1])]
    assert found.columns[-1].last == count


# --- compared ----------------------------------------------------------------------------------------------------


def test_compared_columns_show_one_measure_only() -> None:
    core, interval = (chunk_chart(report(), measure=measure) for measure in (Measure.CORE, Measure.INTERVAL))

    assert core is not None
    assert interval is not None
    assert (core.parts, core.columns[1].height_ms, core.marks_interval) == ((Part.CORE,), 900.0, False)
    assert (interval.parts, interval.columns[1].height_ms, interval.marks_interval) == (
        (Part.INTERVAL,),
        1_000.0,
        False,
    )


def test_there_is_no_chart_of_core_times_where_the_script_printed_none() -> None:
    silent = report(chunks=[ChunkInfo(index=index, interval_ms=500.0) for index in range(3)])

    assert chunk_chart(silent, measure=Measure.CORE) is None
