"""What `omnirt generate` costs over the same launch typed by hand, and what starting the program costs.

Interleaved pairs on one machine, so that both sides see the same noise. The launch typed by hand runs the very argv, in
the very directory with the very files, that OmniRT prepared; the script is the miniature with a fixed load time. The
verification (with the final mux: `export_ms` of the report) is what OmniRT adds on purpose and is shown apart.

    python scripts/benchmarks/overhead.py --pairs 15
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "omnirt_cli" / "miniature" / "assets"

OVERHEAD_TARGET_MS = 150.0
VERSION_TARGET = 3.0
HELP_TARGET = 1.25

HELLO_TYPER = """
import typer
app = typer.Typer()
@app.command()
def hello(name: str = "you", loud: bool = False) -> None:
    "Say hello."
@app.command()
def bye(name: str = "you") -> None:
    "Say goodbye."
app()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--load-s", type=float, default=1.0, help="how long the miniature pretends to load")
    parser.add_argument("--launcher", choices=["python", "torchrun"], default="python")
    parser.add_argument("--only", choices=["run", "start"], help="one of the two measurements")
    args = parser.parse_args()
    good = True
    if args.only != "run":
        good &= measure_start_up(args.pairs)
    if args.only != "start":
        good &= measure_run(args.pairs, args.load_s, args.launcher)
    return 0 if good else 1


def measure_start_up(pairs: int) -> bool:
    version = ratios([sys.executable, "-c", "pass"], omnirt("--version"), pairs)
    show("--version / python -c pass", version, VERSION_TARGET)
    with tempfile.TemporaryDirectory() as folder:
        hello = Path(folder) / "hello.py"
        hello.write_text(HELLO_TYPER)
        helped = ratios([sys.executable, str(hello), "--help"], omnirt("--help"), pairs)
    show("--help / hello-world Typer app --help", helped, HELP_TARGET)
    return statistics.median(version) <= VERSION_TARGET and statistics.median(helped) <= HELP_TARGET


def omnirt(*args: str) -> list[str]:
    installed = Path(sys.executable).with_name("omnirt")
    return [str(installed), *args] if installed.exists() else [sys.executable, "-m", "omnirt", *args]


def ratios(baseline: Sequence[str], ours: Sequence[str], pairs: int) -> list[float]:
    """Wall time of `ours` over `baseline`, pair by pair, after one warm-up."""
    found = []
    for _ in range(pairs + 1):
        base = seconds(lambda: run(baseline))
        found.append(seconds(lambda: run(ours)) / base)
    return found[1:]


def show(what: str, values: Sequence[float], target: float) -> None:
    verdict = "ok" if statistics.median(values) <= target else "MISSED"
    print(f"{what}: median {statistics.median(values):.2f}x, p90 {p90(values):.2f}x (target {target}x) {verdict}")


def measure_run(pairs: int, load_s: float, launcher: str) -> bool:
    env = {**os.environ, "MINIATURE_LOAD_S": str(load_s), "PYTHONPATH": str(ROOT)}
    if launcher == "python":
        env["MINIATURE_TORCH"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        by_hand = prepare(Path(folder), env, launcher)
        total, verification = [], []
        for number in range(pairs + 1):
            hand_ms = seconds(by_hand) * 1000
            began = time.monotonic()
            report = generate(Path(folder) / f"{number}.mp4", env, launcher)
            total.append((time.monotonic() - began) * 1000 - hand_ms)
            verification.append(report["timings"]["export_ms"])
    overhead = [whole - part for whole, part in zip(total[1:], verification[1:], strict=True)]
    median = statistics.median(overhead)
    print(f"omnirt generate over the launch by hand ({launcher}, {pairs} pairs):")
    print(f"  in all       median {statistics.median(total[1:]):.0f} ms, p90 {p90(total[1:]):.0f} ms")
    print(f"  verification median {statistics.median(verification[1:]):.0f} ms, p90 {p90(verification[1:]):.0f} ms")
    verdict = "ok" if median <= OVERHEAD_TARGET_MS else "MISSED"
    target = f"(target {OVERHEAD_TARGET_MS:.0f} ms) {verdict}"
    print(f"  overhead     median {median:.0f} ms, p90 {p90(overhead):.0f} ms {target}")
    return median <= OVERHEAD_TARGET_MS


def prepare(folder: Path, env: dict[str, str], launcher: str) -> Callable[[], None]:
    """Let OmniRT prepare a directory once; the same launch by hand in it."""
    report = generate(folder / "first.mp4", env, launcher, "--keep-scratch")
    command = report["command"]
    hand_env = {**env, **command["env"]}
    return lambda: run(command["argv"], cwd=command["cwd"], env=hand_env)


def generate(output: Path, env: dict[str, str], launcher: str, *more: str) -> dict:
    processes = ["--nproc-per-node", "2"] if launcher == "torchrun" else []
    argv = omnirt(
        *("generate", "--model", "soulx-flashtalk-14b", "--backend", "cpu", "--size", "256*256"),
        *("--launcher", launcher),
        *("--image", str(ASSETS / "portrait.png"), "--audio", str(ASSETS / "speech.wav"), "--output", str(output)),
        *("--json", "--progress", "never", *processes, *more),
    )
    done = subprocess.run(argv, env=env, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"omnirt generate failed: {done.stderr.decode()}")
    return json.loads(done.stdout)["metadata"]


def run(argv: Sequence[str], cwd: str | None = None, env: dict[str, str] | None = None) -> None:
    subprocess.run(argv, cwd=cwd, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)


def seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def p90(values: Sequence[float]) -> float:
    return sorted(values)[max(0, round(0.9 * len(values)) - 1)]


if __name__ == "__main__":
    sys.exit(main())
