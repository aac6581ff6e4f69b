"""Which devices are there, and which of them a run may see."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnirt_cli.devices.inventory import discover
from omnirt_cli.devices.visibility import resolve_visibility
from omnirt_cli.errors import DevicesUnavailableError
from omnirt_cli.models.base import Backend


def _nodes(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_device_nodes_are_counted_whatever_their_first_number(tmp_path: Path) -> None:
    root = _nodes(tmp_path, "davinci5", "davinci12", "davinci_manager", "null")

    found = discover(Backend.ASCEND, root=root)

    assert (found.count, found.ids) == (2, (5, 12))


def test_devices_that_cannot_be_counted_are_not_none(tmp_path: Path) -> None:
    found = discover(Backend.CUDA, root=_nodes(tmp_path, "dxg"))

    assert found.count is None
    assert not found.absent


def test_no_node_means_no_device(tmp_path: Path) -> None:
    assert discover(Backend.CUDA, root=tmp_path).absent
    assert discover(Backend.ASCEND, root=tmp_path / "none").absent


def test_the_flag_decides_then_the_variable_then_all() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "1,2,3"}

    by_flag = resolve_visibility(Backend.CUDA, "3,2", environ)
    by_variable = resolve_visibility(Backend.CUDA, None, environ)
    by_nobody = resolve_visibility(Backend.CUDA, None, {})

    assert (by_flag.value, by_flag.source) == ("3,2", "--visible-devices")
    assert (by_variable.value, by_variable.source) == ("1,2,3", "CUDA_VISIBLE_DEVICES")
    assert (by_nobody.value, by_nobody.source) == (None, "all")


def test_the_other_vendors_variable_decides_nothing() -> None:
    assert resolve_visibility(Backend.ASCEND, None, {"CUDA_VISIBLE_DEVICES": "1"}).ids is None


@pytest.mark.parametrize("text", ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "MIG-GPU-8932f937/1/0", "0,GPU-1a"])
def test_cuda_devices_may_be_named_by_uuid(text: str) -> None:
    assert resolve_visibility(Backend.CUDA, text, {}).value == text


@pytest.mark.parametrize(
    ("text", "corrected"),
    [("1, 2", "1,2"), ("01,2", "1,2"), ("2,1", "1,2"), ("1,1,2", "1,2"), ("1,,2", "1,2"), ("1,x,2", "1,2")],
)
def test_an_ascend_list_that_cann_would_misread_is_refused_with_the_corrected_one(text: str, corrected: str) -> None:
    with pytest.raises(DevicesUnavailableError) as caught:
        resolve_visibility(Backend.ASCEND, text, {})

    assert caught.value.hint == f"write {corrected}"


@pytest.mark.parametrize("text", ["", " ", "-1", "all"])
def test_a_list_without_a_device_is_refused(text: str) -> None:
    with pytest.raises(DevicesUnavailableError, match="no device visible"):
        resolve_visibility(Backend.CUDA, text, {})
