"""Progress bars like tqdm's: carriage returns on stderr, no newline before the end."""

import sys
import time
from collections.abc import Iterator

from engine import knobs


def loading_bar(label: str, total: int, duration_s: float) -> None:
    """Spend ``duration_s`` seconds over ``total`` steps, redrawing one bar after each."""
    begin = time.monotonic()
    _draw(label, 0, total, 0.0)
    for done in range(1, total + 1):
        knobs.spend(duration_s / total)
        _draw(label, done, total, time.monotonic() - begin)
    sys.stderr.write("\n")


def step_bar(total: int) -> Iterator[int]:
    """The steps 0..total-1, with a bar without a label that is redrawn after each."""
    begin = time.monotonic()
    _draw("", 0, total, 0.0)
    for step in range(total):
        yield step
        _draw("", step + 1, total, time.monotonic() - begin)
    sys.stderr.write("\n")


def _draw(label: str, done: int, total: int, elapsed_s: float) -> None:
    full, eighth = divmod(80 * done // total, 8)
    blocks = ("█" * full + " ▏▎▍▌▋▊▉"[eighth]).ljust(10)[:10]
    title = f"{label}: " if label else ""
    text = f"\r{title}{100 * done / total:3.0f}%|{blocks}| {done}/{total} [{_timing(done, total, elapsed_s)}]"
    sys.stderr.buffer.write(text.encode())
    sys.stderr.flush()


def _timing(done: int, total: int, elapsed_s: float) -> str:
    if not done or elapsed_s <= 0:
        return f"{_clock(elapsed_s)}<?, ?it/s"
    rate = f"{done / elapsed_s:5.2f}it/s" if done >= elapsed_s else f"{elapsed_s / done:5.2f}s/it"
    return f"{_clock(elapsed_s)}<{_clock(elapsed_s * (total - done) / done)}, {rate}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
