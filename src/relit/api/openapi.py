"""The OpenAPI document, made from the same table as the routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from relit import documents
from relit.api import problem, sse
from relit.api.health import version
from relit.api.operation import Operation

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")

_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The same key again answers what the first call made.",
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole document."""
    shapes = list(_shapes(operations))
    references, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    known = dict(zip(map(str, shapes), references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, known, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "relit",
            "version": version(),
            "description": "Durable work for agents. Times are ms since 1970, durations are written 90s, 10m, 2h, 1d.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {name: shape for name, shape in components.items() if not name.endswith("Query")},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _is_document(answer: Any) -> bool:
    return answer is not None and not isinstance(answer, str)


def _shapes(operations: Iterable[Operation]) -> Iterable[Any]:
    yield documents.Problem
    for operation in operations:
        yield operation.query
        if operation.takes is not None or operation.body not in (None, bytes):
            yield operation.takes or operation.body
        if _is_document(operation.answer):
            yield operation.answer


def _operation(operation: Operation, known: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": list(_parameters(operation, components)),
        "responses": {
            str(operation.status): _answer(operation, known),
            "default": {
                "description": "A problem: what was attempted, why not, and how to mend it.",
                "content": {problem.MEDIA_TYPE: {"schema": known[str(documents.Problem)]}},
            },
        },
        "security": [] if operation.scope is None else [{"token": []}],
    }
    if operation.scope is not None:
        found["x-scope"] = operation.scope
    if operation.body is not None:
        found["requestBody"] = _body(operation, known)
    return found


def _body(operation: Operation, known: dict[str, Any]) -> dict[str, Any]:
    shape = operation.takes or operation.body
    schema = {} if shape is bytes else known[str(shape)]
    required = shape is bytes or bool(_required(shape))
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _required(shape: Any) -> bool:
    if not (isinstance(shape, type) and issubclass(shape, msgspec.Struct)):
        return True
    return any(field.required for field in msgspec.structs.fields(shape))


def _answer(operation: Operation, known: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": operation.summary}
    if isinstance(operation.answer, str):
        found["content"] = {operation.answer: {"schema": {"type": "string"}}}
    elif operation.answer is not None:
        found["content"] = {"application/json": {"schema": known[str(operation.answer)]}}
    if operation.streams:
        found["content"][sse.MEDIA_TYPE] = {"schema": {"type": "string"}}
    return found


def _parameters(operation: Operation, components: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for name in _PARAMETER.findall(operation.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    shape = components.get(operation.query.__name__, {})
    for name, schema in shape.get("properties", {}).items():
        required = name in shape.get("required", [])
        yield {"name": name, "in": "query", "required": required, "schema": schema}
    if operation.keyed:
        yield _KEY
    for name, meaning in operation.parameters.items():
        yield {"name": name, "in": "header", "schema": {"type": "string"}, "description": meaning}
