"""The bodies against the coordinator's own OpenAPI document.

``SIFLEET_OPENAPI`` names a file with it (``curl http://127.0.0.1:7440/openapi.json``); the project's tests set it.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from sifleet import models
from sifleet.decode import json_name

BODIES = sorted(name for name in models.__all__ if dataclasses.is_dataclass(getattr(models, name)))


@pytest.fixture(scope="module")
def schemas() -> Mapping[str, Any]:
    path = os.environ.get("SIFLEET_OPENAPI")
    if path is None:
        pytest.skip("SIFLEET_OPENAPI names no document")
    known: Mapping[str, Any] = json.loads(Path(path).read_text())["components"]["schemas"]
    return known


def expected(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> object:
    """Tell which type a value of a schema has here; of texts with a list of values, that list."""
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            (some,) = [option for option in schema[choice] if option.get("type") != "null"]
            return Union[expected(some, schemas), None]
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        if "enum" in schemas[name]:
            return Literal[tuple(schemas[name]["enum"])]
        return getattr(models, name, f"no body {name}")
    kind = schema["type"]
    if isinstance(kind, list):
        (some,) = [name for name in kind if name != "null"]
        return Union[expected({**schema, "type": some}, schemas), None]
    if kind == "array":
        return tuple[expected(schema["items"], schemas), ...]  # type: ignore[misc]
    if kind == "object":
        return Mapping[str, expected(schema["additionalProperties"], schemas)]  # type: ignore[misc]
    return {"string": str, "integer": int, "boolean": bool}[kind]


def fits(hint: object, wanted: object) -> bool:
    """Tell whether a type is the one; a list of values may be kept open by a plain text."""
    if hint == wanted or (hint is str and get_origin(wanted) is Literal):
        return True
    if get_origin(hint) is not get_origin(wanted) or get_origin(hint) in (None, Literal):
        return False
    return len(get_args(hint)) == len(get_args(wanted)) and all(map(fits, get_args(hint), get_args(wanted)))


def whole(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put a body together that the document has in parts, for it is flattened on the wire."""
    properties, required = dict(schema.get("properties", {})), list(schema.get("required", []))
    for part in schema.get("allOf", []):
        part = whole(schemas[part["$ref"].rsplit("/", 1)[-1]] if "$ref" in part else part, schemas)
        properties.update(part["properties"])
        required += part["required"]
    return {"properties": properties, "required": required}


@pytest.mark.parametrize("name", BODIES)
def test_every_body_is_as_the_document_says(name: str, schemas: Mapping[str, Any]) -> None:
    body, schema = getattr(models, name), whole(schemas[name], schemas)
    hints = {json_name(field): hint for field, hint in get_type_hints(body).items()}
    assert set(hints) == set(schema["properties"])
    for field, hint in hints.items():
        wanted = expected(schema["properties"][field], schemas)
        assert fits(hint, wanted), f"{name}.{field} is {hint}, the document says {wanted}"
        nullable = get_origin(hint) is Union
        assert nullable or field in schema["required"] or has_default(body, field), f"{name}.{field} may be left out"


def has_default(body: Any, field: str) -> bool:
    """Tell whether a field may be left out here."""
    found = next(one for one in dataclasses.fields(body) if json_name(one.name) == field)
    return found.default is not dataclasses.MISSING


def test_a_body_that_differs_would_be_found() -> None:
    enum = {"Kind": {"type": "string", "enum": ["a", "b"]}}
    assert fits(Literal["a", "b"], expected({"$ref": "#/components/schemas/Kind"}, enum))
    assert fits(str, expected({"$ref": "#/components/schemas/Kind"}, enum))
    assert not fits(Literal["a"], expected({"$ref": "#/components/schemas/Kind"}, enum))
    assert not fits(Literal["a", "b", "c"], expected({"$ref": "#/components/schemas/Kind"}, enum))
    assert not fits(str, expected({"type": ["string", "null"]}, enum))
    assert not fits(tuple[int, ...], expected({"type": "array", "items": {"type": "string"}}, enum))
