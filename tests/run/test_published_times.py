"""Whether a run was slower than published: told with the source, and never by what is unlike."""

from __future__ import annotations

from typing import Any

import pytest
from run_reports import FLASHHEAD, FLASHTALK, devices, report, timings

from omnirt_cli.models.card import TimingRow, model_card
from omnirt_cli.report import ChunkInfo, ExpectedInfo, RunReport
from omnirt_cli.run.published_times import comparable, slower_than_published

TEN_SECONDS = ExpectedInfo(chunks=9, frames=250, fps=25, duration_s=10, width=512, height=512)
PUBLISHED = {"expected": TEN_SECONDS, "timings": timings(total_ms=180_000.0, denoise_loop_ms=69_501.0)}
"""The published FlashHead run, and more than twice as slow as a whole."""


def test_a_run_much_slower_than_published_is_told_with_the_source() -> None:
    found = slower_than_published(report(**PUBLISHED), model_card(FLASHHEAD))

    assert found is not None
    assert found.code == "slower_than_published"
    assert found.what == "10 s video, cold, whole: 180 s, 2.2 times the published 83.0 s"
    assert "OmniRT FlashHead benchmark, 2026-04-28" in found.why
    assert "2 x Ascend 910B2" in found.why


def test_a_run_as_fast_as_published_is_not_slow() -> None:
    made = report(expected=TEN_SECONDS, timings=timings(total_ms=90_000.0, denoise_loop_ms=75_000.0))

    assert slower_than_published(made, model_card(FLASHHEAD)) is None


def config(**changes: Any) -> dict[str, Any]:
    return {"config_resolved": {**report().config_resolved, **changes}}


UNLIKE: list[tuple[str, dict[str, Any]]] = [
    ("another device", {"devices": devices(2, "910B4")}),
    ("a device whose name only begins alike", {"devices": devices(2, "910B2C")}),
    ("a device without a name", {"devices": devices(2, None)}),
    ("more devices", {"devices": devices(8)}),
    ("another mode", config(audio_encode_mode="once")),
    ("more steps", config(sample_steps=4)),
    ("another model type", config(model_type="lite")),
    ("the VAE not split", config(vae_2d_split=False)),
    ("attention not fused", config(npu_fusion_attention=False)),
    ("a knob that is not known", config(npu_fusion_attention=None)),
    ("another size", {"expected": TEN_SECONDS.model_copy(update={"width": 256})}),
    ("a longer video", {"expected": TEN_SECONDS.model_copy(update={"duration_s": 60})}),
    ("a resident worker", {"execution_mode": "persistent_worker"}),
]


@pytest.mark.parametrize("changes", [row[1] for row in UNLIKE], ids=[row[0] for row in UNLIKE])
def test_what_is_unlike_is_not_compared(changes: dict[str, Any]) -> None:
    assert slower_than_published(report(**{**PUBLISHED, **changes}), model_card(FLASHHEAD)) is None


@pytest.mark.parametrize("name", ["910B2", "Ascend 910B2", "Ascend910B2"])
def test_a_device_is_known_by_every_spelling_of_its_name(name: str) -> None:
    assert slower_than_published(report(**PUBLISHED, devices=devices(2, name)), model_card(FLASHHEAD)) is not None


def flashtalk(**changes: Any) -> RunReport:
    """As the published resident benchmark ran it."""
    facts: dict[str, Any] = {
        "model": FLASHTALK,
        "execution_mode": "persistent_worker",
        "devices": devices(8),
        "config_resolved": {
            "audio_encode_mode": "stream",
            "sample_steps": 2,
            "frame_num": 29,
            "motion_frames_num": 1,
        },
        "expected": ExpectedInfo(chunks=34, frames=937, fps=25, duration_s=37.48, width=416, height=704),
        "timings": {"steady_chunk_core_ms_avg": 1_900.0, "chunk_count": 34.0, "total_ms": 66_000.0},
        "chunks": [ChunkInfo(index=0, core_ms=1_950.0, core_scope="core")],
    }
    return report(**{**facts, **changes})


def test_a_steady_chunk_is_compared_with_a_published_one() -> None:
    found = slower_than_published(flashtalk(), model_card(FLASHTALK))

    assert found is not None
    assert found.what == "steady chunk, core: 1.9 s, 2.1 times the published 891 ms"


def test_a_chunk_time_that_covers_more_is_not() -> None:
    wider = [ChunkInfo(index=0, core_ms=1_950.0, core_scope="audio_encoding+core")]

    assert slower_than_published(flashtalk(chunks=wider), model_card(FLASHTALK)) is None


def test_a_cold_script_s_first_chunk_is_compared_with_a_cold_one_only() -> None:
    first = [ChunkInfo(index=0, core_ms=39_000.0, core_scope="core")]
    cold = {"model_load_ms": 80_000.0, "chunk_count": 34.0}
    row = next(row for row in model_card(FLASHTALK).timing if row.what == "first chunk, core")

    assert comparable(flashtalk(execution_mode="subprocess", chunks=first, timings=cold), row) == 39_000.0
    assert comparable(flashtalk(chunks=first, timings=cold), row) is None
    assert comparable(flashtalk(execution_mode="subprocess", chunks=first, timings={}), row) is None


def test_settings_that_are_not_understood_are_not_compared() -> None:
    row = TimingRow(
        what="steady chunk, core",
        value_ms=891.0,
        hardware="8 x Ascend 910B2",
        settings="416*704, 2 steps",
        source="a paper",
    )

    assert comparable(flashtalk(), row) == 1_900.0
    assert comparable(flashtalk(), row.model_copy(update={"settings": "416*704, 2 steps, warm caches"})) is None
    assert comparable(flashtalk(), row.model_copy(update={"settings": "2 steps"})) is None, "no size"
    assert comparable(flashtalk(), row.model_copy(update={"settings": "512*512 or 416*704, 2 steps"})) == 1_900.0
    assert comparable(flashtalk(), row.model_copy(update={"settings": "512*512 or 320*320, 2 steps"})) is None
    assert comparable(flashtalk(), row.model_copy(update={"settings": "416*704, 25 frames a second"})) == 1_900.0
    assert comparable(flashtalk(), row.model_copy(update={"settings": "416*704, 20 frames a second"})) is None
    assert comparable(flashtalk(), row.model_copy(update={"what": "a good chunk"})) is None
    assert comparable(flashtalk(), row.model_copy(update={"hardware": "Ascend 910B2"})) is None


def test_a_knob_that_was_set_beside_the_published_ones_makes_a_run_unlike() -> None:
    row = model_card(FLASHTALK).timing[0]
    knobs = {**flashtalk().config_resolved, "cpu_offload": True, "seed": 7}

    by_hand = flashtalk(config_resolved=knobs, config_sources={"cpu_offload": "flag", "seed": "flag"})
    by_itself = flashtalk(config_resolved=knobs, config_sources={"cpu_offload": "model default", "seed": "flag"})

    assert comparable(by_hand, row) is None
    assert comparable(by_itself, row) == 1_900.0


def test_one_device_needs_no_number() -> None:
    row = TimingRow(what="steady chunk, core", value_ms=891.0, hardware="RTX 5090", settings="416*704", source="x")

    assert comparable(flashtalk(devices=devices(1, "NVIDIA GeForce RTX 5090")), row) == 1_900.0
    assert comparable(flashtalk(devices=devices(2, "NVIDIA GeForce RTX 5090")), row) is None


@pytest.mark.parametrize(
    ("name", "alike"),
    [
        ("NVIDIA H100 80GB HBM3", True),
        ("NVIDIA H200", True),
        ("NVIDIA H100 PCIe", False),
        ("NVIDIA GeForce RTX 4090", False),
    ],
)
def test_nvidia_s_names_are_read(name: str, alike: bool) -> None:
    row = TimingRow(
        what="steady chunk, core", value_ms=500.0, hardware="8 x H100 or H200", settings="416*704", source="x"
    )

    assert (comparable(flashtalk(devices=devices(8, name)), row) is not None) is alike


def test_every_published_time_that_omnirt_s_own_runs_can_have_is_understood() -> None:
    """A row with a misspelt word would never be compared, and nobody would notice."""
    for row in model_card(FLASHHEAD).timing:
        made = report(
            **{**PUBLISHED, "timings": timings()}, devices=devices(int(row.hardware.split()[0]), "Ascend 910B2")
        )
        assert comparable(made, row) is not None, row
