"""The request's flags, derived from `request.Config`: one declaration serves the command line, files and environment.

`takes_request` gives a command every request flag; the command gets them back as one `RequestFlags`.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, Union, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from omnirt_cli.errors import UsageError
from omnirt_cli.request import (
    Audio2VideoRequest,
    BackendChoice,
    Config,
    ExecutorChoice,
    Inputs,
    Panel,
    option_facts,
    plain,
)

if TYPE_CHECKING:
    from omnirt_cli.settings import Layer

_INPUT_PANEL = "Inputs"


@dataclass(frozen=True)
class RequestFlags:
    """What the command line says of a request.

    Attributes:
        request: Flags, and from a `--config` file what no flag said (inputs, model, backend).
        file: The request file's layer of settings.
    """

    request: Audio2VideoRequest
    file: Layer | None


def takes_request(command: Callable[..., None], *, without: Collection[str] = ()) -> Callable[..., None]:
    """Give a command all request flags. It must take `flags: RequestFlags`; its other parameters stay as they are.

    A parameter of the command's own takes the place of the request flag of that name. The request flags named in
    `without` are left out.
    """
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.name != "flags"
    ]
    taken = {parameter.name for parameter in own} | set(without)
    request_parameters = [parameter for parameter in _parameters() if parameter.name not in taken]
    names = [parameter.name for parameter in request_parameters]

    @functools.wraps(command)
    def wrapper(**kwargs: Any) -> None:
        said = {name: kwargs.pop(name) for name in names}
        command(flags=read_flags(said), **kwargs)

    parameters = [*request_parameters, *own]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def read_flags(said: Mapping[str, Any]) -> RequestFlags:
    """A request from flags and, where given, a request file.

    Raises:
        UsageError: A flag has a bad value.
        ConfigInvalidError, InputMissingError: The request file.
    """
    values = {name: value for name, value in said.items() if value is not None and value != []}
    path = values.pop("config", None)
    base, layer = _read_file(Path(path).absolute()) if path else (Audio2VideoRequest(), None)
    if values.pop("task", "audio2video") != "audio2video":
        raise UsageError("--task: only audio2video is rendered here")
    _name_executor(values)
    inputs = base.inputs.model_copy(update={k: values.pop(k) for k in tuple(Inputs.model_fields) if k in values})
    request = Audio2VideoRequest(
        model=values.pop("model", base.model),
        backend=values.pop("backend", base.backend),
        inputs=inputs,
        config=_config(values),
    )
    return RequestFlags(request, layer)


def _name_executor(values: dict[str, Any]) -> None:
    """`--resident` is short for `--executor resident`."""
    if not values.pop("resident", False):
        return
    if values.setdefault("executor", ExecutorChoice.RESIDENT) != ExecutorChoice.RESIDENT:
        raise UsageError(f"--resident does not go with --executor {values['executor'].value}", hint="give one of them")


def _read_file(path: Path) -> tuple[Audio2VideoRequest, Layer]:
    from omnirt_cli.settings import read_request

    return read_request(path)


def _config(values: dict[str, Any]) -> Config:
    if "env" in values:
        values["env"] = dict(_pair(text) for text in values["env"])
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{_flag(str(first['loc'][0]))} {values.get(str(first['loc'][0]))}: {plain(first['msg'])}",
            hint="see --help for the values it takes",
        ) from error


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or "\0" in text:
        raise UsageError(f"--env {text}: write it as KEY=VALUE")
    return name, value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@functools.cache
def _parameters() -> tuple[inspect.Parameter, ...]:
    fixed = (
        _parameter("config", str, ("--config",), "A request file (YAML or JSON); flags beside it win.", _INPUT_PANEL),
        _parameter("task", str, ("--task",), "What to render: audio2video.", _INPUT_PANEL),
        _parameter("model", str, ("--model", "-m"), "Model id; `omnirt models` lists them.", _INPUT_PANEL),
        _parameter("image", str, ("--image",), "The face portrait.", _INPUT_PANEL),
        _parameter("audio", str, ("--audio",), "The speech, in any format ffmpeg decodes.", _INPUT_PANEL),
        _parameter("prompt", str, ("--prompt",), "A hint at expression and emotion.", _INPUT_PANEL),
        _parameter("backend", BackendChoice, ("--backend",), "What to compute on.", Panel.LAUNCH.value),
        _parameter("resident", bool, ("--resident",), "Short for --executor resident.", Panel.LAUNCH.value),
    )
    return (*fixed, *(_config_parameter(name, field) for name, field in Config.model_fields.items()))


def _config_parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    facts = option_facts(field)
    kind = _plain_type(field.annotation)
    flags: tuple[str, ...] = (_flag(name), *facts["flags"])
    if kind is bool:
        flags = (
            (_flag(name),) if name.startswith(("no_", "allow_", "keep_")) else (f"{_flag(name)}/{_flag('no_' + name)}",)
        )
    if kind in (dict, tuple):
        kind = list[str]
    return _parameter(name, kind, flags, field.description or "", facts["panel"])


def _plain_type(annotation: Any) -> Any:
    """The one type behind `Annotated[X, ...] | None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_origin(annotation) or annotation


def _parameter(name: str, kind: Any, flags: tuple[str, ...], help_text: str, panel: str) -> inspect.Parameter:
    option = typer.Option(*flags, help=help_text, rich_help_panel=panel, show_default=False, metavar=_metavar(kind))
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Optional[kind], option],  # noqa: UP045 - built at run time
    )


def _metavar(kind: Any) -> str | None:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(member.value for member in kind)
    return {str: "TEXT", list[str]: "TEXT", int: "NUMBER", float: "NUMBER"}.get(kind)
