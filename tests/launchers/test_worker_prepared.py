"""Prepared state is restored exactly or not kept: what was copied stays as it was, whatever is done to the pipeline."""

from __future__ import annotations

import collections
import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from launchers.model_env.omnirt_worker.copies import CannotCopyError, Copies, can_copy
from launchers.model_env.omnirt_worker.device import HostDevice
from launchers.model_env.omnirt_worker.prepared import ENTRIES, Prepared, key_of
from launchers.model_env.omnirt_worker.requests import RenderRequest


@dataclass(frozen=True)
class Pose:
    x: float


class Filter:
    def __init__(self) -> None:
        self.level = 0.5
        self.taps = [1.0, 2.0]
        self.itself = self


class Slotted:
    __slots__ = ("x",)


class Closing:
    def __del__(self) -> None: ...


class Reducing:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Reducing, ())


# --- copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "text",
        [1, [2.5, b"x"], (None, True)],
        {"a": {1, 2}, ("b", 1): frozenset({3})},
        collections.deque([1, 2], maxlen=2),
        slice(1, None, 2),
        {Pose(0.5): "still", Pose(1.0): "open"},
        np.float32(1.5),
        torch.float32,
        torch.Size([1, 2]),
    ],
)
def test_data_is_copied_as_it_is(value: Any) -> None:
    assert Copies().of(value) == value


def test_a_copy_does_not_change_with_what_it_was_made_of() -> None:
    original = {"list": [1], "array": np.zeros(3), "tensor": torch.zeros(3), "deque": collections.deque([1])}

    copy = Copies().of(original)
    original["list"].append(2)  # type: ignore[attr-defined]
    original["array"] += 1  # type: ignore[operator]
    original["tensor"] += 1  # type: ignore[operator]
    original["deque"].clear()  # type: ignore[attr-defined]

    assert copy["list"] == [1]
    assert not copy["array"].any()
    assert not copy["tensor"].any()
    assert list(copy["deque"]) == [1]


def test_one_object_under_two_names_stays_one() -> None:
    tensor, pose = torch.arange(4), Pose(1.0)

    copy = Copies().of({"dict": {"a": tensor}, "current": tensor, "poses": [pose, pose]})

    assert copy["dict"]["a"] is copy["current"]
    assert copy["current"] is not tensor
    assert copy["poses"][0] is copy["poses"][1]


def test_an_object_may_know_itself() -> None:
    copy = Copies().of(Filter())

    assert copy.itself is copy
    assert (copy.level, copy.taps) == (0.5, [1.0, 2.0])


@pytest.mark.parametrize("make", [lambda: np.arange(24.0), lambda: torch.arange(24.0)], ids=["numpy", "torch"])
def test_views_of_one_memory_stay_views_of_one_memory(make: Callable[[], Any]) -> None:
    whole = make()
    grid = whole.reshape(4, 6)
    state = {"row": grid[1], "columns": grid[:, 1:3], "whole": whole, "turned": grid.T}

    copy = Copies().of(state)
    for name, value in state.items():
        assert copy[name].tolist() == value.tolist()
        assert copy[name].shape == value.shape
    copy["whole"][:] = -1.0

    assert all((value == -1).all() for value in copy.values())
    assert whole.tolist() == list(range(24))


def test_memory_in_another_order_is_copied_in_that_order() -> None:
    turned = np.arange(24, dtype=np.int16).reshape(2, 3, 4).transpose(2, 0, 1).copy(order="K")

    copy = Copies().of(turned)

    assert copy.strides == turned.strides
    assert np.array_equal(copy, turned)


def test_an_array_over_a_pictures_bytes_is_copied_and_stays_read_only() -> None:
    pixels = np.asarray(Image.new("RGB", (4, 4), (1, 2, 3)))

    copy = Copies().of(pixels)

    assert np.array_equal(copy, pixels)
    assert copy.flags.writeable == pixels.flags.writeable


def test_a_picture_is_copied() -> None:
    picture = Image.new("RGB", (4, 4))

    copy = Copies().of(picture)
    picture.putpixel((0, 0), (255, 0, 0))

    assert copy.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (lambda: np.random.default_rng(5), lambda source: source.random()),
        (lambda: random.Random(5), lambda source: source.random()),
        (lambda: torch.Generator().manual_seed(5), lambda source: float(torch.rand(1, generator=source))),
    ],
    ids=["numpy", "random", "torch"],
)
def test_a_generator_goes_on_where_it_was(make: Callable[[], Any], draw: Callable[[Any], float]) -> None:
    source = make()
    draw(source)

    copy = Copies().of(source)
    expected = [draw(source) for _ in range(3)]

    assert [draw(copy) for _ in range(3)] == expected


@pytest.mark.parametrize(
    "value",
    [
        torch.nn.Linear(1, 1),
        torch.nn.Parameter(torch.zeros(1)),
        torch.zeros(1, requires_grad=True),
        torch.zeros(2, 2).to_sparse(),
        np.array([object()]),
        io.BytesIO(),
        Slotted(),
        Closing(),
        Reducing(),
        lambda: None,
        len,
        Pose,
        iter([1]),
        type("Own", (dict,), {})(a=1),
        np.frombuffer(bytearray(4), np.uint8),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_of_an_unknown_kind_is_refused_wherever_it_is(value: Any) -> None:
    assert not can_copy(value)
    assert not can_copy({"deep": [(value,)]})
    assert not can_copy(SimpleNamespace(part=value))


def test_what_is_nested_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(CannotCopyError):
        Copies().of(endless)


# --- states ---------------------------------------------------------------------------------------


class Pipeline:
    """Loaded with a model and some numbers; preparing sets attributes, generating changes them."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(2, 2)
        self.steps = 4
        self.options = {"shift": 5}

    def prepare(self, seed: int, **more: Any) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.latent = torch.full((2,), float(seed))
        self.arguments = {"context": [self.latent]}
        self.steps = more.get("steps", 4)
        for name, value in more.items():
            setattr(self, name, value)

    def generate(self) -> list[float]:
        made = (self.latent + torch.rand(2, generator=self.generator)).tolist()
        self.latent += 1
        self.arguments["audio"] = [torch.ones(1)]
        self.extra = "left behind"
        return [*made, self.steps]


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


def _keep(prepared: Prepared, key: str, prepare: Callable[[], None]) -> bool:
    return prepared.keep(key, prepare, HostDevice())


def test_a_restored_state_gives_what_the_prepared_one_gave(pipeline: Pipeline) -> None:
    prepared = Prepared(pipeline)
    assert _keep(prepared, "a", lambda: pipeline.prepare(3))
    first = [pipeline.generate() for _ in range(3)]
    _keep(prepared, "b", lambda: pipeline.prepare(4))
    pipeline.generate()

    for _ in range(2):
        prepared.restore("a")
        assert "audio" not in pipeline.arguments
        assert not hasattr(pipeline, "extra")
        assert pipeline.arguments["context"][0] is pipeline.latent
        assert [pipeline.generate() for _ in range(3)] == first


def test_a_value_that_was_set_to_what_it_was_is_restored_all_the_same(pipeline: Pipeline) -> None:
    prepared = Prepared(pipeline)
    _keep(prepared, "as loaded", lambda: pipeline.prepare(3, steps=4))
    _keep(prepared, "another", lambda: pipeline.prepare(3, steps=2))

    prepared.restore("as loaded")

    assert pipeline.steps == 4


def test_loaded_data_that_was_changed_in_place_is_restored(pipeline: Pipeline) -> None:
    prepared = Prepared(pipeline)
    _keep(prepared, "a", lambda: pipeline.prepare(3))
    pipeline.options["shift"] = 7

    prepared.restore("a")

    assert pipeline.options == {"shift": 5}


def test_the_model_itself_is_neither_copied_nor_replaced(pipeline: Pipeline) -> None:
    model, prepared = pipeline.model, Prepared(pipeline)
    _keep(prepared, "a", lambda: pipeline.prepare(3))

    prepared.restore("a")

    assert pipeline.model is model


@pytest.mark.parametrize(
    "value", [torch.nn.Linear(1, 1), lambda: None, io.BytesIO()], ids=["module", "function", "file"]
)
def test_a_state_with_something_unknown_is_not_kept(value: Any, pipeline: Pipeline) -> None:
    prepared = Prepared(pipeline)

    assert not _keep(prepared, "a", lambda: pipeline.prepare(3, cache=value))

    assert not prepared.has("a")


@pytest.mark.parametrize(
    "draw", [random.random, np.random.rand, lambda: torch.rand(1)], ids=["random", "numpy", "torch"]
)
def test_a_state_that_was_drawn_from_a_global_generator_is_not_kept(
    draw: Callable[[], Any], pipeline: Pipeline
) -> None:
    prepared = Prepared(pipeline)

    assert not _keep(prepared, "a", lambda: pipeline.prepare(3, noise=float(draw())))

    assert not prepared.has("a")


def test_an_error_while_preparing_keeps_nothing(pipeline: Pipeline) -> None:
    prepared = Prepared(pipeline)

    with pytest.raises(ZeroDivisionError):
        _keep(prepared, "a", lambda: pipeline.prepare(1 // 0))

    assert not prepared.has("a")


def test_only_so_many_states_are_kept(pipeline: Pipeline) -> None:
    prepared = Prepared(pipeline)
    for number in range(ENTRIES):
        _keep(prepared, str(number), lambda seed=number: pipeline.prepare(seed))
    prepared.restore("0")

    _keep(prepared, "new", lambda: pipeline.prepare(99))

    assert [prepared.has(str(number)) for number in range(ENTRIES)] == [True, False, True, True]


# --- keys -----------------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path) -> RenderRequest:
    (tmp_path / "face.png").write_bytes(b"portrait")
    base = {"image": str(tmp_path / "face.png"), "seed": 3, "prompt": "A person is talking."}
    return RenderRequest(base, None, "stream", pads=False, chunks=1)


def _with(asked: RenderRequest, **more: Any) -> RenderRequest:
    return RenderRequest(**{**vars(asked), **more})


def test_a_key_is_the_contents(asked: RenderRequest, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "face.png"
    moved.parent.mkdir()
    moved.write_bytes(b"portrait")

    assert key_of(asked) == key_of(_with(asked, chunks=99, mode="once", audio="other.wav"))
    assert key_of(asked) == key_of(_with(asked, base={**asked.base, "image": str(moved)}))


def test_everything_that_preparing_depends_on_makes_another_key(asked: RenderRequest, tmp_path: Path) -> None:
    (tmp_path / "other.png").write_bytes(b"another")
    others = [
        _with(asked, base={**asked.base, "seed": 4}),
        _with(asked, base={**asked.base, "prompt": "A person is singing."}),
        _with(asked, base={**asked.base, "image": str(tmp_path / "other.png")}),
        _with(asked, base={**asked.base, "image": str(tmp_path)}),
        _with(asked, params={"sample_steps": 2}),
        _with(asked, constants={"sample_steps": 2}),
        _with(asked, inference_constants={"sample_steps": 2}),
    ]

    assert len({key_of(request) for request in (asked, *others)}) == len(others) + 1
