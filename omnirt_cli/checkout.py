"""What an external checkout on disk really supports, read without importing or running any of it.

Facts come from the syntax trees of its script and pipeline, from the text of its own packages and from
`git`. What they mean for a model (which variant this is, which knob travels how) is the adapter's business,
not this module's. Every read is bounded, so that a hostile or a huge directory costs milliseconds.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from omnirt_cli.errors import InputMissingError

_MAX_FILES = 400
_MAX_FILE_BYTES = 2_000_000
_MAX_TOTAL_BYTES = 24_000_000
_MAX_DATA_BYTES = 1_000_000
_GIT_TIMEOUT_S = 3.0

_TOKENS = re.compile(
    rb"#[^\n]*"
    rb'|"""(?:[^\\]|\\.)*?"""'
    rb"|'''(?:[^\\]|\\.)*?'''"
    rb'|"(?:[^"\\\n]|\\.)*"'
    rb"|'(?:[^'\\\n]|\\.)*'",
    re.DOTALL,
)
_ENV_NAME = re.compile(rb"(?:FLASHTALK|FLASHHEAD|LIVEACT)_[A-Z0-9_]+")
_DATA_PATH = re.compile(rb"[\"']([\w.-]+(?:/[\w.-]+)*\.(?:ya?ml|json|txt|csv|npy|npz))[\"']")
_PARAMS_NAME = "infer_params.yaml"


class AudioMux(str, Enum):
    """How the script puts the sound into its result."""

    COPY = "copy"
    ENCODE = "encode"


@dataclass(frozen=True)
class Flag:
    """One option of the script's command line.

    Attributes:
        takes_value: False for a switch.
        any_text_is_true: Declared `type=bool`, so that even `--flag False` turns it on.
        default: The literal default, None where it is not a literal.
    """

    name: str
    takes_value: bool = True
    any_text_is_true: bool = False
    choices: tuple[str, ...] | None = None
    default: Any = None


@dataclass(frozen=True)
class SourceFacts:
    """Habits of the code that no flag tells. None: the code at hand does not show it.

    Attributes:
        mux: What the script's ffmpeg call does with the sound.
        mux_checked: Whether a failing ffmpeg ends the script.
        pads_audio: The script fills the last slice with silence instead of dropping it.
        script_trims_motion: The script cuts the repeated frames off each chunk.
        pipeline_trims_motion: The pipeline does.
        prints_timing: The pipeline prints its per-step times (False: only behind a switched-off constant).
        switched_off: Constants of the pipeline's module that are False.
    """

    mux: AudioMux | None = None
    mux_checked: bool = False
    pads_audio: bool = False
    script_trims_motion: bool = False
    pipeline_trims_motion: bool | None = None
    prints_timing: bool | None = None
    switched_off: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CheckoutFacts:
    """Everything known of a checkout.

    Attributes:
        path: The checkout, absolute.
        script: Its entry script, absolute.
        flags: Names that the script's parser declares, `--` included; None where the parser cannot be read.
        flag_details: The same, each with what it takes; empty where `flags` is None.
        scripts: Names of the Python files that lie beside the entry script, itself included.
        env_names: Model variables (`FLASHTALK_*` and the like) that the code names as string literals.
        infer_params: The parsed `infer_params.yaml`; empty where there is none.
        infer_params_paths: Where the code opens it, relative to its working directory.
        relative_files: Every data file that the code names by a relative path and that is there.
        functions: Package -> the functions that its `inference` defines.
        revision: Commit of the checkout's own repository, None without one.
        dirty: Whether tracked files differ from it.
        miniature: It says of itself that it has no neural network.
        notes: What could not be read, in sentences.
    """

    path: Path
    script: Path
    flags: frozenset[str] | None = None
    flag_details: Mapping[str, Flag] = field(default_factory=dict)
    scripts: frozenset[str] = frozenset()
    env_names: frozenset[str] = frozenset()
    infer_params: Mapping[str, Any] = field(default_factory=dict)
    infer_params_paths: tuple[str, ...] = ()
    relative_files: tuple[str, ...] = ()
    source: SourceFacts = SourceFacts()
    functions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    revision: str | None = None
    dirty: bool | None = None
    miniature: bool = False
    notes: tuple[str, ...] = ()


def inspect_checkout(path: Path, script: str) -> CheckoutFacts:
    """Read a checkout.

    Args:
        path: The checkout's directory.
        script: Its entry script, relative to it.

    Raises:
        InputMissingError: The directory or the script is not there, or this user may not look into the directory.
    """
    root = _existing_root(path, script)
    entry = root / script
    notes: list[str] = []
    code = _parse(entry, notes)
    flags = _flags(code) if code else None
    if code and flags is None:
        notes.append(f"the command line of {entry} is not written out literally; its flags are unknown")
    sources = dict(_sources(_own_packages(root, code)))
    relative = _relative_files(root, [entry, *sources], sources, flags)
    params = tuple(name for name in relative if Path(name).name == _PARAMS_NAME)
    revision, dirty = _git_state(root)
    return CheckoutFacts(
        path=root,
        script=entry,
        flags=frozenset(flags) if flags is not None else None,
        flag_details=MappingProxyType(flags or {}),
        scripts=frozenset(file.name for file in root.glob("*.py")),
        env_names=_env_names([_read(entry) or b"", *sources.values()]),
        infer_params=_infer_params(root, params, notes),
        infer_params_paths=params,
        relative_files=relative,
        source=_source_facts(code, sources, notes),
        functions=MappingProxyType(_inference_functions(root, sources)),
        revision=revision,
        dirty=dirty,
        miniature=_is_miniature(root),
        notes=tuple(notes),
    )


def _existing_root(path: Path, script: str) -> Path:
    _refuse_closed(path)
    if not path.is_dir():
        raise InputMissingError(
            f"The checkout {path} is not a directory.",
            hint="Give the directory of the cloned model repository with --repo-path.",
        )
    if not _is_file(path / script):
        raise InputMissingError(
            f"The checkout {path} has no {script}.",
            hint=f"--repo-path must be the repository's top directory, the one that holds {script}.",
        )
    return path.resolve()


def _refuse_closed(path: Path) -> None:
    """Tell a directory that this user may not look into from one that is not there."""
    try:
        closed = stat.S_ISDIR(path.stat().st_mode) and not os.access(path, os.R_OK | os.X_OK)
    except PermissionError:
        closed = True
    except OSError:
        return
    if closed:
        raise InputMissingError(
            f"The checkout {path} cannot be read by this user.",
            hint="Check --repo-path and the permissions of its folders.",
        )


def _is_file(path: Path) -> bool:
    """False, too, for a link into a place that this user may not look into."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


# --- the script's command line --------------------------------------------------------------------


_Nodes = list[ast.AST]
"""Every node of a file's syntax tree; walked once, for walking is what costs."""


def _parse(file: Path, notes: list[str]) -> _Nodes | None:
    text = _read(file)
    if text is None:
        notes.append(f"{file} is too large or cannot be read")
        return None
    try:
        return list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        notes.append(f"{file} is not valid Python: {error}")
        return None


def _flags(code: _Nodes) -> dict[str, Flag] | None:
    """Flags of every `add_argument` call; None when one is not literal or there is none at all."""
    calls = [node for node in code if _is_call_of(node, "add_argument")]
    found: dict[str, Flag] = {}
    for call in calls:
        assert isinstance(call, ast.Call)
        flag = _flag(call)
        if flag is None:
            return None
        found.update({name: Flag(name, *_after_name(flag)) for name in _option_names(call)})
    return found or None


def _after_name(flag: Flag) -> tuple[bool, bool, tuple[str, ...] | None, Any]:
    return flag.takes_value, flag.any_text_is_true, flag.choices, flag.default


def _option_names(call: ast.Call) -> list[str]:
    names = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return [name for name in names if name.startswith("-")]


def _flag(call: ast.Call) -> Flag | None:
    literal = all(isinstance(arg, ast.Constant) and isinstance(arg.value, str) for arg in call.args)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if not literal or not call.args or None in keywords:
        return None
    action = _literal(keywords.get("action"))
    choices = _literal(keywords.get("choices"))
    kind = keywords.get("type")
    return Flag(
        name=_option_names(call)[0] if _option_names(call) else "",
        takes_value=action in (None, "store", "append"),
        any_text_is_true=isinstance(kind, ast.Name) and kind.id == "bool",
        choices=tuple(str(choice) for choice in choices) if isinstance(choices, (list, tuple)) else None,
        default=_literal(keywords.get("default")),
    )


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError):
        return ast.unparse(node)


def _is_call_of(node: ast.AST, attribute: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == attribute


# --- the checkout's own packages ------------------------------------------------------------------


def _own_packages(root: Path, code: _Nodes | None) -> list[Path]:
    """Directories and files that the script imports; every package with an `inference` where it is unreadable."""
    if code is None:
        return sorted(path for path in root.iterdir() if _is_file(path / "inference.py"))
    names = dict.fromkeys(_imported_tops(code))
    return [path for name in names for path in (root / name, root / f"{name}.py") if os.access(path, os.F_OK)]


def _imported_tops(code: _Nodes) -> Iterator[str]:
    for node in code:
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)


def _sources(packages: list[Path]) -> Iterator[tuple[Path, bytes]]:
    """The Python files of these packages and their bytes, within the limits."""
    total = 0
    for count, file in enumerate(_python_files(packages)):
        text = _read(file)
        total += len(text or b"")
        if count >= _MAX_FILES or total > _MAX_TOTAL_BYTES:
            return
        if text is not None:
            yield file, text


def _python_files(packages: list[Path]) -> Iterator[Path]:
    for package in packages:
        if package.suffix == ".py":
            yield package
        for folder, folders, names in os.walk(package):
            folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def _read(file: Path) -> bytes | None:
    try:
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MAX_FILE_BYTES:
            return None
        return file.read_bytes()
    except OSError:
        return None


def _env_names(texts: Any) -> frozenset[str]:
    """Variables named by a whole string literal, comments left out."""
    found: set[str] = set()
    for text in texts:
        if not _ENV_NAME.search(text):
            continue
        for token in _TOKENS.findall(text):
            if _ENV_NAME.fullmatch(token[1:-1]):
                found.add(token[1:-1].decode())
    return frozenset(found)


def _relative_files(
    root: Path, files: list[Path], texts: Mapping[Path, bytes], flags: Mapping[str, Flag] | None
) -> tuple[str, ...]:
    defaults = {flag.default for flag in (flags or {}).values() if isinstance(flag.default, str)}
    found: dict[str, None] = {}
    for file in files:
        for match in _DATA_PATH.findall(texts.get(file) or _read(file) or b""):
            name = match.decode()
            if name not in defaults and ".." not in name and _is_file(root / name):
                found[name] = None
    return tuple(sorted(found))


def _infer_params(root: Path, paths: tuple[str, ...], notes: list[str]) -> Mapping[str, Any]:
    if not paths:
        return {}
    text = _read(root / paths[0])
    try:
        loaded = yaml.safe_load(text or b"")
    except yaml.YAMLError as error:
        notes.append(f"{root / paths[0]} is not valid YAML: {error}")
        return {}
    return MappingProxyType(loaded) if isinstance(loaded, dict) else {}


# --- habits of the code ---------------------------------------------------------------------------


def _source_facts(code: _Nodes | None, sources: Mapping[Path, bytes], notes: list[str]) -> SourceFacts:
    pipelines = (_parse(file, notes) for file in sources if file.parent.name == "pipeline")
    known = [pipeline for pipeline in pipelines if pipeline is not None]
    if code is None:
        return SourceFacts()
    return SourceFacts(
        mux=_audio_mux(code),
        mux_checked=any(_is_checked_run(node) for node in code),
        pads_audio=any(_is_call_of(node, name) for node in code for name in ("concatenate", "pad")),
        script_trims_motion=_trims_motion(code),
        pipeline_trims_motion=any(_trims_motion(pipeline) for pipeline in known) if known else None,
        prints_timing=_prints_timing(known),
        switched_off=frozenset(name for code in known for name in _false_names(_top_level(code))),
    )


def _audio_mux(code: _Nodes) -> AudioMux | None:
    """The audio codec in the literal argument list of the script's ffmpeg call."""
    for node in code:
        words = _words(node) if isinstance(node, ast.List) else []
        if not words or Path(words[0]).name != "ffmpeg":
            continue
        codecs = {words[index]: words[index + 1] for index in range(len(words) - 1)}
        codec = codecs.get("-c:a") or codecs.get("-acodec") or codecs.get("-codec:a") or codecs.get("-c")
        return AudioMux.COPY if codec == "copy" else AudioMux.ENCODE
    return None


def _words(node: ast.List) -> list[str]:
    """A list literal's strings; what is no literal stands as an empty word."""
    return [item.value if isinstance(item, ast.Constant) and isinstance(item.value, str) else "" for item in node.elts]


def _is_checked_run(node: ast.AST) -> bool:
    if _is_call_of(node, "check_call"):
        return True
    if not _is_call_of(node, "run"):
        return False
    assert isinstance(node, ast.Call)
    return any(keyword.arg == "check" and _literal(keyword.value) is True for keyword in node.keywords)


def _trims_motion(code: _Nodes) -> bool:
    """Whether a slice starts at `motion_frames_num` (a negative start would keep those frames)."""
    return any(
        isinstance(node, ast.Slice) and node.upper is None and _last_name(node.lower) == "motion_frames_num"
        for node in code
    )


def _last_name(node: ast.expr | None) -> str | None:
    """The name that an expression ends in: `x`, `self.x` and `params["x"]` are all `x`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return node.attr if isinstance(node, ast.Attribute) else None


def _prints_timing(pipelines: list[_Nodes]) -> bool | None:
    """Whether a `print` of the step time is reached; behind a constant that is False it is not."""
    off = {name for code in pipelines for name in _false_names(code)}
    printing = [(code, node) for code in pipelines for node in code if _prints_step_time(node)]
    if any(id(node) not in _guarded(code, off) for code, node in printing):
        return True
    return False if any("timing" in name.lower() for name in off) else None


def _false_names(code: _Nodes) -> Iterator[str]:
    for node in code:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value is False:
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _top_level(code: _Nodes) -> _Nodes:
    """The statements of the module itself."""
    return [node for tree in code if isinstance(tree, ast.Module) for node in tree.body]


def _inference_functions(root: Path, sources: Mapping[Path, bytes]) -> dict[str, frozenset[str]]:
    """What the packages' `inference.py` define; one that is no valid Python defines nothing."""
    found = {}
    for file, text in sources.items():
        if file.name != "inference.py" or file.parent.parent != root:
            continue
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            body = ast.parse(text).body
            found[file.parent.name] = frozenset(node.name for node in body if isinstance(node, ast.FunctionDef))
    return found


def _guarded(code: _Nodes, off: set[str]) -> set[int]:
    """Identities of the nodes that run only if one of these names is true."""
    guards = (node for node in code if isinstance(node, ast.If))
    closed = (guard for guard in guards if isinstance(guard.test, ast.Name) and guard.test.id in off)
    return {id(inner) for guard in closed for child in guard.body for inner in ast.walk(child)}


def _prints_step_time(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"):
        return False
    parts = (child.value for child in ast.walk(node) if isinstance(child, ast.Constant))
    return any(isinstance(part, str) and "denoise per step" in part for part in parts)


# --- what it is -----------------------------------------------------------------------------------


def _is_miniature(root: Path) -> bool:
    text = _read(root / "MINIATURE")
    if text is None or len(text) > _MAX_DATA_BYTES:
        return False
    try:
        claim = json.loads(text)
    except ValueError:
        return False
    return isinstance(claim, dict) and claim.get("miniature") is True


def _git_state(root: Path) -> tuple[str | None, bool | None]:
    """Revision and dirtiness of the checkout's *own* repository; a directory inside a bigger one has none."""
    if not os.access(root / ".git", os.F_OK):
        return None, None
    try:
        done = subprocess.run(
            [*_GIT, "-C", str(root), "status", "--porcelain=v2", "--branch", "--untracked-files=no"],
            capture_output=True,
            check=False,
            env=_git_env(),
            stdin=subprocess.DEVNULL,
            timeout=_GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    if done.returncode != 0:
        return None, None
    lines = done.stdout.decode(errors="replace").splitlines()
    heads = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    revision = heads[0] if heads and heads[0] != "(initial)" else None
    return revision, any(not line.startswith("#") for line in lines)


# The checkout may belong to another user, and its configuration is not ours to obey.
_GIT = (
    "git", "-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false",
    "-c", "submodule.recurse=false", "-c", "status.submoduleSummary=false",
)  # fmt: skip


def _git_env() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {
        **kept,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
