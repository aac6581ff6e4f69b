"""Which devices a run gets, and what is said where it gets none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from omnirt_cli.devices.device import Device, Holder
from omnirt_cli.devices.selection import Choice, DeviceRequest, choose
from omnirt_cli.errors import DevicesUnavailableError
from omnirt_cli.models.base import Backend


def _device(
    number: int | str,
    *,
    free_gib: float | None = 60.0,
    holders: Sequence[Holder] = (),
    health: str | None = None,
) -> Device:
    return Device(
        id=str(number),
        key=f"key-{number}",
        total_gib=64.0,
        free_gib=free_gib,
        health=health,
        holders=tuple(holders),
    )


def _request(candidates: Sequence[Device], count: int, *, chosen_by_user: bool = False) -> DeviceRequest:
    return DeviceRequest(Backend.ASCEND, tuple(candidates), count, chosen_by_user)


def _chosen(
    candidates: Sequence[Device], count: int, *, leased: Sequence[str] = (), need_gib: float | None = None
) -> tuple[str, ...]:
    choice = choose(_request(candidates, count), lambda device: device.id not in leased, need_gib)
    assert choice.leased == ()
    return tuple(device.id for device in choice.devices)


def test_named_devices_are_taken_whatever_their_memory_and_health() -> None:
    named = [_device(3, free_gib=0.5), _device(1, health="Alarm"), _device(2, holders=[Holder(7)])]

    assert choose(_request(named, 2, chosen_by_user=True), lambda _: True, 40.0) == Choice(tuple(named))


def test_named_devices_are_taken_together_or_not_at_all() -> None:
    named = [_device(0), _device(1)]

    choice = choose(_request(named, 2, chosen_by_user=True), lambda device: device.id == "0")

    assert choice == Choice((), (named[1],))


def test_leased_devices_are_passed_over() -> None:
    assert _chosen([_device(n) for n in range(4)], 2, leased=["0", "2"]) == ("1", "3")


def test_devices_that_lack_memory_are_passed_over() -> None:
    devices = [_device(0, free_gib=10.0), _device(1, free_gib=39.9), _device(2, free_gib=40.0)]

    assert _chosen(devices, 1, need_gib=40.0) == ("2",)


def test_known_memory_is_preferred_to_unknown_and_unknown_to_none() -> None:
    devices = [_device(0, free_gib=None), _device(1, free_gib=1.0), _device(2)]

    assert _chosen(devices, 1, need_gib=40.0) == ("2",)
    assert _chosen(devices, 2, need_gib=40.0) == ("0", "2")


def test_unknown_memory_does_not_matter_where_no_need_is_known() -> None:
    assert _chosen([_device(0, free_gib=None), _device(1)], 1) == ("0",)


def test_devices_without_programs_of_others_come_first() -> None:
    devices = [
        _device(0, holders=[Holder(1), Holder(2)]),
        _device(1),
        _device(2, holders=[Holder(1)]),
        _device(3, holders=[Holder(1)]),
        _device(4),
    ]

    assert _chosen(devices, 2) == ("1", "4")
    assert _chosen(devices, 3) == ("1", "2", "4")
    assert _chosen(devices, 5) == ("0", "1", "2", "3", "4")


def test_neighbours_are_preferred() -> None:
    assert _chosen([_device(n) for n in range(8)], 2, leased=["1", "3", "4"]) == ("6", "7")


def test_of_equally_near_groups_the_aligned_one_is_chosen() -> None:
    devices = [_device(n) for n in range(8)]

    assert _chosen(devices, 4, leased=["0"]) == ("4", "5", "6", "7")
    assert _chosen(devices, 2, leased=["0"]) == ("2", "3")


def test_numbers_are_compared_as_numbers_and_returned_ascending() -> None:
    assert _chosen([_device(10), _device(9), _device(2)], 2) == ("9", "10")


def test_named_ids_keep_the_order_of_the_list() -> None:
    devices = [_device("MIG-b"), _device("MIG-a"), _device("MIG-c")]

    assert _chosen(devices, 2) == ("MIG-b", "MIG-a")


def test_too_few_devices_are_no_matter_of_waiting() -> None:
    with pytest.raises(DevicesUnavailableError, match="3 devices asked for, 2 to be seen") as caught:
        choose(_request([_device(0), _device(1)], 3), lambda _: False)

    assert caught.value.hint == "ask for 2 at most, or make more devices visible"


def test_a_sick_device_is_named_and_not_taken() -> None:
    devices = [_device(0, health="Alarm"), _device(1)]

    assert _chosen(devices, 1) == ("1",)
    with pytest.raises(DevicesUnavailableError, match=r"2 to be seen, not well: 0 \(Alarm\)"):
        choose(_request(devices, 2), lambda _: True)


def test_leased_devices_are_worth_waiting_for_even_where_their_run_fills_them() -> None:
    devices = [_device(0), _device(1, free_gib=2.0, holders=[Holder(9)])]

    choice = choose(_request(devices, 2), lambda device: device.id == "0", 40.0)

    assert choice == Choice((), (devices[1],))


def test_foreign_programs_are_named_where_waiting_for_runs_cannot_help() -> None:
    devices = [
        _device(0),
        _device(1, free_gib=3.25, holders=[Holder(4711, "python", 60.5), Holder(12)]),
        _device(2, free_gib=1.0),
    ]

    with pytest.raises(DevicesUnavailableError) as caught:
        choose(_request(devices, 2), lambda _: True, 40.0)

    assert caught.value.message == (
        "2 devices with 40.0 GiB free asked for, 1 to be had: "
        "device 1 has 3.2 of 64.0 GiB free, held by pid 4711 (python) with 60.5 GiB, pid 12; "
        "device 2 has 1.0 of 64.0 GiB free, held by a program that the vendor's tool does not name"
    )
    assert caught.value.hint == "end what holds them, or ask for 1 at most"


def test_an_empty_device_that_is_too_small_is_not_blamed_on_a_program() -> None:
    with pytest.raises(DevicesUnavailableError) as caught:
        choose(_request([_device(0, free_gib=63.5)], 1), lambda _: True, 70.0)

    assert "held by" not in caught.value.message
    assert "64.0 GiB in all" in caught.value.message
