"""The HTTP surface described by OpenAPI 3.1, made from the table of operations and its very types.

`python -m offline_sync.clearing.description FILE` writes it (`make openapi`).
"""

import inspect
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import msgspec

from offline_sync import surface
from offline_sync.clearing.routes import ANYBODY, JSON, OPERATIONS, Operation
from offline_sync.messages import Refusal
from offline_sync.requests import AUTHENTICATION, WINDOW_S

VERSION: Final = "1"
BODY_ERRORS: Final[dict[int, tuple[str, ...]]] = {400: ("malformed",), 415: ("content-type",)}
SIGNED_ERRORS: Final[dict[int, tuple[str, ...]]] = {
    401: ("unsigned", "clock", "certificate", "signature", "replayed"),
    403: ("role",),
}
ALL_ERRORS: Final[dict[int, tuple[str, ...]]] = {
    400: ("parameter", "disconnected"),
    408: ("slow",),
    413: ("too-long",),
    429: ("rate",),
    500: ("failed",),
    503: ("ledger", "busy"),
}
WAITS: Final = (429, 503)
"""Refusals that tell, by Retry-After, when to ask again."""
ITSELF: Final = Operation(
    method="GET",
    path=surface.DESCRIPTION,
    name="description",
    meaning="This description.",
    roles=ANYBODY,
    answer=dict[str, Any],
    run=lambda _clearing, _asked: describe(),
)
EVERY: Final = (*OPERATIONS, ITSELF)
_REF: Final = "#/components/schemas/{name}"
_SIGNING: Final = (
    f"Authorization: {AUTHENTICATION} CERTIFICATE.TIME.NONCE.SIGNATURE, each base64url without padding: "
    "certificate (162), seconds since 1970 (4, big-endian), nonce (16), signature (64) over "
    "E5 (terminals) or F7 (operators) ‖ 01 ‖ suite ‖ 00 ‖ scheme (4) ‖ certificate digest (8) ‖ time (4) "
    "‖ nonce (16) ‖ SHA-256(METHOD ‖ 20 ‖ path and query as sent) (32) ‖ SHA-256(body) (32). The time must "
    f"be within {WINDOW_S} s of clearing's, the nonce is good once. docs/http.md says it in full."
)


_PHRASES: Final = {413: "Content Too Large", 422: "Unprocessable Content"}
"""RFC 9110's names, which Python has from 3.13 on: the description is the same in every version."""


def errors_of(operation: Operation) -> dict[int, tuple[str, ...]]:
    """Every refusal that an operation may give: status → codes."""
    found: dict[int, tuple[str, ...]] = {}
    groups: list[dict[int, tuple[str, ...]]] = [ALL_ERRORS, operation.refusals]
    if operation.roles != ANYBODY:
        groups.append(SIGNED_ERRORS)
    if operation.body is not None:
        groups.append(BODY_ERRORS)
    for group in groups:
        for status, codes in group.items():
            found[status] = tuple(dict.fromkeys((*found.get(status, ()), *codes)))
    return dict(sorted(found.items()))


def describe() -> dict[str, Any]:
    """The description, as JSON would hold it."""
    types = [kind for one in EVERY for kind in (one.body, one.answer) if kind not in (None, bytes)]
    _, schemas = msgspec.json.schema_components([Refusal, *dict.fromkeys(types)], ref_template=_REF)
    for schema in schemas.values():
        if "description" in schema:  # Python does this itself from 3.13 on
            schema["description"] = inspect.cleandoc(schema["description"])
    paths: dict[str, dict[str, Any]] = {}
    for operation in EVERY:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hardwallet clearing",
            "version": VERSION,
            "description": "The operator's side of an offline wallet: uploads in, books and notices out. "
            "Bytes in JSON are base64, amounts are integer fen, times are seconds since 1970.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "signed": {"type": "http", "scheme": AUTHENTICATION, "description": _SIGNING}
            },
        },
    }


def to_bytes() -> bytes:
    """The bytes of docs/openapi.json, as it lies in the tree."""
    return msgspec.json.format(msgspec.json.encode(describe()), indent=2) + b"\n"


def _operation(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.meaning,
        "security": [],
        "parameters": [
            {
                "name": one.name,
                "in": one.place,
                "required": one.default is None,
                "description": one.meaning,
                "schema": {"type": "string", "pattern": f"^{one.pattern}$"}
                | ({} if one.default is None else {"default": one.default}),
            }
            for one in operation.parameters
        ],
    }
    if operation.roles != ANYBODY:
        found["security"] = [
            {"signed": [role.value]} for role in sorted(operation.roles, key=lambda r: r.value)
        ]
    if operation.body is not None:
        found["requestBody"] = {
            "required": True,
            "description": f"At most {operation.limit_bytes} bytes.",
            "x-max-bytes": operation.limit_bytes,
            "content": {operation.body_media: _media(operation.body, operation.body_media)},
        }
    found["responses"] = {
        "200": {
            "description": HTTPStatus.OK.phrase,
            "content": {operation.answer_media: _media(operation.answer, operation.answer_media)},
        }
    }
    if operation.newer:
        found["responses"]["204"] = {"description": "Nothing is newer than what is held."}
    found["responses"] |= {
        str(status): _refusal(status, codes) for status, codes in errors_of(operation).items()
    }
    return found


def _media(kind: Any, media: str) -> dict[str, Any]:
    if kind is bytes:
        return {"schema": {"type": "object"}} if media == JSON else {}  # OpenAPI 3.1: raw bytes have none
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return {"schema": schema}


def _refusal(status: int, codes: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": f"{_PHRASES.get(status, HTTPStatus(status).phrase)}: {', '.join(codes)}",
        "content": {"application/json": {"schema": {"$ref": _REF.format(name="Refusal")}}},
    }
    if status in WAITS:
        found["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        }
    if status == HTTPStatus.UNAUTHORIZED:
        found["headers"] = {"WWW-Authenticate": {"description": AUTHENTICATION, "schema": {"type": "string"}}}
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(to_bytes())
