"""Errors as HTTP answers: RFC 9457 problems for programs, a page for people.

One handler a family. What a request got wrong is told as FieldErrors: the field as the client
wrote it, the value, what is wrong, what would do.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match

from onthedot import errors
from onthedot.errors import FieldError, OnthedotError
from web import guard, rendering
from web.shape_errors import field_errors

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_LONGEST_VALUE = 300  # characters of a refused value that are sent back

#: The status and the name of each family; the nearest base class counts.
_FAMILIES: dict[type[OnthedotError], tuple[HTTPStatus, str]] = {
    errors.InvalidInput: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input"),
    errors.NotFound: (HTTPStatus.NOT_FOUND, "not-found"),
    errors.TaskExists: (HTTPStatus.CONFLICT, "task-exists"),
    errors.VersionMismatch: (HTTPStatus.PRECONDITION_FAILED, "version-mismatch"),
    errors.CountMismatch: (HTTPStatus.CONFLICT, "count-mismatch"),
    # draft-ietf-httpapi-idempotency-key-header, section 2.7
    errors.KeyReused: (HTTPStatus.UNPROCESSABLE_ENTITY, "key-reused"),
    errors.Conflict: (HTTPStatus.CONFLICT, "conflict"),
    errors.Unauthenticated: (HTTPStatus.UNAUTHORIZED, "unauthenticated"),
    errors.NotAllowed: (HTTPStatus.FORBIDDEN, "forbidden"),
    errors.Unavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
    OnthedotError: (HTTPStatus.INTERNAL_SERVER_ERROR, "internal"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What went wrong, as RFC 9457 has it."""

    status: int
    kind: str
    title: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)  # more that this kind tells

    def as_json(self, instance: str) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": f"urn:onthedot:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            **self.members,
        }
        if self.errors:
            document["errors"] = [
                {
                    "field": one.field,
                    "value": _short(one.value),
                    "problem": one.problem,
                    "remedy": one.remedy,
                }
                for one in self.errors
            ]
        return document


def problem_of(error: OnthedotError) -> Problem:
    """The problem that ``error`` is."""
    family = next(base for base in type(error).__mro__ if base in _FAMILIES)
    status, kind = _FAMILIES[family]
    headers: dict[str, str] = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="onthedot"'
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "5"
    members: dict[str, Any] = {}
    if isinstance(error, errors.CountMismatch):
        members = {"count": error.count, "sample": error.sample}
    return Problem(
        status=status,
        kind=kind,
        members=members,
        title=family.__doc__ or status.phrase,
        detail=str(error),
        errors=error.fields if isinstance(error, errors.InvalidInput | errors.Conflict) else (),
        headers=headers,
    )


def respond(request: Request, problem: Problem) -> Response:
    """The problem as JSON, or as a page where a person asked."""
    if wants_json(request):
        body = json.dumps(problem.as_json(request.url.path), ensure_ascii=False)
        return Response(
            body.encode("utf-8", "replace"), problem.status, dict(problem.headers), MEDIA_TYPE
        )
    page = rendering.page(request, "error.html", problem.status, problem=problem)
    page.headers.update(problem.headers)
    return page


def wants_json(request: Request) -> bool:
    return request.url.path.startswith("/api/") or "text/html" not in request.headers.get(
        "accept", "text/html" if "hx-request" in request.headers else ""
    )


def add_handlers(app: FastAPI) -> None:
    """Answer every family of errors: the app's table of them."""
    app.add_exception_handler(errors.Unauthenticated, _unauthenticated)
    app.add_exception_handler(OnthedotError, _onthedot_error)
    app.add_exception_handler(RequestValidationError, _refused_by_shape)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)


async def _onthedot_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OnthedotError)
    problem = problem_of(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return respond(request, problem)


async def _unauthenticated(request: Request, error: Exception) -> Response:
    """A program gets 401; a page goes to the sign-in, and comes back afterwards."""
    assert isinstance(error, errors.Unauthenticated)
    if "hx-request" in request.headers:
        page = request.headers.get("hx-current-url", "").partition("//")[2].partition("/")[2]
        away = f"/sign-in?next={quote('/' + page, safe='/')}"
        return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": away})
    if wants_json(request):
        return respond(request, problem_of(error))
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method not in ("GET", "HEAD"):
        wanted = "/"
    return RedirectResponse(f"/sign-in?next={quote(wanted, safe='/')}", HTTPStatus.SEE_OTHER)


async def _refused_by_shape(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    refused = errors.InvalidInput(*field_errors(error.errors(), error.body))
    return respond(request, problem_of(refused))


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    match status:
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return respond(request, too_large(request))
        case HTTPStatus.BAD_REQUEST:
            return respond(request, _unreadable(request))
        case HTTPStatus.NOT_FOUND:
            detail, headers = f"There is nothing at {request.url.path}.", {}
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(_allowed(request))
            if request.method == "OPTIONS":  # RFC 9110, 9.3.7
                return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})
            detail = f"{request.method} does not work at {request.url.path}; {allowed} do."
            headers = {"Allow": allowed}
        case _:
            detail, headers = str(error.detail), dict(error.headers or {})
    return respond(
        request,
        Problem(
            status=status,
            kind=status.phrase.lower().replace(" ", "-"),
            title=status.phrase,
            detail=detail,
            headers=headers,
        ),
    )


def _allowed(request: Request) -> list[str]:
    """The methods that work at the request's path: Starlette tells only those of one route."""
    routes = request.app.router.routes

    def works(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in routes)

    found = [one for one in ("GET", "POST", "PUT", "PATCH", "DELETE") if works(one)]
    return [
        *(["GET", "HEAD"] if "GET" in found else []),
        *(one for one in found if one != "GET"),
        "OPTIONS",
    ]


def _unreadable(request: Request) -> Problem:
    wrong = FieldError(
        "body",
        request.headers.get("content-type"),
        "cannot be read",
        "Send it as its Content-Type says: JSON in UTF-8, not nested hundreds of levels deep.",
    )
    return Problem(
        status=HTTPStatus.BAD_REQUEST,
        kind="bad-request",
        title="The request's body cannot be read.",
        detail=str(wrong),
        errors=(wrong,),
    )


def too_large(request: Request) -> Problem:
    size = request.headers.get("content-length")
    wrong = FieldError(
        "body",
        f"{size} bytes" if size else "a body that is too large",
        "is larger than this server reads",
        "A task's definition may have 64 KiB; send less.",
    )
    return Problem(
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        kind="content-too-large",
        title="The request's body is too large.",
        detail=str(wrong),
        errors=(wrong,),
        headers={"Connection": "close"},
    )


async def _unexpected(request: Request, error: Exception) -> Response:
    """A mistake of ours. Starlette raises it again once this is sent, so that it is logged."""
    problem = Problem(
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        kind="internal",
        title="Something went wrong in Onthedot.",
        detail="The server's log says what; nothing was kept of this request that was not answered.",
    )
    response = respond(request, problem)
    response.headers.update(guard.HEADERS)  # it is sent outside of the middleware that adds them
    return response


def _short(value: Any) -> Any:
    """``value`` as JSON can show it, cut where it is long."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        value = text = str(value)
    return value if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
