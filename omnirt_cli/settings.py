"""Layered settings: flag > request file > environment > project file > user files, each value with its source.

Presets and model defaults come after these layers; the planner adds them, because they depend on the checkout.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from omnirt_cli.errors import ConfigInvalidError, OmniRTError, UsageError
from omnirt_cli.models.registry import model_keys
from omnirt_cli.request import Audio2VideoRequest, Config, option_facts, plain
from omnirt_cli.yaml_document import YamlDocument, load_mapping, nearest

PROJECT_FILE = "omnirt.yaml"
ENV_PREFIX = "OMNIRT_"
ENV_ALIASES = {"PYTHON": "python_executable"}
CONFIG_ALIASES = {"ascend_env_script": "env_script"}
GLOBAL_KEYS = ("model", "backend")

_OTHER_NAMES = frozenset(
    {
        "OMNIRT_HOME",
        "OMNIRT_RUN_ID",
        "OMNIRT_LOG_PATH",
        "OMNIRT_LOG_LEVEL",
        "OMNIRT_LOCK_DIR",
        "OMNIRT_DATA_DIR",
        "OMNIRT_RUNTIME_DIR",
        "OMNIRT_API_KEY_FILE",
        "OMNIRT_INSECURE",
        "OMNIRT_CLI_PYTHON",
        "OMNIRT_VENV",
        "OMNIRT_ARTIFACT_INLINE_MAX_MB",
        "OMNIRT_RUNTIME_INSTALL_TIMEOUT",
        "OMNIRT_AVATAR_FLASHTALK_WS_URL",
        "OMNIRT_AVATAR_FLASHHEAD_WS_URL",
        "OMNIRT_REALTIME_AVATAR_RUNTIME",
        "OMNIRT_ALLOWED_FRAME_ROOTS",
        "OMNIRT_FLASHTALK_DEVICE",
        "OMNIRT_FLASHTALK_HOST",
        "OMNIRT_FLASHTALK_PORT",
        "OMNIRT_FLASHTALK_SERVER_PATH",
        "OMNIRT_FLASHTALK_ENTRYPOINT",
        "OMNIRT_FLASHTALK_CMD_DIR",
        "OMNIRT_FLASHTALK_TORCHRUN",
        "OMNIRT_FLASHTALK_VENV_ACTIVATE",
        "OMNIRT_FLASHTALK_BACKGROUND",
        "OMNIRT_FLASHTALK_LOG_FILE",
        "OMNIRT_FLASHTALK_PID_FILE",
    }
)
"""Names that other parts of OmniRT, and its published predecessors' scripts, read; they are no mistake."""


@dataclass(frozen=True)
class Setting:
    """A value and where it came from."""

    value: Any
    source: str


@dataclass(frozen=True)
class Layer:
    """One source of settings.

    Attributes:
        name: What a message calls it, e.g. `flag` or `project file`.
        values: Config key -> setting; sources name file and line, or the variable.
    """

    name: str
    values: Mapping[str, Setting]


@dataclass(frozen=True)
class Settings:
    """The merged layers, highest first.

    Attributes:
        values: Config key (and `model`, `backend`) -> the winning setting.
        shadowed: Config key -> settings that lost, highest first.
        warnings: Unknown environment names, untrusted keys that were passed over.
    """

    values: Mapping[str, Setting]
    shadowed: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def get(self, key: str) -> Any:
        """The value of a key, or None."""
        found = self.values.get(key)
        return found.value if found else None

    def source(self, key: str) -> str | None:
        """Where a key's value came from."""
        found = self.values.get(key)
        return found.source if found else None


@dataclass(frozen=True)
class Surroundings:
    """Where settings are looked for; tests make their own."""

    environ: Mapping[str, str]
    cwd: Path
    user_files: tuple[Path, ...]
    home: Path | None

    @classmethod
    def current(cls) -> Surroundings:
        """This process's."""
        home = _home()
        return cls(environ=os.environ, cwd=Path.cwd(), user_files=_user_files(home), home=home)


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


def _user_files(home: Path | None) -> tuple[Path, ...]:
    if home is None:
        return ()
    import platformdirs

    return (Path(platformdirs.user_config_dir("omnirt")) / PROJECT_FILE,)


def resolve(
    model_key: str | None, flags: Mapping[str, Any], request: Layer | None, surroundings: Surroundings
) -> Settings:
    """Merge all layers for one model.

    Args:
        model_key: Short model name, or None where no model is chosen yet (then only global keys are found).
        flags: Config keys given as flags or as Python arguments.
        request: The `--config` file's layer.
        surroundings: Environment, working directory and the user's files.

    Raises:
        ConfigInvalidError: A file or a variable has an unknown key or a bad value.
        UsageError: A flag has a bad value.
    """
    layers = [flag_layer(flags, surroundings.cwd)]
    if request is not None:
        layers.append(request)
    env_layer, env_warnings = environment_layer(model_key, surroundings)
    layers.append(env_layer)
    file_warnings: list[str] = []
    for path, name in _settings_files(model_key, surroundings):
        layer, warnings = file_layer(path, name, model_key)
        layers.append(layer)
        file_warnings += warnings
    return _merge(layers, (*env_warnings, *file_warnings))


def _merge(layers: Iterable[Layer], warnings: tuple[str, ...]) -> Settings:
    values: dict[str, Setting] = {}
    shadowed: dict[str, tuple[Setting, ...]] = {}
    for layer in layers:
        for key, setting in layer.values.items():
            if key in values:
                shadowed[key] = (*shadowed.get(key, ()), setting)
            else:
                values[key] = setting
    return Settings(values, shadowed, warnings)


def flag_layer(flags: Mapping[str, Any], cwd: Path) -> Layer:
    """What the command line (or a Python call) says."""
    said = {key: value for key, value in flags.items() if value is not None}
    return Layer("flag", _settings(said, cwd, lambda _key: "flag", _flag_error))


def _flag_error(key: str, message: str) -> OmniRTError:
    return UsageError(f"--{key.replace('_', '-')}: {message}", hint="see `omnirt generate --help`")


def request_layer(document: YamlDocument, request: Audio2VideoRequest) -> Layer:
    """The `config` of a request file, sources naming its lines."""

    def source(key: str) -> str:
        return f"request file {document.where('config', key)}"

    def error(key: str, message: str) -> OmniRTError:
        return document.refuse(("config", key), f"`{key}`: {message}")

    return Layer("request file", _settings(request.config.said(), document.path.parent, source, error))


def read_request(path: Path) -> tuple[Audio2VideoRequest, Layer]:
    """A request file and its layer; inputs in it are relative to the file.

    Raises:
        InputMissingError: No such file.
        ConfigInvalidError: Not a request, with line and the nearest valid key.
    """
    document = load_mapping(path)
    _refuse_unknown(document, (), set(Audio2VideoRequest.model_fields), document.data)
    for section, model in (("inputs", "inputs"), ("config", "config")):
        value = document.data.get(section)
        if isinstance(value, Mapping):
            known = set(config_keys()) if model == "config" else {"image", "audio", "prompt"}
            _refuse_unknown(document, (section,), known, value)
    data = dict(document.data)
    if isinstance(data.get("config"), Mapping):
        data["config"] = {CONFIG_ALIASES.get(key, key): value for key, value in data["config"].items()}
    try:
        request = Audio2VideoRequest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        keys = tuple(str(part) for part in first["loc"])
        raise document.refuse(keys, f"`{'.'.join(keys)}`: {plain(first['msg'])}") from error
    return _with_absolute_inputs(request, path.parent), request_layer(document, request)


def _with_absolute_inputs(request: Audio2VideoRequest, folder: Path) -> Audio2VideoRequest:
    found = {
        key: str(folder / value) for key in ("image", "audio") if isinstance(value := getattr(request.inputs, key), str)
    }
    return request.model_copy(update={"inputs": request.inputs.model_copy(update=found)})


def environment_layer(model_key: str | None, surroundings: Surroundings) -> tuple[Layer, list[str]]:
    """`OMNIRT_<MODEL>_<KEY>`, and a warning for each `OMNIRT_*` name that nothing reads."""
    known = _environment_names()
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    warnings = []
    for name, value in sorted(surroundings.environ.items()):
        if not name.startswith(ENV_PREFIX) or name in _OTHER_NAMES:
            continue
        if name not in known:
            guess = nearest(name, known)
            warnings.append(f"{name} is not a setting" + (f"; did you mean {guess}?" if guess else ""))
            continue
        owner, key = known[name]
        if owner != model_key or not value or (key in values and names[key].endswith(key.upper())):
            continue
        values[key], names[key] = value, name

    def error(key: str, message: str) -> OmniRTError:
        return ConfigInvalidError(f"environment {names[key]}: {message}", hint=f"correct or unset {names[key]}")

    return Layer(
        "environment", _settings(values, surroundings.cwd, lambda k: f"environment {names[k]}", error)
    ), warnings


@cache
def _environment_names() -> dict[str, tuple[str, str]]:
    """Every variable that is read: name -> (model key, config key)."""
    names: dict[str, tuple[str, str]] = {}
    for model_key in model_keys():
        prefix = f"{ENV_PREFIX}{model_key.upper()}_"
        for alias, key in ENV_ALIASES.items():
            names[prefix + alias] = (model_key, key)
        for key in config_keys():
            if key != "env":
                names[prefix + key.upper()] = (model_key, CONFIG_ALIASES.get(key, key))
    return names


def _settings_files(model_key: str | None, surroundings: Surroundings) -> list[tuple[Path, str]]:
    files = [(surroundings.cwd / PROJECT_FILE, "project file")]
    files += [(path, "user config") for path in surroundings.user_files]
    if surroundings.home is not None and model_key is not None:
        files.append((surroundings.home / ".omnirt" / f"{model_key}.yaml", "user config"))
    return [(path, name) for path, name in files if _is_file(path)]


def _is_file(path: Path) -> bool:
    """False, too, for a home that this user may not look into: a missing home never fails a render."""
    try:
        return path.is_file()
    except OSError:
        return False


def file_layer(path: Path, name: str, model_key: str | None) -> tuple[Layer, list[str]]:
    """One settings file: keys at the top hold for every model, a section for one; the section wins.

    `~/.omnirt/<model>.yaml` is a section by itself.
    """
    document = load_mapping(path)
    sections = set(model_keys())
    _refuse_unknown(document, (), set(config_keys()) | sections | set(GLOBAL_KEYS), document.data)
    for section in sections & set(document.data):
        value = document.data[section]
        if not isinstance(value, Mapping):
            raise document.refuse((section,), f"`{section}` is a section: expected keys and values under it")
        _refuse_unknown(document, (section,), set(config_keys()), value)
    trusted = name != "project file" or belongs_to_user(path)
    values: dict[str, Setting] = {}
    warnings: list[str] = []
    for keys in ((), (model_key,) if model_key else ()):
        found = document.data.get(keys[0], {}) if keys else document.data
        said = {CONFIG_ALIASES.get(key, key): (key, value) for key, value in found.items() if key not in sections}
        values |= _file_values(document, name, keys, said, trusted, warnings)
    return Layer(name, values), warnings


def _file_values(
    document: YamlDocument,
    name: str,
    prefix: tuple[str, ...],
    said: Mapping[str, tuple[str, Any]],
    trusted: bool,  # noqa: FBT001
    warnings: list[str],
) -> dict[str, Setting]:
    def where(key: str) -> tuple[str, ...]:
        return (*prefix, said[key][0])

    def error(key: str, message: str) -> OmniRTError:
        return document.refuse(where(key), f"`{said[key][0]}`: {message}")

    usable: dict[str, Any] = {}
    for key, (_, value) in said.items():
        if key in GLOBAL_KEYS or value is None:
            continue
        if not trusted and option_facts(Config.model_fields[key]).get("trusted"):
            warnings.append(
                f"{document.where(*where(key))}: `{key}` is passed over: the file or its folder belongs to somebody "
                "else or others can write it; give it as a flag or in your own configuration"
            )
            continue
        usable[key] = value
    found = _settings(usable, document.path.parent, lambda key: f"{name} {document.where(*where(key))}", error)
    for key in GLOBAL_KEYS:
        if isinstance(said.get(key, ("", None))[1], str):
            found[key] = Setting(said[key][1], f"{name} {document.where(*where(key))}")
    return found


def belongs_to_user(path: Path) -> bool:
    """True where this user (or root) owns a file and its folder and nobody else can write either."""
    for place in (path, path.parent):
        try:
            facts = place.stat()
        except OSError:
            return False
        if facts.st_uid not in (os.geteuid(), 0) or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
    return True


@cache
def config_keys() -> tuple[str, ...]:
    """Every key that settings files and requests may hold, aliases included."""
    return (*Config.model_fields, *CONFIG_ALIASES)


def _refuse_unknown(document: YamlDocument, prefix: tuple[str, ...], known: set[str], data: Mapping[str, Any]) -> None:
    for key in data:
        if str(key) not in known:
            guess = nearest(str(key), known)
            hint = f"did you mean `{guess}`?" if guess else "see `omnirt schema request` for the keys"
            raise document.refuse((*prefix, str(key)), f"unknown key `{key}`", hint=hint)


def _settings(said: Mapping[str, Any], base: Path, source: Any, error: Any) -> dict[str, Setting]:
    """Validate values and make their paths absolute."""
    try:
        config = Config.model_validate(dict(said))
    except ValidationError as problem:
        first = problem.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        raise error(key, plain(first["msg"])) from problem
    return {key: Setting(_absolute(key, value, base), source(key)) for key, value in config.said().items()}


def _absolute(key: str, value: Any, base: Path) -> Any:
    kind = option_facts(Config.model_fields[key]).get("path")
    if kind == "here":
        return str(base / Path(value).expanduser())
    if kind == "program":
        return _program(value, base)
    return value


def _program(value: str, base: Path) -> str:
    """A program by path, or by name on PATH; links are kept, for a virtual environment's Python is one."""
    if "/" in value:
        return str(base / Path(value).expanduser())
    return shutil.which(value) or value
