"""npu-smi's tables, in every shape that drivers print, are read by meaning; what is not understood is not known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnirt_cli.devices.device import Device, Holder, Inventory
from omnirt_cli.devices.npu_smi import ask_npu_smi
from omnirt_cli.devices.npu_table import Chip, Table, read_mapping, read_table
from omnirt_cli.devices.vendor_tool import VendorToolError
from tests import vendor_tools
from tests.vendor_tools import Layout, answering_tool, calls, fake_npu_smi, npu_mapping, npu_table

SHAPES = Path(__file__).resolve().parents[1] / "data" / "npu_smi"
MIB = 1 / 1024


def shape(name: str) -> str:
    return (SHAPES / f"{name}.txt").read_text()


def ask(tmp_path: Path, name: str, mapping: str | None = None) -> Inventory:
    answers = {"info": shape(name)}
    if mapping is not None:
        answers["info -m"] = mapping
    answering_tool(tmp_path, "npu-smi", answers, otherwise="Error parameter of -m\n")
    return ask_npu_smi({"PATH": str(tmp_path)})


def only(found: Inventory, device_id: str) -> Device:
    device = found.device(device_id)
    assert device is not None
    return device


# The shapes


def test_910b_one_chip_a_card_with_npu_ids_of_a_container(tmp_path: Path) -> None:
    found = ask(tmp_path, "910b-25", shape("910b-25-m"))

    assert (found.ids, found.source, found.problem) == (("0", "1"), "npu-smi", None)
    assert only(found, "1") == Device(
        id="1",
        key="ascend-0000:41:00.0",
        name="910B4-1",
        bus_id="0000:41:00.0",
        total_gib=64.0,
        free_gib=(65536 - 2951) * MIB,
    )
    busy = only(found, "0")
    assert busy.health == "Warning"
    assert busy.free_gib == (65536 - 55710) * MIB
    assert busy.holders == (Holder(2201334, "python3.11", 52100 * MIB), Holder(2201399, "VLLM helper", 117 * MIB))


def test_a3_two_chips_a_card_with_physical_ids(tmp_path: Path) -> None:
    found = ask(tmp_path, "a3-25", shape("a3-25-m"))

    assert found.problem is None
    assert [(it.id, it.key, it.total_gib, it.free_gib) for it in found.devices or ()] == [
        ("0", "ascend-0000:8a:00.0", 64.0, (65536 - 3018) * MIB),
        ("1", "ascend-0000:8c:00.0", 64.0, (65536 - 2777) * MIB),
        ("2", "ascend-0000:91:00.0", 64.0, (65536 - 40211) * MIB),
        ("3", "ascend-0000:93:00.0", 64.0, (65536 - 2781) * MIB),
    ]
    assert [len(it.holders) for it in found.devices or ()] == [0, 0, 1, 0]


def test_310p_counts_its_plain_memory_and_tells_apart_the_chips_of_one_bus_id(tmp_path: Path) -> None:
    found = ask(tmp_path, "310p-24", shape("310p-24-m"))

    assert [(it.id, it.key) for it in found.devices or ()] == [
        ("0", "ascend-0000:02:00.0-0"),
        ("1", "ascend-0000:02:00.0-1"),
        ("2", "ascend-0000:82:00.0"),
    ]
    assert only(found, "0").total_gib == 44280 * MIB
    assert only(found, "1").free_gib == (43693 - 1490) * MIB
    assert only(found, "1").holders == (Holder(90211, "ascend_infer", 310 * MIB),)
    assert (only(found, "2").total_gib, only(found, "2").free_gib) == (None, None)


def test_23x_with_two_memories_counts_the_hbm(tmp_path: Path) -> None:
    found = ask(tmp_path, "910a-23")

    assert [(it.total_gib, it.free_gib) for it in found.devices or ()] == [(32.0, 32764 * MIB), (32.0, 32.0)]
    assert [it.health for it in found.devices or ()] == [None, "Critical"]


def test_26x_widened_with_the_process_id_in_the_container(tmp_path: Path) -> None:
    found = ask(tmp_path, "910b-26", shape("910b-26-m"))

    device = only(found, "0")
    assert (device.name, device.total_gib, device.free_gib) == ("910B2C", 64.0, (65536 - 48822) * MIB)
    assert device.holders == (Holder(3310021, "python", 44650 * MIB), Holder(3310077, "npu_exporter", None))


def test_a_table_without_a_row_means_no_device_and_is_not_asked_further(tmp_path: Path) -> None:
    found = ask(tmp_path, "empty-25")

    assert found.absent
    assert calls(tmp_path / "npu-smi") == ["info"]


def test_an_unknown_layout_is_not_no_device(tmp_path: Path) -> None:
    with pytest.raises(VendorToolError, match=r"no table that is understood: Die \| Address"):
        ask(tmp_path, "unknown-layout")


def test_a_row_that_is_not_understood_is_reported_beside_those_that_are(tmp_path: Path) -> None:
    strange = shape("910b-25").replace(
        "| 12    910B4-1             | Warning ", "| 12?   910B4-1             | Warning "
    )
    answering_tool(tmp_path, "npu-smi", {"info": strange, "info -m": shape("910b-25-m")})

    found = ask_npu_smi({"PATH": str(tmp_path)})

    assert "12?" in (found.problem or "")


def test_a_chip_whose_card_is_not_understood_is_not_given_to_the_card_before() -> None:
    table = read_table(
        shape("a3-25").replace(
            "| 1     Ascend910           | OK            | -  ", "| 1?    Ascend910           | OK            | -  "
        )
    )

    assert [(chip.npu, chip.chip) for chip in table.chips] == [(0, 0), (0, 1), (1, 0)]
    assert len(table.unread) == 2


# Logic ids


MAPPING = shape("910b-25-m")


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        (None, "Error parameter of -m"),
        ("", "does not give each chip a logic id of its own"),
        ("\n".join(MAPPING.splitlines()[:3]), "does not give each chip a logic id of its own"),
        (MAPPING.replace("12                             0   ", "5                              0   "), "of its own"),
    ],
    ids=["refused", "empty", "incomplete", "one chip twice"],
)
def test_without_a_whole_mapping_chips_are_counted_in_order_and_the_inventory_says_so(
    mapping: str | None, words: str, tmp_path: Path
) -> None:
    found = ask(tmp_path, "910b-25", mapping)

    assert [(it.id, it.bus_id) for it in found.devices or ()] == [("0", "0000:41:00.0"), ("1", "0000:02:00.0")]
    assert "counted in the order" in (found.problem or "")
    assert words in (found.problem or "")


def test_two_chips_of_one_logic_id_are_no_mapping(tmp_path: Path) -> None:
    chips = [vendor_tools.Chip(0, logic=0), vendor_tools.Chip(1, logic=0)]
    fake_npu_smi(tmp_path, chips)

    found = ask_npu_smi({"PATH": str(tmp_path)})

    assert found.ids == ("0", "1")
    assert "logic id of its own" in (found.problem or "")


def test_the_mcu_has_no_logic_id() -> None:
    assert read_mapping(MAPPING) == {(5, 0): 1, (12, 0): 0}
    assert read_mapping(shape("a3-25-m")) == {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3}


# Any table

chips = st.builds(
    vendor_tools.Chip,
    npu=st.integers(0, 40),
    chip=st.integers(0, 1),
    name=st.sampled_from(["910B1", "910B4-1", "910B2C", "310P3", "Ascend910"]),
    health=st.sampled_from(["OK", "Warning", "Alarm", "Critical"]),
    total_mib=st.integers(30_000, 131_072),
    used_mib=st.integers(0, 30_000),
    processes=st.lists(
        st.builds(vendor_tools.Process, st.integers(1, 4_194_304), st.just("python"), st.integers(1, 60_000)),
        max_size=3,
    ).map(tuple),
)
machines = st.lists(chips, unique_by=lambda it: (it.npu, it.chip), max_size=16)


@settings(max_examples=60, deadline=None)
@given(machines, st.sampled_from(Layout))
def test_every_machine_is_read_back_from_every_layout(machine: list[vendor_tools.Chip], layout: Layout) -> None:
    table = read_table(npu_table(machine, layout))

    assert table.unread == ()
    assert [(it.npu, it.chip, it.name, it.health, it.used_mib, it.total_mib) for it in table.chips] == [
        (it.npu, it.chip, it.name, it.health, it.used_mib, it.total_mib) for it in machine
    ]
    assert [[holder.pid for holder in it.holders] for it in table.chips] == [
        [process.pid for process in it.processes] for it in machine
    ]
    assert read_mapping(npu_mapping(machine, layout)) == {
        (chip.npu, chip.chip): place for place, chip in enumerate(machine)
    }


texts = st.sampled_from(sorted(path.read_text() for path in SHAPES.glob("*.txt")))


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A real table with some of its characters and lines lost, doubled or replaced."""
    text = draw(texts)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 120)))
        patch = draw(
            st.one_of(st.just(""), st.just(text[start:end] * 2), st.text("|/- 0123456789\n:NAB٣²", max_size=8))
        )
        text = text[:start] + patch + text[end:]
    return text


@settings(max_examples=300, deadline=None)
@given(mutated())
def test_a_damaged_table_never_raises_and_never_invents_memory(text: str) -> None:
    table = read_table(text)
    read_mapping(text)

    for chip in table.chips:
        assert (chip.used_mib is None) == (chip.total_mib is None)
        if chip.used_mib is not None and chip.total_mib is not None:
            assert 0 <= chip.used_mib <= chip.total_mib
            assert re.search(rf"(?<!\d)0*{chip.used_mib}\s*/\s*0*{chip.total_mib}(?!\d)", text)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_is_read_without_a_chip(text: str) -> None:
    assert read_table(text) == Table((), headed=False)
    assert read_mapping(text) == {}


def test_a_used_figure_above_the_total_is_no_memory() -> None:
    table = read_table(npu_table([vendor_tools.Chip(0, used_mib=70_000, total_mib=65_536)]))

    assert table.chips == (Chip(0, 0, "910B2", "OK", "0000:10:00.0", core_percent=0),)
