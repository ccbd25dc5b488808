"""The API's description (OpenAPI), with the models of bodies that routes read themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_REFERENCE = "#/components/schemas/{model}"
_models: set[type[BaseModel]] = set()


def reference(model: type[BaseModel]) -> dict[str, str]:
    """For ``openapi_extra``: a schema that :func:`install` describes."""
    _models.add(model)
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def install(app: FastAPI) -> None:
    """Have the application's description name every model that was referred to."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = describe()
            ordered = sorted(_models, key=lambda model: model.__name__)
            _, schemas = models_json_schema([(one, "validation") for one in ordered], ref_template=_REFERENCE)
            known = document.setdefault("components", {}).setdefault("schemas", {})
            for name, schema in schemas.get("$defs", {}).items():
                known.setdefault(name, schema)
        return app.openapi_schema or document

    app.openapi = openapi  # type: ignore[method-assign]
