"""The page at `/docs`: every route and document of the API's schema, as plain HTML.

Made here rather than by the framework, whose page loads its scripts from somebody else's server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, select_autoescape

Schema = Mapping[str, Any]

_TEMPLATE = Path(__file__).with_name("reference.html")
_NAMED = "#/components/schemas/"


@dataclass(frozen=True)
class Field:
    """A parameter, or a key of a document."""

    name: str
    type: str
    required: bool
    text: str


@dataclass(frozen=True)
class Operation:
    """One route with one method.

    Attributes:
        bodies: Content type -> the document's name.
        answers: Status -> the document's name, or its content type.
    """

    method: str
    path: str
    text: str
    parameters: tuple[Field, ...]
    bodies: Mapping[str, str]
    answers: Mapping[str, str]


@dataclass(frozen=True)
class Document:
    """A named schema."""

    name: str
    text: str
    fields: tuple[Field, ...]
    values: tuple[str, ...]


def reference_page(schema: Schema) -> str:
    """The API's schema as a page."""
    environment = Environment(autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    documents = [_document(name, found) for name, found in sorted(schema["components"]["schemas"].items())]
    return template.render(info=schema["info"], operations=list(_operations(schema)), documents=documents)


def _operations(schema: Schema) -> Iterator[Operation]:
    for path, methods in schema["paths"].items():
        for method, found in methods.items():
            yield Operation(
                method=method.upper(),
                path=path,
                text=found.get("description", ""),
                parameters=tuple(_parameter(one) for one in found.get("parameters", ())),
                bodies=_contents(found.get("requestBody", {})),
                answers={status: ", ".join(_contents(one).values()) for status, one in found["responses"].items()},
            )


def _parameter(found: Schema) -> Field:
    name = f"{found['name']} ({found['in']})"
    return Field(name, _type(found["schema"]), bool(found.get("required")), found.get("description", ""))


def _contents(found: Schema) -> dict[str, str]:
    return {kind: _type(one.get("schema", {})) or kind for kind, one in found.get("content", {}).items()}


def _document(name: str, found: Schema) -> Document:
    required = set(found.get("required", ()))
    fields = tuple(
        Field(key, _type(one), key in required, one.get("description", ""))
        for key, one in found.get("properties", {}).items()
    )
    values = tuple(str(value) for value in found.get("enum", ()))
    return Document(name, found.get("description", ""), fields, values)


def _type(found: Schema) -> str:
    """A schema in a few words; a named one by its name."""
    if "$ref" in found:
        return str(found["$ref"]).removeprefix(_NAMED)
    if "anyOf" in found:
        return " or ".join(_type(one) for one in found["anyOf"])
    if "const" in found:
        return repr(found["const"])
    if found.get("type") == "array":
        return f"list of {_type(found.get('items', {})) or 'anything'}"
    words = [str(found.get("format") or found.get("type") or "")]
    words += [f"{sign} {found[key]}" for key, sign in (("minimum", ">="), ("maximum", "<=")) if key in found]
    return " ".join(words).strip()
