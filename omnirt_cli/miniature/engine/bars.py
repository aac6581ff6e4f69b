"""Progress bars like tqdm's: carriage returns on stderr, no newline before the end."""

import sys
import time

from engine import knobs


def loading_bar(label: str, total: int, duration_s: float) -> None:
    """Spend ``duration_s`` seconds over ``total`` steps, redrawing one bar after each."""
    begin = time.monotonic()
    _draw(label, 0, total, 0.0)
    for done in range(1, total + 1):
        knobs.spend(duration_s / total)
        _draw(label, done, total, time.monotonic() - begin)
    sys.stderr.write("\n")


def _draw(label: str, done: int, total: int, elapsed_s: float) -> None:
    filled = 10 * done // total
    blocks = ("█" * filled).ljust(10)
    rate = f"{done / elapsed_s:5.2f}it/s" if elapsed_s > 0 and done else "?it/s"
    text = f"\r{label}: {100 * done // total:3d}%|{blocks}| {done}/{total} [00:{int(elapsed_s):02d}<00:00, {rate}]"
    sys.stderr.buffer.write(text.encode())
    sys.stderr.flush()
