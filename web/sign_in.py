"""Signing in, by a single-use link or an API key, and out."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from web.head import is_head
from web.rendering import page
from web.security import SESSION_COOKIE, forget_session, local_path, set_session
from web.services import Given

router = APIRouter(include_in_schema=False)

_USED_LINK = (
    "This link is not valid any more: each works once. Ask for a new one, or use an API key."
)
_WRONG_KEY = "This API key is not known. In the embedded stack it is in the file api-key of the data directory."


# `next` is what browsers and people know this parameter as.
@router.get("/sign-in")
async def sign_in(
    request: Request,
    services: Given,
    token: str | None = None,
    next: str | None = None,  # noqa: A002
) -> Response:
    """The form; with a ``token``, who has it is signed in at once."""
    if token is None or is_head(request):
        return _form(request, next)
    session = await services.access.sign_in(token)
    if session is None:
        return _form(request, next, _USED_LINK)
    return _welcome(services, session, next)


@router.post("/sign-in")
async def sign_in_with_key(
    request: Request,
    services: Given,
    key: Annotated[str, Form(max_length=500)] = "",
    next: Annotated[str | None, Form()] = None,  # noqa: A002
) -> Response:
    whose = await services.access.by_key(key.strip())
    if whose is None:
        return _form(request, next, _WRONG_KEY)
    return _welcome(services, await services.access.start_session(whose), next)


@router.post("/sign-out")
async def sign_out(request: Request, services: Given) -> Response:
    if session := request.cookies.get(SESSION_COOKIE):
        await services.access.end_session(session)
    response = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    forget_session(response, services.settings)
    return response


def _form(request: Request, next_page: str | None, error: str | None = None) -> Response:
    status = HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK
    answer = page(request, "sign_in.html", status, next=local_path(next_page), problem=error)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _welcome(services: Given, session: str, next_page: str | None) -> Response:
    response = RedirectResponse(local_path(next_page), HTTPStatus.SEE_OTHER)
    response.headers["Cache-Control"] = "no-store"
    set_session(response, session, services.settings)
    return response
