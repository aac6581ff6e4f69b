"""Which devices a run may see: one source decides, and a list that would be misread is refused, corrected."""

from __future__ import annotations

import pytest

from omnirt_cli.devices.device import DEVICE_NODES, Device, Inventory
from omnirt_cli.devices.visibility import Visibility, require_enough, resolve_visibility
from omnirt_cli.errors import DevicesUnavailableError, ExitCode
from omnirt_cli.models.base import Backend

FIRST, TWIN, THIRD = "GPU-5f1c0a77-1b0e", "GPU-5f1c9b31-0c0d", "GPU-a0e9d3c2-77aa"
MIG = "MIG-6e4f0b2d-9a1c"

GPUS = Inventory(
    Backend.CUDA,
    (
        *(Device(str(place), uuid, uuid=uuid) for place, uuid in enumerate((FIRST, TWIN, THIRD))),
        Device(MIG, MIG, uuid=MIG),
    ),
    "nvml",
)
NPUS = Inventory(Backend.ASCEND, tuple(Device(str(n), f"ascend-0000:{n:02x}:00.0") for n in range(4)), "npu-smi")


def refusal(
    kind: Backend, flag: str | None, environ: dict[str, str] | None = None, inventory: Inventory | None = None
) -> DevicesUnavailableError:
    with pytest.raises(DevicesUnavailableError) as caught:
        resolve_visibility(kind, flag, environ or {}, inventory=inventory)
    assert caught.value.exit_code is ExitCode.DEVICES_UNAVAILABLE
    return caught.value


# Who decides


def test_the_flag_decides_then_the_variable_then_all() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "1,2,3"}

    by_flag = resolve_visibility(Backend.CUDA, "2,3", environ)
    by_variable = resolve_visibility(Backend.CUDA, None, environ)
    by_nobody = resolve_visibility(Backend.CUDA, None, {})

    assert (by_flag.value, by_flag.source) == ("2,3", "--visible-devices")
    assert (by_variable.value, by_variable.source) == ("1,2,3", "CUDA_VISIBLE_DEVICES")
    assert (by_nobody.value, by_nobody.source) == (None, "all")


def test_the_other_vendors_variable_decides_nothing() -> None:
    assert resolve_visibility(Backend.ASCEND, None, {"CUDA_VISIBLE_DEVICES": "1"}).ids is None


def test_the_cpu_needs_no_visibility() -> None:
    assert resolve_visibility(Backend.CPU, "7", {"CUDA_VISIBLE_DEVICES": "x"}).ids is None


@pytest.mark.parametrize("kind", [Backend.ASCEND, Backend.CUDA])
def test_the_flag_must_name_what_the_variable_lets_through(kind: Backend) -> None:
    variable = {Backend.ASCEND: "ASCEND_RT_VISIBLE_DEVICES", Backend.CUDA: "CUDA_VISIBLE_DEVICES"}[kind]

    error = refusal(kind, "1,2", {variable: "0,1"})

    assert f"names 2, but {variable}=0,1 hides it" in error.message
    assert error.hint == f"choose among 0,1, or unset {variable}"


def test_a_number_and_a_uuid_may_be_the_same_device() -> None:
    by_number = resolve_visibility(Backend.CUDA, "0,2", {"CUDA_VISIBLE_DEVICES": f"{THIRD},{FIRST}"}, inventory=GPUS)
    by_uuid = resolve_visibility(Backend.CUDA, "GPU-a0", {"CUDA_VISIBLE_DEVICES": "0,2"}, inventory=GPUS)

    assert by_number.value == "0,2"
    assert by_uuid.value == THIRD
    assert "hides it" in refusal(Backend.CUDA, "1", {"CUDA_VISIBLE_DEVICES": FIRST}, GPUS).message
    assert "hides it" in refusal(Backend.CUDA, TWIN, {"CUDA_VISIBLE_DEVICES": "0,2"}, GPUS).message


# Lists that would be misread


@pytest.mark.parametrize("kind", [Backend.ASCEND, Backend.CUDA])
@pytest.mark.parametrize(
    ("text", "complaint", "corrected"),
    [
        ("1, 2", "spaces", "1,2"),
        (" 1,2", "spaces", "1,2"),
        ("1,,2", "spaces and empty entries", "1,2"),
        ("1,2,", "spaces and empty entries", "1,2"),
        ("01,2", "begins with a zero", "1,2"),
        ("2,1", "ascending", "1,2"),
        ("2,10,1", "ascending", "1,2,10"),
        ("1,1,2", "twice", "1,2"),
        ("1,x,2", "'x' is no device number", "1,2"),
        ("1,-1,2", "'-1' is no device number", "1,2"),
        ("1;2,3", "'1;2' is no device number", "3"),
        ("1,٣", "'٣' is no device number", "1"),
    ],
)
def test_a_list_that_a_runtime_would_misread_is_refused_with_the_corrected_one(
    kind: Backend, text: str, complaint: str, corrected: str
) -> None:
    error = refusal(kind, text)

    assert complaint in error.message
    assert error.hint == f"write {corrected}"


def test_the_variable_is_judged_like_the_flag() -> None:
    error = refusal(Backend.ASCEND, None, {"ASCEND_RT_VISIBLE_DEVICES": "1, 2,3"})

    assert error.message.startswith("ASCEND_RT_VISIBLE_DEVICES='1, 2,3' is malformed")
    assert error.hint == "write 1,2,3"


@pytest.mark.parametrize("kind", [Backend.ASCEND, Backend.CUDA])
@pytest.mark.parametrize("text", ["", " ", ",", "-1", "all", "NoDevFiles"])
def test_a_list_without_a_device_is_refused(kind: Backend, text: str) -> None:
    assert "makes no device visible" in refusal(kind, text).message
    variable = {Backend.ASCEND: "ASCEND_RT_VISIBLE_DEVICES", Backend.CUDA: "CUDA_VISIBLE_DEVICES"}[kind]
    assert "makes no device visible" in refusal(kind, None, {variable: text}).message


@pytest.mark.parametrize("text", ["0,GPU-1a", f"{FIRST},2", f"{MIG},0"])
def test_numbers_and_uuids_do_not_mix(text: str) -> None:
    assert "mixes numbers and UUIDs" in refusal(Backend.CUDA, text, inventory=GPUS).message


def test_ascend_has_no_uuids() -> None:
    assert "'GPU-1a' is no device number" in refusal(Backend.ASCEND, "0,GPU-1a").message


# Devices that are not there


def test_a_number_out_of_range_is_refused_with_those_that_are_there() -> None:
    error = refusal(Backend.ASCEND, "2,3,4,9", inventory=NPUS)

    assert "names 4, 9, which is not among the ascend devices here (0,1,2,3)" in error.message
    assert error.hint == "write 2,3"
    assert refusal(Backend.ASCEND, "8", inventory=NPUS).hint == "choose among 0,1,2,3"


def test_the_variable_may_not_name_what_is_not_there_either() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "0,7"}

    assert "CUDA_VISIBLE_DEVICES=0,7 names 7" in refusal(Backend.CUDA, None, environ, GPUS).message


@pytest.mark.parametrize("text", ["GPU-ffff", "MIG-0000", MIG[:8]])
def test_a_uuid_that_is_not_there_is_refused(text: str) -> None:
    assert f"names {text}, which is not among" in refusal(Backend.CUDA, text, inventory=GPUS).message


@pytest.mark.parametrize("text", [f"{THIRD},{FIRST}", MIG, "MIG-GPU-8932f937-d72c/1/0"])
def test_uuids_are_taken_as_they_stand_where_nobody_knows_better(text: str) -> None:
    assert resolve_visibility(Backend.CUDA, text, {}).value == text


def test_the_beginning_of_a_uuid_becomes_the_whole() -> None:
    found = resolve_visibility(Backend.CUDA, "GPU-a0e9,GPU-5f1c0", {}, inventory=GPUS)

    assert found.value == f"{THIRD},{FIRST}"


def test_the_beginning_of_two_uuids_is_refused() -> None:
    error = refusal(Backend.CUDA, "GPU-5f1c", inventory=GPUS)

    assert "beginning of several UUIDs" in error.message
    assert error.hint == f"write one of {FIRST}, {TWIN}"


def test_one_device_under_two_names_is_named_twice() -> None:
    error = refusal(Backend.CUDA, f"GPU-a0,{THIRD}", inventory=GPUS)

    assert "named twice" in error.message
    assert error.hint == f"write {THIRD}"


def test_device_nodes_limit_how_many_but_not_which() -> None:
    counted = Inventory(Backend.ASCEND, (Device("0", "ascend-5"), Device("1", "ascend-12")), DEVICE_NODES)

    assert resolve_visibility(Backend.ASCEND, "5,12", {}, inventory=counted).value == "5,12"
    assert "names 3 devices, but this machine has 2" in refusal(Backend.ASCEND, "0,1,2", inventory=counted).message


def test_where_nothing_is_known_nothing_is_refused() -> None:
    unknown = Inventory(Backend.ASCEND, None, DEVICE_NODES, "npu-smi info did not answer within 8 s")

    assert resolve_visibility(Backend.ASCEND, "0,31", {}, inventory=unknown).value == "0,31"


# Enough for the processes


def test_each_process_needs_a_device_of_its_own() -> None:
    two = Visibility(Backend.ASCEND, ("2", "3"), "--visible-devices")

    require_enough(two, 2)
    with pytest.raises(
        DevicesUnavailableError, match="4 processes need 4 devices, but --visible-devices names 2,3"
    ) as caught:
        require_enough(two, 4)
    assert caught.value.hint == "name 4 devices, or start 2 processes"


def test_where_nothing_limits_the_visible_devices_the_machine_does() -> None:
    everything = Visibility(Backend.ASCEND, None, "all")

    require_enough(everything, 4, NPUS)
    require_enough(everything, 64)
    require_enough(Visibility(Backend.CPU, None, "cpu"), 2, Inventory(Backend.CPU, (Device("0", "cpu-0"),), "cpu"))
    with pytest.raises(DevicesUnavailableError, match="this machine has 4") as caught:
        require_enough(everything, 8, NPUS)
    assert caught.value.hint == "start 4 processes"


# Messages


@pytest.mark.parametrize(
    ("written", "right"), [("0-3", "0,1,2,3"), ("0-1,3", "0,1,3"), ("2-2", "2"), ("1-2, 0", "0,1,2")]
)
def test_a_range_is_refused_with_the_numbers_that_it_means(written: str, right: str) -> None:
    error = refusal(Backend.ASCEND, written, inventory=NPUS)

    assert "is a range" in error.message
    assert error.hint == f"write {right}"


def test_a_range_backwards_names_nothing() -> None:
    assert "makes no device visible" in refusal(Backend.ASCEND, "3-0", inventory=NPUS).message


@pytest.mark.parametrize(
    "written",
    [
        ",".join(map(str, range(3000))),
        ",".join(map(str, reversed(range(3000)))),
        ",".join(["x"] * 3000),
        "x" * 9000,
        "0-9999",
    ],
)
def test_a_list_of_thousands_is_not_repeated_whole(written: str) -> None:
    error = refusal(Backend.ASCEND, written, inventory=NPUS)

    assert len(error.message) < 300
    assert len(error.hint or "") < 120


def test_a_long_variable_that_hides_a_device_is_not_repeated_whole() -> None:
    outer = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(1, 3000)))}

    error = refusal(Backend.CUDA, "0", outer)

    assert "hides it" in error.message
    assert len(error.message) + len(error.hint or "") < 400
