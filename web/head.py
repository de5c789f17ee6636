"""HEAD: answered as GET is, without the content (RFC 9110, 9.3.2)."""

from collections.abc import MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

_ASKED = "onthedot.head"


class Head:
    """Routes know GET alone; this lets each of them answer HEAD as well."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        ended = False

        async def send_without_content(message: MutableMapping[str, Any]) -> None:
            nonlocal ended
            if message["type"] != "http.response.body":
                await send(message)
            elif not ended:
                ended = True  # a stream would go on for ever: the answer is over here
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app({**scope, "method": "GET", _ASKED: True}, receive, send_without_content)


def is_head(request: Request) -> bool:
    """Whether it was HEAD that was asked: for what GET does only once."""
    return _ASKED in request.scope
