"""What `npu-smi info` and `npu-smi info -m` print, read into data. Nothing is run here.

There is no machine-readable form, and the table differs by driver and card, so it is read by what its cells mean and
never by where they stand:

* a pair of rows a chip: `id name | health | ...`, then `chip | bus id | ... used / total ...`;
* the second row's sums are named by the table's second header line: `Memory-Usage(MB)` on the 310P, and
  `HBM-Usage(MB)` beside it on the 910 family, where the first of the two is zero;
* below it, one row a process, whose columns are named by that part's own header.

What is not understood is not known; nothing is guessed, and nothing raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum

from omnirt_cli.devices.device import Holder

_MIB_PER_GIB = 1024
_BUS_ID = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]")
_NO_BUS_ID = ("", "-", "NA", "N/A")
_USAGE = re.compile(r"(?<!\S)(\d+|-|NA)\s*/\s*(\d+|-|NA)(?!\S)", re.ASCII)
_USAGE_HEAD = re.compile(r"(\w+)-Usage\(MB\)")
_CORES_HEAD = "AICore(%)"
_PERCENT_AT_MOST = 100
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_RULE = re.compile(r"[-=+\s|]*")
_MAPPING_HEADS = ("NPU ID", "Chip ID", "Chip Logic ID")

Address = tuple[int, int]
"""NPU id and chip id."""


@dataclass(frozen=True)
class Chip:
    """One chip of the table.

    Attributes:
        npu: NPU id, which is not what the visibility variable takes.
        chip: Chip id within the NPU.
        used_mib: Memory in use, with `total_mib`; both None where the table does not tell. The tool's MB are MiB.
        core_percent: Use of its AI cores now; None where the table does not tell.
    """

    npu: int
    chip: int
    name: str
    health: str
    bus_id: str | None = None
    used_mib: int | None = None
    total_mib: int | None = None
    core_percent: int | None = None
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class Table:
    """What was read.

    Attributes:
        headed: The table's header is there.
        unread: Rows of the table that were not understood.
    """

    chips: tuple[Chip, ...]
    headed: bool
    unread: tuple[str, ...] = ()

    @property
    def understood(self) -> bool:
        """It is such a table; one without a single row says that there is no chip."""
        return self.headed and bool(self.chips or not self.unread)


def read_table(text: str) -> Table:
    """Read `npu-smi info`."""
    reader = _TableReader()
    for line in text.splitlines():
        row = line.strip()
        if row.startswith("|") and not _RULE.fullmatch(row):
            reader.read([cell.strip() for cell in row.strip("|").split("|")])
    return reader.table()


def read_mapping(text: str) -> dict[Address, int]:
    """Logic ids by NPU and chip, from `npu-smi info -m`; the `Mcu` rows have none. Empty where not understood."""
    heads: list[str] = []
    found: dict[Address, int] = {}
    for line in text.splitlines():
        columns = re.split(r"\s{2,}", line.strip())
        if set(_MAPPING_HEADS) <= set(columns):
            heads = columns
        elif heads:
            # The last column is a name with spaces in it.
            row = dict(zip(heads, line.split(None, len(heads) - 1), strict=False))
            npu, chip, logic = (_number(row.get(head, "")) for head in _MAPPING_HEADS)
            if npu is not None and chip is not None and logic is not None:
                found[npu, chip] = logic
    return found


class _Part(Enum):
    BEFORE = "before the header"
    CHIPS = "chips"
    PROCESSES = "processes"


@dataclass
class _TableReader:
    """Takes the table's rows one after the other."""

    part: _Part = _Part.BEFORE
    usage_heads: list[str] = field(default_factory=list)
    tells_cores: bool = False
    process_heads: list[str] = field(default_factory=list)
    card: Chip | None = None
    chips: dict[Address, Chip] = field(default_factory=dict)
    holders: dict[Address, list[Holder]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def table(self) -> Table:
        chips = tuple(
            replace(chip, holders=tuple(self.holders.get(address, ()))) for address, chip in self.chips.items()
        )
        return Table(chips, self.part is not _Part.BEFORE, tuple(self.unread))

    def read(self, cells: list[str]) -> None:
        if self._read_head(cells) or self.part is _Part.BEFORE:
            return
        if self.part is _Part.PROCESSES:
            self._read_process(cells)
        elif not self._read_chip(cells) and not self._read_card(cells):
            self.unread.append(" | ".join(cells))
            self.card = None  # what follows may be another card's

    def _read_head(self, cells: list[str]) -> bool:
        words = cells[0].split()
        if words[:1] == ["NPU"] and "Process id" in cells:
            self.part, self.process_heads = _Part.PROCESSES, cells
        elif words[:2] == ["NPU", "Name"]:
            self.part = _Part.CHIPS
        elif words[:1] == ["Chip"] and "Bus-Id" in cells:
            self.usage_heads = _USAGE_HEAD.findall(cells[-1])
            self.tells_cores = cells[-1].startswith(_CORES_HEAD)
        else:
            return False
        return True

    def _read_card(self, cells: list[str]) -> bool:
        """A chip's first row: NPU id and name, health."""
        npu, _, name = cells[0].partition(" ")
        number = _number(npu)
        if number is None or not name.strip() or len(cells) < 2 or _BUS_ID.fullmatch(cells[1]):
            return False
        self.card = Chip(number, 0, name.strip(), health=cells[1])
        return True

    def _read_chip(self, cells: list[str]) -> bool:
        """Its second row: chip id (and a physical id), bus id, usage. A card's further chips may have only this row."""
        numbers = [_number(word) for word in cells[0].split()]
        if self.card is None or len(cells) < 3 or not numbers or numbers[0] is None or None in numbers:
            return False
        bus_id = cells[1]
        address = (self.card.npu, numbers[0])
        if address in self.chips or not (bus_id in _NO_BUS_ID or _BUS_ID.fullmatch(bus_id)):
            return False
        used, total = self._memory(cells[-1])
        self.chips[address] = replace(
            self.card,
            chip=numbers[0],
            bus_id=None if bus_id in _NO_BUS_ID else bus_id.lower(),
            used_mib=used,
            total_mib=total,
            core_percent=self._cores(cells[-1]),
        )
        return True

    def _memory(self, usage: str) -> tuple[int, int] | tuple[None, None]:
        """Used and total of the memory that counts: HBM where there is any."""
        pairs = _USAGE.findall(usage)
        if len(pairs) != len(self.usage_heads):
            return None, None
        named = dict(zip(self.usage_heads, pairs, strict=True))
        for kind in ("HBM", "Memory"):
            used, total = (_number(cell) for cell in named.get(kind, ("", "")))
            if used is not None and total and used <= total:
                return used, total
        return None, None

    def _cores(self, usage: str) -> int | None:
        """Use of the AI cores, which stands before the sums."""
        first = usage.partition(" ")[0]
        percent = _number(first) if self.tells_cores else None
        return percent if percent is not None and percent <= _PERCENT_AT_MOST else None

    def _read_process(self, cells: list[str]) -> None:
        """One process; `No running processes found in NPU 0` is a single cell."""
        if len(cells) != len(self.process_heads):
            return
        row = dict(zip(self.process_heads, cells, strict=True))
        before_pid = self.process_heads.index("Process id")
        place = [_number(word) for word in " ".join(cells[:before_pid]).split()]
        pid = _number(row["Process id"])
        if pid is None or len(place) != 2 or place[0] is None or place[1] is None:
            return
        memory = _number(row.get("Process memory(MB)", ""))
        holder = Holder(pid, row.get("Process name") or None, None if memory is None else memory / _MIB_PER_GIB)
        self.holders.setdefault((place[0], place[1]), []).append(holder)


def _number(word: str) -> int | None:
    return int(word) if _NUMBER.fullmatch(word) else None
