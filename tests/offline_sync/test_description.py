"""The description of the HTTP surface: valid, complete, up to date, and no other than what is answered."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from offline_sync import surface
from offline_sync.clearing import Clearing
from offline_sync.clearing.description import EVERY, describe, errors_of, to_bytes
from offline_sync.clearing.routes import Operation
from offline_sync.clearing.service import application
from offline_sync.client import ClearingClient
from offline_sync.requests import Role
from tests.offline_sync.asking import InProcess, client_of
from tests.offline_sync.factory import ACQUIRER, NOW, Scheme

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "http.md"
DESCRIPTION = REPOSITORY / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DESCRIPTION.read_bytes())
    return found


@pytest.fixture
def clearing() -> Clearing:
    scheme = Scheme()
    return Clearing("sqlite://", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)


def each(described: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_is_up_to_date() -> None:
    assert DESCRIPTION.read_bytes() == to_bytes(), "run: make openapi"


def test_it_is_valid_openapi(described: dict[str, Any]) -> None:
    assert described["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(described).validate()


def test_the_validator_can_fail(described: dict[str, Any]) -> None:
    broken = json.loads(json.dumps(described))
    broken["paths"]["/v1/settlements/{number}/{payee}"]["get"]["parameters"].pop()
    with pytest.raises(Exception, match="payee"):
        OpenAPIV31SpecValidator(broken).validate()


def test_every_route_is_described_and_every_description_is_a_route(
    clearing: Clearing, described: dict[str, Any]
) -> None:
    routes = {
        (method, route.path)
        for route in application(clearing).routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    assert routes == {(method, path) for method, path, _ in each(described)}


@pytest.mark.parametrize("operation", EVERY, ids=lambda one: one.name)
def test_each_says_who_may_ask_how_much_and_what_is_refused(
    described: dict[str, Any], operation: Operation
) -> None:
    told = described["paths"][operation.path][operation.method.lower()]
    assert told["operationId"] == operation.name
    assert told["summary"]
    roles = {role for one in told["security"] for role in one["signed"]}
    assert roles == {role.value for role in operation.roles}
    assert ("401" in told["responses"]) == ("403" in told["responses"]) == bool(roles)
    assert ("requestBody" in told) == (operation.method == "POST")
    if operation.method == "POST":
        assert told["requestBody"]["x-max-bytes"] == operation.limit_bytes > 0
        assert {"400", "413", "415", "422"} <= set(told["responses"])
    assert {"200", "429", "500", "503"} <= set(told["responses"])
    for status, codes in errors_of(operation).items():
        assert codes
        assert all(code in told["responses"][str(status)]["description"] for code in codes)
    for later in ("429", "503"):
        assert "Retry-After" in told["responses"][later]["headers"]


def test_names_are_used_once(described: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in each(described)]
    assert len(set(names)) == len(names)


def test_every_message_is_bounded(described: dict[str, Any]) -> None:
    """What comes in holds no list and no string of any length."""
    schemas = described["components"]["schemas"]
    open_ended = [
        (name, field)
        for name in ("Batch", "Item", "Loads", "HandedOrder", "LoadReceipt", "Return", "Lost", "NewOrders")
        for field, schema in schemas[name].get("properties", {}).items()
        if (schema.get("type") == "array" and "maxItems" not in schema)
        or (schema.get("type") == "string" and "maxLength" not in schema)
    ]
    assert open_ended == []


def test_every_operation_has_a_method_of_the_client() -> None:
    """Each method's docstring names its request, and each request has a method."""
    told = {
        found.group(0)
        for _, method in inspect.getmembers(ClearingClient, inspect.isfunction)
        for found in re.finditer(r"(GET|POST) /[\w./{}]+", method.__doc__ or "")
    }
    assert told == {f"{one.method} {one.path}" for one in EVERY}


def test_the_page_lists_every_request() -> None:
    listed = re.findall(r"^\| `(GET|POST) (/[\w./]+?)(?:\?[^`]*)?` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    wanted = [(one.method, re.sub(r"{(\w+)}", lambda found: found[1].upper(), one.path)) for one in EVERY]
    assert sorted(listed) == sorted(wanted)


def test_the_page_lists_every_code() -> None:
    text = PAGE.read_text("utf-8")
    codes = {
        code for one in EVERY for status, found in errors_of(one).items() if status != 422 for code in found
    }
    assert {code for code in codes if f"`{code}`" not in text} == set()


def test_roles_are_told_by_their_words(described: dict[str, Any]) -> None:
    told = {role for _, _, one in each(described) for item in one["security"] for role in item["signed"]}
    assert told == {role.value for role in Role}


def test_clearing_gives_its_description_itself(clearing: Clearing) -> None:
    with client_of(InProcess(application(clearing)), None) as client:
        assert client.description() == describe()
        client.health()


def test_paths_are_the_shared_ones() -> None:
    shared = {value for name, value in vars(surface).items() if name.isupper() and str(value).startswith("/")}
    assert {re.sub(r"/{.*", "", one.path) for one in EVERY} == shared
