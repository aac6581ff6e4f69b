"""The API's schema: what the framework finds, and the bodies that it cannot see because routes read them themselves."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from omnirt_cli.server.bodies import GenerateBody, JobBody
from omnirt_cli.server.problems import ErrorBody

_READ_BY_ROUTES: dict[str, type[BaseModel]] = {"/v1/generate": GenerateBody, "/v1/jobs": JobBody}
_REFERENCE = "#/components/schemas/{model}"
_FILE = {"type": "string", "format": "binary"}


def install(app: FastAPI) -> None:
    """Have the app serve the whole schema."""
    found_by_framework = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = found_by_framework()
            app.openapi_schema = schema
            _, definitions = models_json_schema(_modes(), ref_template=_REFERENCE)
            schema.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            for path, kind in _READ_BY_ROUTES.items():
                schema["paths"][path]["post"]["requestBody"] = _body(kind.__name__)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _modes() -> list[tuple[type[BaseModel], Literal["validation"]]]:
    kinds: list[type[BaseModel]] = [*_READ_BY_ROUTES.values(), ErrorBody]
    return [(kind, "validation") for kind in kinds]


def _body(name: str) -> dict[str, Any]:
    reference = {"$ref": _REFERENCE.format(model=name)}
    form = {
        "type": "object",
        "properties": {
            "image": {**_FILE, "description": "The face portrait."},
            "audio": {**_FILE, "description": "The speech."},
            "request": {**reference, "description": "The JSON body, without the inputs that are uploaded."},
            "model": {"type": "string"},
            "preset": {"type": "string"},
            "prompt": {"type": "string"},
        },
    }
    return {
        "required": True,
        "content": {
            "application/json": {"schema": reference},
            "multipart/form-data": {"schema": form, "encoding": {"request": {"contentType": "application/json"}}},
        },
    }
