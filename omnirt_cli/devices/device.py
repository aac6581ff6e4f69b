"""What is known of the accelerators of this machine: plain data, shared by discovery, leases, budgets and reports.

None always means "not known", which is not the same as zero or none.
"""

from __future__ import annotations

from dataclasses import dataclass

from omnirt_cli.models.base import Backend

DEVICE_NODES = "device nodes"
"""The source of an inventory that no vendor's tool told."""


@dataclass(frozen=True)
class Holder:
    """A process that holds memory of a device, where the vendor's tool tells."""

    pid: int
    name: str | None = None
    memory_gib: float | None = None


@dataclass(frozen=True)
class Device:
    """One accelerator.

    Attributes:
        id: What its visibility variable takes: the chip logic id on Ascend, the NVML index (or a MIG UUID) on CUDA.
        key: What it is called on every restart and in every container: UUID or bus id, else `<kind>-<id>`. Leases are
            named by it.
        total_gib: Memory, GiB.
        free_gib: What nobody holds now, GiB.
        health: The vendor tool's word where it is not well; None where it is well or nobody said.
        holders: Who holds memory; empty where nobody does or nobody said.
    """

    id: str
    key: str
    name: str | None = None
    uuid: str | None = None
    bus_id: str | None = None
    total_gib: float | None = None
    free_gib: float | None = None
    health: str | None = None
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class DeviceUse:
    """What a device holds and does at one moment; None where the vendor's tool does not tell.

    Attributes:
        used_gib: Memory that is not free, whoever holds it, GiB.
        use_percent: How much of the last moments it computed, as its vendor counts: the share of time with anything
            running (NVIDIA), or the use of the AI cores (Ascend).
        holders: Who holds memory; empty where nobody does or nobody said.
    """

    used_gib: float | None = None
    use_percent: float | None = None
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """The devices of one kind.

    Attributes:
        devices: All of them, ascending; empty where there is certainly none, None where that cannot be told.
        source: What said so: `nvml`, `nvidia-smi`, `npu-smi`, `device nodes`.
        problem: Why less is known than could be (a tool that is missing, hangs or fails), in one sentence.
    """

    kind: Backend
    devices: tuple[Device, ...] | None
    source: str
    problem: str | None = None

    @property
    def absent(self) -> bool:
        """True where there is certainly none."""
        return self.devices == ()

    @property
    def count(self) -> int | None:
        """How many there are; None where that cannot be told."""
        return None if self.devices is None else len(self.devices)

    @property
    def ids(self) -> tuple[str, ...] | None:
        """Their ids, ascending; None where they cannot be told."""
        return None if self.devices is None else tuple(device.id for device in self.devices)

    @property
    def certain_ids(self) -> bool:
        """A vendor's tool told the ids; device nodes tell how many there are, and leave the numbers to a guess."""
        return self.devices is not None and self.source != DEVICE_NODES

    def device(self, device_id: str) -> Device | None:
        """The device of that id, by number or by UUID."""
        return next((d for d in self.devices or () if device_id in (d.id, d.uuid)), None)
