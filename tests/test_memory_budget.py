"""Device memory: what a mode needs against what is free, and the mode that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import omnirt_cli
from omnirt_cli.checkout import CheckoutFacts, inspect_checkout
from omnirt_cli.devices.device import Device, Holder
from omnirt_cli.errors import DevicesUnavailableError
from omnirt_cli.memory_budget import (
    BudgetStatus,
    DeviceNeed,
    Mode,
    ModeChoice,
    Verdict,
    device_need,
    fitting_mode,
    judge_devices,
    settable_modes,
)
from omnirt_cli.models.base import Backend, Geometry, KnobValue
from omnirt_cli.models.card import FigureKind, MemoryRow
from omnirt_cli.models.registry import adapter

CHECKOUTS = Path(omnirt_cli.__file__).parent / "miniature" / "checkouts"
FLASHTALK, FLASHHEAD = adapter("flashtalk"), adapter("flashhead")
PUBLISHED_SIZE = Geometry(448, 768, 33, 5, 25)
SMALL = Geometry(416, 704, 29, 1, 25)


def gpu(number: int, free: float | None, total: float | None = 80, **more: Any) -> Device:
    return Device(id=str(number), key=f"gpu-{number}", name="A100", total_gib=total, free_gib=free, **more)


def knobs(**values: Any) -> dict[str, KnobValue]:
    return {name: KnobValue(value, "test") for name, value in values.items()}


def need(gib: float, kind: FigureKind = FigureKind.MEASURED, **more: Any) -> DeviceNeed:
    return DeviceNeed(mode="bf16", gib=gib, kind=kind, source="a bench", **more)


@lru_cache
def settable(checkout: str) -> Callable[[str], bool]:
    """What the miniature of a checkout can be told."""
    facts: CheckoutFacts = inspect_checkout(CHECKOUTS / checkout, "generate_video.py")
    model = adapter(checkout.split("_", maxsplit=1)[0])
    variant = model.recognise(facts)
    return lambda knob: model.can_set(knob, facts, variant)


def flashtalk_choice(checkout: str, devices: Sequence[Device], *, processes: int = 1, **own: Any) -> ModeChoice:
    allowed = settable(checkout)
    return fitting_mode(
        FLASHTALK,
        Backend.CUDA,
        knobs(cpu_offload=False, **own),
        PUBLISHED_SIZE,
        devices=devices,
        processes=processes,
        can_set=lambda knob: knob not in own and allowed(knob),
        preset={"cpu_offload": True, "size": "416*704"},
    )


# --- what is needed -------------------------------------------------------------------------------


def test_the_need_follows_the_mode() -> None:
    whole = device_need(FLASHTALK, Backend.CUDA, knobs(cpu_offload=False), PUBLISHED_SIZE, 8)
    offloaded = device_need(FLASHTALK, Backend.CUDA, knobs(cpu_offload=True), PUBLISHED_SIZE, 1)

    assert whole is not None
    assert offloaded is not None
    assert (whole.gib, whole.kind) == (60, FigureKind.PUBLISHED)
    assert (offloaded.gib, offloaded.kind, offloaded.most_processes) == (38.5, FigureKind.MEASURED, 1)


def test_the_row_that_names_most_settings_holds() -> None:
    both = device_need(FLASHTALK, Backend.CUDA, knobs(cpu_offload=True, quantize="quanto-int4"), SMALL, 1)

    assert both is not None
    assert both.mode == "quantize quanto-int4 and cpu_offload, one device"


def test_a_measurement_is_an_estimate_for_a_smaller_picture() -> None:
    small = device_need(FLASHTALK, Backend.CUDA, knobs(cpu_offload=True), SMALL, 1)

    assert small is not None
    assert (small.gib, small.kind) == (38.5, FigureKind.ESTIMATED)


def test_nothing_is_needed_where_nothing_is_known() -> None:
    assert device_need(FLASHTALK, Backend.CPU, knobs(), SMALL, 1) is None


def test_what_processes_share_shrinks_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    row = MemoryRow(
        mode="cache",
        backend="cuda",
        per_device_gib=40,
        shared_bytes_per_pixel=134400,
        kind=FigureKind.ESTIMATED,
        source="its formula",
    )
    monkeypatch.setattr(type(FLASHTALK), "memory_row", lambda *_: row)
    geometry = Geometry(416, 720, 33, 5, 20)

    alone = device_need(FLASHTALK, Backend.CUDA, {}, geometry, 1)
    four = device_need(FLASHTALK, Backend.CUDA, {}, geometry, 4)
    row = row.model_copy(update={"most_processes": 1})
    only_one = device_need(FLASHTALK, Backend.CUDA, {}, geometry, 4)

    assert alone is not None
    assert four is not None
    assert only_one is not None
    assert only_one.gib == alone.gib
    assert alone.gib == pytest.approx(40 + 134400 * 416 * 720 / 2**30)
    assert four.gib - 40 == pytest.approx((alone.gib - 40) / 4)


# --- whether it fits ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (FigureKind.MEASURED, BudgetStatus.REFUSE),
        (FigureKind.PUBLISHED, BudgetStatus.WARN),
        (FigureKind.ESTIMATED, BudgetStatus.WARN),
    ],
)
def test_only_what_was_measured_refuses(kind: FigureKind, status: BudgetStatus) -> None:
    assert judge_devices(need(40, kind), [gpu(0, 39.9)], 1).status is status
    assert judge_devices(need(40, kind), [gpu(0, 40)], 1).status is BudgetStatus.OK


def test_the_device_with_the_least_free_memory_decides() -> None:
    busy = gpu(5, 12.3, holders=(Holder(4711, "python3", 66.0), Holder(12, None, 0.5)))

    verdict = judge_devices(need(40), [gpu(3, 79), busy], 2)

    assert verdict.status is BudgetStatus.REFUSE
    for fact in ("needs 40 GiB", "device 5 (A100) has 12.3 GiB free of 80 GiB", "process 4711 (python3) holds 66 GiB"):
        assert fact in verdict.message
    assert "has room: 3" in (verdict.hint or "")


def test_devices_that_no_process_takes_do_not_matter() -> None:
    assert judge_devices(need(40), [gpu(0, 50), gpu(1, 3)], 1).status is BudgetStatus.OK


def test_memory_is_added_up_only_where_a_source_does() -> None:
    devices = [gpu(number, 15) for number in range(4)]

    assert judge_devices(need(48, aggregate=True), devices, 4).status is BudgetStatus.OK
    assert judge_devices(need(48), devices, 4).status is BudgetStatus.REFUSE
    short = judge_devices(need(61, FigureKind.PUBLISHED, aggregate=True), devices, 4)
    assert short.status is BudgetStatus.WARN
    assert "4 devices have 60 GiB free together" in short.message


def test_a_floor_that_somebody_hit_refuses_whatever_is_published() -> None:
    published = need(60, FigureKind.PUBLISHED, fails_under_gib=47.2)

    assert judge_devices(published, [gpu(0, 47.3)], 1).status is BudgetStatus.WARN
    refused = judge_devices(published, [gpu(0, 47.1)], 1)
    assert refused.status is BudgetStatus.REFUSE
    assert "known to fail" in refused.message


def test_fewer_devices_than_processes_are_refused() -> None:
    verdict = judge_devices(need(1), [gpu(0, 80), gpu(1, 80)], 4)

    assert verdict.status is BudgetStatus.REFUSE
    assert "--nproc-per-node 2" in (verdict.hint or "")


def test_unknown_memory_is_unknown_and_said() -> None:
    verdict = judge_devices(need(40), [gpu(0, 79), gpu(1, None, None)], 2)

    assert verdict.status is BudgetStatus.UNKNOWN
    assert "device 1" in verdict.message
    assert judge_devices(need(40), [], 1).status is BudgetStatus.UNKNOWN
    assert judge_devices(None, [gpu(0, 79)], 1).status is BudgetStatus.UNKNOWN


def test_a_device_too_small_altogether_needs_no_free_figure() -> None:
    verdict = judge_devices(need(40), [gpu(0, None, 24)], 1)

    assert verdict.status is BudgetStatus.REFUSE
    assert "24 GiB in all" in verdict.message


def test_a_shortage_is_told_even_where_another_device_is_unknown() -> None:
    assert judge_devices(need(40), [gpu(0, None, None), gpu(1, 3)], 2).status is BudgetStatus.REFUSE


def test_free_memory_is_never_rounded_up_to_what_is_needed() -> None:
    assert "39.9 GiB free" in judge_devices(need(40), [gpu(0, 39.99)], 1).message


def test_the_refusal_names_the_mode_that_would_fit() -> None:
    allowed = settable("flashtalk_new")
    plain = knobs(cpu_offload=False)
    wanted = device_need(FLASHTALK, Backend.CUDA, plain, PUBLISHED_SIZE, 1)
    others = settable_modes(FLASHTALK, Backend.CUDA, plain, PUBLISHED_SIZE, 1, can_set=allowed)

    verdict = judge_devices(wanted, [gpu(0, 44, 48)], 1, others=others)

    assert verdict.status is BudgetStatus.REFUSE
    assert verdict.hint == "--cpu-offload needs 38.5 GiB and would fit (one process only, on device 0)"


def test_a_mode_of_one_process_takes_the_roomiest_device() -> None:
    other = Mode({"cpu_offload": True}, DeviceNeed("offload", 38.5, FigureKind.MEASURED, "a bench", most_processes=1))
    held = gpu(0, 3, holders=(Holder(4711),))

    verdict = judge_devices(need(60), [held, gpu(1, 44)], 2, others=[other])

    assert verdict.hint == (
        "--cpu-offload needs 38.5 GiB and would fit (one process only, on device 1); or wait until they are free"
    )
    assert "process 4711 uses it" in verdict.message


def test_an_estimate_promises_nothing() -> None:
    other = Mode({"quantize": "quanto-int4"}, DeviceNeed("int4", 15, FigureKind.ESTIMATED, "weights"))

    verdict = judge_devices(need(60), [gpu(0, 20)], 1, others=[other])

    assert verdict.hint == "--quantize quanto-int4 needs 15 GiB and may fit (estimated)"


def test_a_mode_that_does_not_fit_either_is_not_named() -> None:
    other = Mode({"cpu_offload": True}, DeviceNeed("cpu_offload", 30, FigureKind.MEASURED, "a bench"))

    verdict = judge_devices(need(40), [gpu(0, 20)], 1, others=[other])

    assert "--cpu-offload" not in (verdict.hint or "")
    assert verdict.hint


def test_a_refusal_can_be_raised() -> None:
    verdict = Verdict(BudgetStatus.REFUSE, "too little", "more")

    error = verdict.error()

    assert isinstance(error, DevicesUnavailableError)
    assert (error.message, error.hint, error.exit_status) == ("too little", "more", 69)


# --- other modes ----------------------------------------------------------------------------------


def modes_of(backend: Backend, can_set: Callable[[str], bool], **values: Any) -> list[str]:
    modes = settable_modes(FLASHTALK, backend, knobs(**values), PUBLISHED_SIZE, 1, can_set=can_set)
    return [mode.need.mode for mode in modes]


def test_modes_are_those_that_the_checkout_can_be_told_best_first() -> None:
    assert modes_of(Backend.CUDA, lambda _: False) == ["bf16"]
    assert modes_of(Backend.CUDA, lambda knob: knob == "cpu_offload") == ["bf16", "cpu_offload, one device"]


def test_modes_that_nobody_is_known_to_have_run_are_not_offered() -> None:
    assert not [mode for mode in modes_of(Backend.CUDA, lambda _: True) if "nf4" in mode]
    assert modes_of(Backend.ASCEND, lambda _: True) == ["bf16"]


def test_no_mode_takes_a_setting_back(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        MemoryRow(
            mode="plain", backend="cuda", when={"quantize": None}, per_device_gib=9, kind="published", source="x"
        ),
        MemoryRow(mode="small", backend="cuda", per_device_gib=3, kind="published", source="x"),
    ]
    monkeypatch.setattr(type(FLASHTALK), "card", FLASHTALK.card.model_copy(update={"memory": rows}))

    assert modes_of(Backend.CUDA, lambda _: True, quantize="quanto-int4") == ["small"]


# --- the preset for little memory -----------------------------------------------------------------


def test_nothing_is_given_up_where_the_whole_model_fits() -> None:
    choice = flashtalk_choice("flashtalk_new", [gpu(0, 79)])

    assert dict(choice.knobs) == {"size": "416*704"}
    assert choice.warning is None


def test_weights_go_to_host_memory_where_only_that_fits() -> None:
    choice = flashtalk_choice("flashtalk_new", [gpu(0, 44)])

    assert dict(choice.knobs) == {"size": "416*704", "cpu_offload": True}
    assert choice.need is not None
    assert choice.need.most_processes == 1


def test_the_quantizing_fork_goes_further_down() -> None:
    assert flashtalk_choice("flashtalk_quant", [gpu(0, 23.6)]).knobs["quantize"] == "quanto-int8"
    assert flashtalk_choice("flashtalk_quant", [gpu(0, 17)]).knobs["quantize"] == "quanto-int4"
    assert flashtalk_choice("flashtalk_quant", [gpu(0, 17)]).knobs["cpu_offload"] is True


def test_where_nothing_fits_the_smallest_is_taken_with_a_warning() -> None:
    choice = flashtalk_choice("flashtalk_new", [gpu(0, 20)])

    assert choice.knobs["cpu_offload"] is True
    assert "38.5 GiB" in (choice.warning or "")
    assert "20 GiB free" in (choice.warning or "")


def test_the_card_decides_where_memory_is_unknown() -> None:
    expected = {"cpu_offload": True, "size": "416*704"}

    assert dict(flashtalk_choice("flashtalk_new", [gpu(0, None)]).knobs) == expected
    assert dict(flashtalk_choice("flashtalk_new", []).knobs) == expected


def test_what_the_user_said_stands() -> None:
    choice = flashtalk_choice("flashtalk_quant", [gpu(0, 44)], quantize="quanto-int4")

    assert dict(choice.knobs) == {"size": "416*704", "cpu_offload": True}
    assert choice.need is not None
    assert choice.need.mode == "quantize quanto-int4 and cpu_offload, one device"


def test_flashhead_stays_pro_as_long_as_it_fits() -> None:
    def chosen(free: float) -> dict[str, Any]:
        choice = fitting_mode(
            FLASHHEAD,
            Backend.CUDA,
            knobs(model_type="pro"),
            Geometry(512, 512, 33, 5, 25),
            devices=[gpu(0, free)],
            processes=1,
            can_set=settable("flashhead"),
            preset={"model_type": "lite"},
        )
        return dict(choice.knobs)

    assert chosen(14.5) == {}
    assert chosen(13) == {"model_type": "lite"}


def test_a_model_without_figures_keeps_its_preset() -> None:
    choice = fitting_mode(
        FLASHTALK,
        Backend.CPU,
        knobs(),
        SMALL,
        devices=[gpu(0, 1)],
        processes=1,
        can_set=lambda _: True,
        preset={"cpu_offload": True},
    )

    assert choice == ModeChoice({"cpu_offload": True})


@given(
    free=st.floats(1, 200), processes=st.integers(1, 4), checkout=st.sampled_from(["flashtalk_new", "flashtalk_quant"])
)
def test_a_choice_without_a_warning_is_never_refused_for_want_of_room(
    free: float, processes: int, checkout: str
) -> None:
    devices = [gpu(number, free) for number in range(processes)]

    choice = flashtalk_choice(checkout, devices, processes=processes)
    assert choice.need is not None
    verdict = judge_devices(choice.need, devices, processes)

    assert (verdict.status is BudgetStatus.OK) is (choice.warning is None)
