"""Starts the LiveAct miniatures as the real scripts are started: in a working directory that holds only the input."""

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import miniature_runs as runs

SIZE = "64*64"
PROMPT = "A person is talking."


@dataclass(frozen=True)
class Ended:
    """One finished run: its exit code, what it printed, and the directory it ran in."""

    returncode: int
    stdout: str
    stderr: str
    cwd: Path

    @property
    def block_count(self) -> int:
        return int(self.stdout.split("----iter_total_num= ")[1].split()[0])

    def videos(self) -> set[str]:
        return {path.name for path in self.cwd.glob("*.mp4")}


def inputs(cwd: Path, *audio: Path, image: Path = runs.PORTRAIT, **more: object) -> Path:
    """An input JSON with one item for each sound, written into ``cwd``."""
    items = [{"prompt": PROMPT, "cond_image": str(image), "cond_audio": str(sound), **more} for sound in audio]
    cwd.mkdir(exist_ok=True)
    path = cwd / "input.json"
    path.write_text(json.dumps(items), encoding="utf-8")
    return path


def command(variant: str, *flags: str, script: str = "generate.py", ranks: int = 0) -> list[str]:
    """How a script of the variant is started; ``ranks`` > 0 is real torchrun, otherwise plain python."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", f"--nproc_per_node={ranks}"]
    path = str(runs.CHECKOUTS / variant / script)
    return [sys.executable, *(launcher if ranks else []), path, "--ckpt_dir=weights", *flags]


def environment(extra: dict[str, str] | None = None, ranks: int = 0) -> dict[str, str]:
    return runs.environment({"MINIATURE_TORCH": "1" if ranks else "0"} | (extra or {}))


def run(variant: str, cwd: Path, *flags: str, env: dict[str, str] | None = None, ranks: int = 0) -> Ended:
    """Render ``cwd``'s ``input.json``, at a tiny size unless the flags say otherwise, and wait."""
    size = [] if any(flag.startswith("--size") for flag in flags) else [f"--size={SIZE}"]
    usual = ["--wav2vec_dir=wav2vec", "--input_json=input.json", *size]
    return _ended(command(variant, *usual, *flags, ranks=ranks), cwd, environment(env, ranks))


def prepare(cwd: Path, *flags: str, env: dict[str, str] | None = None) -> Ended:
    """The Ascend variant's text step for ``cwd``'s ``input.json``."""
    usual = ["--input_json=input.json", "--device=npu"]
    script = "prepare_text_cache.py"
    return _ended(command("liveact_ascend", *usual, *flags, script=script), cwd, environment(env))


def _ended(argv: list[str], cwd: Path, env: dict[str, str]) -> Ended:
    done = subprocess.run(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"), cwd)


def declared_flags(script: Path) -> set[str]:
    """The flags that the script's syntax tree declares."""
    calls = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Call)]
    return {call.args[0].value for call in calls if getattr(call.func, "attr", "") == "add_argument"}
