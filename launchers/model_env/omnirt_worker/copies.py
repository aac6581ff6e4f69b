"""Exact copies of state: of kinds whose whole content is known here, and of nothing else.

Two names of one object stay two names of one object, and two views of one memory two views of one memory.
"""

from __future__ import annotations

import collections
import copy
import enum
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

_UNCHANGING = (type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis))
_OWN_WAYS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__copy__", "__deepcopy__", "__del__")
_DEEPEST = 40


class CannotCopyError(TypeError):
    """A value of a kind that is not known to be copied exactly."""


def can_copy(value: Any) -> bool:
    """Whether there is nothing in it that cannot be copied exactly."""
    try:
        Copies().of(value)
    except CannotCopyError:
        return False
    return True


class Copies:
    """Copies that were taken together."""

    def __init__(self) -> None:
        """None yet."""
        self._made: dict[int, Any] = {}
        self._originals: list[Any] = []
        self._memories: dict[int, Any] = {}
        self._depth = 0

    def of(self, value: Any) -> Any:
        """A copy.

        Raises:
            CannotCopyError: There is something in it that cannot be copied exactly.
        """
        if type(value) in _UNCHANGING or isinstance(value, enum.Enum):
            return value
        if id(value) in self._made:
            return self._made[id(value)]
        if self._depth > _DEEPEST:
            raise CannotCopyError("nested too deep")
        self._depth += 1
        try:
            made = self._copier(value)(value)
        finally:
            self._depth -= 1
        self._made[id(value)] = made
        self._originals.append(value)  # so that its id stays its own
        return made

    def _copier(self, value: Any) -> Callable[[Any], Any]:
        kind = type(value)
        by_kind: dict[type, Callable[[Any], Any]] = {
            list: self._list,
            tuple: self._tuple,
            dict: self._dict,
            set: self._set,
            frozenset: self._set,
            collections.deque: self._deque,
            slice: self._slice,
            random.Random: copy.deepcopy,
            np.random.Generator: copy.deepcopy,
        }
        if kind in by_kind:
            return by_kind[kind]
        if isinstance(value, np.ndarray):
            return self._array
        if isinstance(value, np.generic):
            return lambda same: same
        return self._of_torch(kind) or self._of_pillow(kind) or self._of_plain_class(kind)

    # --- containers -------------------------------------------------------------------------------

    def _list(self, value: list[Any]) -> list[Any]:
        return [self.of(one) for one in value]

    def _tuple(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(self.of(one) for one in value)

    def _dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        return {self.of(name): self.of(one) for name, one in value.items()}

    def _set(self, value: Any) -> Any:
        return type(value)(self.of(one) for one in value)

    def _deque(self, value: collections.deque[Any]) -> collections.deque[Any]:
        return collections.deque((self.of(one) for one in value), value.maxlen)

    def _slice(self, value: slice) -> slice:
        return slice(self.of(value.start), self.of(value.stop), self.of(value.step))

    # --- numbers and pictures ---------------------------------------------------------------------

    def _array(self, value: np.ndarray[Any, Any]) -> Any:
        """The same view of a copy of the same memory."""
        if value.dtype.hasobject or getattr(value, "__dict__", None):
            raise CannotCopyError(type(value))
        if not value.size:
            return value.copy()
        root = _owner(value)
        memory = self._memory(id(root), root, lambda: _flat_copy(root))
        made: np.ndarray[Any, Any] = np.ndarray(
            value.shape, value.dtype, buffer=memory, offset=_address(value) - _address(root), strides=value.strides
        )
        made = made.view(type(value))
        made.flags.writeable = value.flags.writeable
        return made

    def _memory(self, place: int, owner: Any, copied: Callable[[], Any]) -> Any:
        if place not in self._memories:
            self._memories[place] = copied()
            self._originals.append(owner)
        return self._memories[place]

    def _of_torch(self, kind: type) -> Callable[[Any], Any] | None:
        torch = sys.modules.get("torch")
        if torch is None:
            return None
        if kind is torch.Tensor:
            return self._tensor
        if kind is torch.Generator:
            return _generator
        if kind in (torch.dtype, torch.device, torch.Size):
            return lambda same: same
        return None

    def _tensor(self, value: Any) -> Any:
        """Likewise; where memory has forms of its own (Ascend's), one tensor of it and no second."""
        special = value.requires_grad or value.layout is not sys.modules["torch"].strided or value.is_quantized
        if special or value.is_conj() or value.is_neg() or vars(value):
            raise CannotCopyError("torch.Tensor of a special kind")
        storage = value.untyped_storage()
        place = storage.data_ptr()
        if value.device.type not in ("cpu", "cuda"):
            if place in self._memories:
                raise CannotCopyError("two tensors of one memory")
            return self._memory(place, storage, value.clone)
        memory = self._memory(place, storage, storage.clone)
        return value.new_empty(0).set_(memory, value.storage_offset(), value.size(), value.stride())

    def _of_pillow(self, kind: type) -> Callable[[Any], Any] | None:
        pillow = sys.modules.get("PIL.Image")
        return copy.copy if pillow is not None and kind is pillow.Image else None

    # --- objects ----------------------------------------------------------------------------------

    def _of_plain_class(self, kind: type) -> Callable[[Any], Any]:
        """For instances of classes written in Python whose whole content is their dictionary."""
        plain = (
            getattr(kind, "__new__") is object.__new__  # noqa: B009 - a type checker knows better
            and kind.__module__ != "builtins"
            and kind.__dictoffset__ != 0
            and not any(name in vars(ancestor) for ancestor in kind.__mro__[:-1] for name in _OWN_WAYS)
            and not any(vars(ancestor).get("__slots__") for ancestor in kind.__mro__[:-1])
            and not _is_module(kind)
        )
        if not plain:
            raise CannotCopyError(kind)
        return self._object

    def _object(self, value: Any) -> Any:
        made = object.__new__(type(value))
        self._made[id(value)] = made  # it may know itself
        self._originals.append(value)
        vars(made).update(self.of(vars(value)))
        return made


def _owner(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array whose memory this one sees.

    Raises:
        CannotCopyError: It is no array's own.
    """
    while isinstance(value.base, np.ndarray):
        value = value.base
    if value.base is not None and type(value.base) is not bytes:
        raise CannotCopyError(type(value.base))
    return value


def _flat_copy(owner: np.ndarray[Any, Any]) -> Any:
    """Its memory, byte by byte."""
    axes = sorted(range(owner.ndim), key=lambda axis: -owner.strides[axis])
    in_order = owner.transpose(axes)
    if not in_order.flags.c_contiguous:
        raise CannotCopyError("an array with gaps")
    return in_order.copy().reshape(-1).view(np.uint8)


def _address(value: np.ndarray[Any, Any]) -> int:
    address: int = value.__array_interface__["data"][0]
    return address


def _generator(value: Any) -> Any:
    made = type(value)(device=value.device)
    made.set_state(value.get_state())
    return made


def _is_module(kind: type) -> bool:
    """A part of a model: its weights are not this module's to copy."""
    modules = getattr(sys.modules.get("torch"), "nn", None)
    return modules is not None and issubclass(kind, modules.Module)
