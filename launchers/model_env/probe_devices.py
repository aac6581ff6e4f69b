"""Tells which accelerators the model's Python sees, as one JSON document on standard output.

    python probe_devices.py ascend|cuda

It imports torch (and torch_npu for Ascend) just as the model's script will, so whatever keeps the script from its
devices shows here: a missing library, a torch without CUDA, a visibility list that the runtime reads differently.
It sets no deadline; who starts it does.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import import_module
from typing import Any

UNKNOWN = ("torch", "torch_npu", "devices", "problem")


def main() -> None:
    """Look, and write what was seen. What libraries print meanwhile goes to standard error."""
    answer = os.dup(1)
    os.dup2(2, 1)
    document = look(sys.argv[1])
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(document) + "\n")


def look(kind: str) -> dict[str, Any]:
    """What torch says of one kind of device."""
    seen: dict[str, Any] = {"python": platform.python_version(), **dict.fromkeys(UNKNOWN)}
    for name in ("torch", "torch_npu") if kind == "ascend" else ("torch",):
        module, why_not = load(name)
        if module is None:
            return dict(seen, problem=why_not)
        seen[name] = str(getattr(module, "__version__", "unknown"))
    torch = sys.modules["torch"]
    try:
        return dict(seen, **count(torch, kind))
    except Exception as error:  # noqa: BLE001  # a driver's fault has many classes, and each is the answer
        return dict(seen, problem=f"torch cannot count its devices: {reason(error)}")


def load(name: str) -> tuple[Any, str | None]:
    """A module, or why it cannot be imported."""
    try:
        return import_module(name), None
    except Exception as error:  # noqa: BLE001  # a missing shared library, a version that does not fit: any reason
        return None, f"{name} cannot be imported: {reason(error)}"


def count(torch: Any, kind: str) -> dict[str, Any]:
    """The devices, and where there is none, why."""
    accelerator = getattr(torch, "npu" if kind == "ascend" else "cuda")
    devices = [describe(accelerator, number) for number in range(accelerator.device_count())]
    if devices:
        return {"devices": devices}
    if kind == "cuda" and torch.version.cuda is None:
        return {"devices": [], "problem": "this torch is built without CUDA"}
    return {"devices": [], "problem": "torch sees no accelerator"}


def describe(accelerator: Any, number: int) -> dict[str, Any]:
    """One device: its name and memory in bytes, or why it does not tell."""
    device: dict[str, Any] = {"name": None, "total_bytes": None, "free_bytes": None, "problem": None}
    try:
        device["name"] = accelerator.get_device_name(number)
        device["free_bytes"], device["total_bytes"] = accelerator.mem_get_info(number)
    except Exception as error:  # noqa: BLE001  # as above: the reason is the answer
        device["problem"] = reason(error)
    return device


def reason(error: BaseException) -> str:
    """An error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    main()
