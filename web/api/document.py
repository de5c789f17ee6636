"""The OpenAPI document of the REST API."""

from functools import lru_cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import RedirectResponse, Response

from web.api.answers import respond

DESCRIPTION = """\
Register tasks, one-time or recurring; each is started on the dot and leaves a row in the log.

Every call wants `Authorization: Bearer <API key>`. Instants in answers are UTC with `Z`; those that
are sent want their offset. Durations are written `90s`, `10m`, `1h30m` or `PT10M`. A list answers
`{"items": [...], "next_cursor": ...}`: pass `next_cursor` as `cursor` until it is null. What goes
wrong is answered as `application/problem+json` (RFC 9457), with the fields that are at fault. `HEAD`
answers wherever `GET` does, and `OPTIONS` tells what works.
"""

router = APIRouter(include_in_schema=False)

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:onthedot:problem:invalid-input"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "count": {
            "type": "integer",
            "description": "Of a count-mismatch: how many tasks the filter finds.",
        },
        "sample": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Of a count-mismatch: the ids of some of them.",
        },
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "value", "problem", "remedy"],
                "properties": {
                    "field": {"type": "string", "description": "As you wrote it, with dots."},
                    "value": {"description": "What you sent, cut where it is long."},
                    "problem": {"type": "string"},
                    "remedy": {"type": "string"},
                },
            },
        },
    },
    "examples": [
        {
            "type": "urn:onthedot:problem:invalid-input",
            "title": "The request cannot be accepted as it is.",
            "status": 422,
            "detail": "schedule.timezone = 'Europe/Berln': no such time zone. Did you mean Europe/Berlin?",
            "instance": "/api/v1/tasks",
            "errors": [
                {
                    "field": "schedule.timezone",
                    "value": "Europe/Berln",
                    "problem": "no such time zone",
                    "remedy": "Did you mean Europe/Berlin?",
                }
            ],
        }
    ],
}
_ALWAYS = {
    "401": "No API key, or one that is not known",
    "422": "The request cannot be accepted: each field that is at fault is named",
    "503": "Postgres, or for limits the engine, does not answer; nothing was kept",
}
_ONE = {"404": "There is no such task, run or calendar"}
_GUARDED = {"412": "It has another version than If-Match names"}
_CHANGES = ("/pause", "/resume", "/restore")
_MADE = {"409": "The id or the name is taken, or the request does not fit the present state"}
_SENT = {"413": "The body is larger than this server reads"}


@router.get("/api/openapi.json")
async def openapi(request: Request) -> Response:
    return respond(_document(request.app))


@router.get("/api/docs")
async def docs() -> Response:
    """The usual viewers come from a CDN, which our content security policy forbids."""
    return RedirectResponse("/api/openapi.json")


@lru_cache(1)
def _document(app: FastAPI) -> dict[str, Any]:
    document: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document["components"]
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["schemas"]["Problem"] = _PROBLEM
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/api/"):
                operation["responses"] |= _problems(path, method)
            else:
                operation["security"] = []
    return document


def _problems(path: str, method: str) -> dict[str, Any]:
    told = dict(_ALWAYS)
    if "{" in path:
        told |= _ONE
    if method in ("put", "patch", "delete") or path.endswith(_CHANGES):
        told |= _GUARDED
    if method == "post":
        told |= _MADE
    if method in ("post", "put", "patch"):
        told |= _SENT
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": text, "content": content} for status, text in sorted(told.items())
    }
