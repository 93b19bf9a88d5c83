"""The served document and the routes are one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from relit import errors
from relit.api.build import OPERATIONS, build
from relit.api.openapi import document
from relit.api.problem import status_of

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def served() -> Any:
    return document(OPERATIONS)


def walk(value: Any) -> Any:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


async def test_it_is_served(http: httpx.AsyncClient, served: Any) -> None:
    answer = await http.get("/openapi.json")
    assert answer.json() == served
    assert answer.json()["openapi"].startswith("3.1")


def test_every_route_is_in_it_and_nothing_else(parts: Any, served: Any) -> None:
    routes = {
        (method.lower(), route.path)
        for route in build(parts).routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    assert routes == {(method, path) for path, item in served["paths"].items() for method in item}


def test_every_reference_leads_somewhere(served: Any) -> None:
    names = set(served["components"]["schemas"])
    used = {part["$ref"] for part in walk(served) if "$ref" in part}
    assert used
    assert {ref.removeprefix("#/components/schemas/") for ref in used} <= names


def test_every_operation_is_whole(served: Any) -> None:
    names = []
    for path, item in served["paths"].items():
        assert set(item) <= METHODS
        for method, operation in item.items():
            names.append(operation["operationId"])
            assert operation["summary"].endswith("."), (method, path)
            declared = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))
            assert all(each["required"] for each in operation["parameters"] if each["in"] == "path")
            assert len({(each["name"], each["in"]) for each in operation["parameters"]}) == len(operation["parameters"])
            assert "default" in operation["responses"]
            assert all(response["description"] for response in operation["responses"].values())
            assert (method in ("get", "delete")) <= ("requestBody" not in operation)
    assert len(set(names)) == len(names)


def test_what_needs_a_token_says_so(served: Any) -> None:
    free = {path for path, item in served["paths"].items() for each in item.values() if not each["security"]}
    assert free == {"/healthz", "/readyz", "/openapi.json", "/metrics", "/v1/webhooks/{name}"}


def test_every_property_has_a_schema_and_every_shape_a_description(served: Any) -> None:
    for name, shape in served["components"]["schemas"].items():
        assert shape.get("description"), name


def test_every_route_is_in_the_reference() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/http-api.md").read_text()
    listed = re.findall(r"^\| `([A-Z]+) (\S+)` \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    assert [(method, path, summary) for method, path, _, summary in listed] == [
        (each.method, each.path, each.summary) for each in sorted(OPERATIONS, key=lambda each: place(text, each.path))
    ]
    assert {path for _, path, needs, _ in listed if "key" in needs} == {each.path for each in OPERATIONS if each.keyed}


def place(text: str, path: str) -> int:
    return text.index(f" {path}` |")


def test_every_status_of_the_reference_is_the_one_that_is_sent() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/http-api.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| (.*) \|$", text, re.MULTILINE)
    told = {code: int(status) for status, codes in rows for code in re.findall(r"`([a-z-]+)`", codes)}
    known = errors.by_code()
    assert {code: status_of(known[code]("x")) for code in told} == told
