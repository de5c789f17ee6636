"""What every request passes before a route sees it: the host check, the cross-site check, and the
headers that each answer gets. One pure ASGI middleware: it costs microseconds.
"""

import ipaddress
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from onthedot.errors import Forbidden
from onthedot.settings import Settings

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with that, browsers send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: The largest body, in bytes. A definition may have 64 KiB, and a form writes it longer.
MOST_BODY = 256 * 1024
#: Where more is read: a list of a thousand tasks.
_MOST_BODY_AT = {"/api/v1/tasks:batch": 16 * 1024 * 1024}
_READING = frozenset(("GET", "HEAD", "OPTIONS"))
_OWN = frozenset(("same-origin", "none"))  # none: typed in or from a bookmark


class Guard:
    """Refuse requests to another host's name and from another site."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._hosts = _host_names(settings)
        self._public = urlsplit(settings.url).netloc.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "private, no-cache")
            await send(message)

        answer = self._refuse(Request(scope)) or self._app
        await answer(scope, _limited(receive, _most_body(scope["path"])), send_with_headers)

    def _refuse(self, request: Request) -> Response | None:
        from web import problems  # it uses this module's headers

        headers = request.headers
        if refusal := self._wrong_host(headers) or self._cross_site(request.method, headers):
            return problems.respond(request, problems.problem_of(refusal))
        if int(headers.get("content-length", 0)) > _most_body(request.url.path):
            return problems.respond(request, problems.too_large(request))
        return None

    def _wrong_host(self, headers: Headers) -> Forbidden | None:
        """On loopback only our own names count: another site's name that was pointed here (DNS
        rebinding) would make its pages of our origin.
        """
        if self._hosts is None or _host_name(headers.get("host", "")) in self._hosts:
            return None
        return Forbidden(
            f"Host = {headers.get('host')!r}: not a name of this server. Use {self._settings.url}, "
            "or set ONTHEDOT_PUBLIC_URL to the address that people use."
        )

    def _cross_site(self, method: str, headers: Headers) -> Forbidden | None:
        """Refuse what another site's page sends with our cookie (as Go's CrossOriginProtection):
        by Sec-Fetch-Site, else by Origin; what sends neither is no browser.
        """
        if method in _READING:
            return None
        if "cookie" not in headers and headers.get("authorization", "").lower().startswith(
            "bearer "
        ):
            return None
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in _OWN or (site is None and origin is None):
            return None
        if site is None and origin and self._is_own(origin, headers.get("host", "")):
            return None
        return Forbidden(
            f"{method} from another site (Sec-Fetch-Site = {site!r}, Origin = {origin!r}) is not "
            "accepted; send it from our own pages, or with an API key and no cookie."
        )

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether ``origin`` is where this request went to; "null" never is."""
        where = origin.partition("://")[2].lower()
        return where != "" and where in (host.lower(), self._public)


def _most_body(path: str) -> int:
    return _MOST_BODY_AT.get(path, MOST_BODY)


def _limited(receive: Receive, most: int) -> Receive:
    """``receive``, which raises HTTPException (413) where a body of no told length is too large."""
    size = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise HTTPException(413)
        return message

    return counted


def _host_names(settings: Settings) -> frozenset[str | None] | None:
    """The names that requests may come to; None for any."""
    if not _is_loopback(settings.host):
        return None
    named = {settings.host.strip("[]").lower(), urlsplit(settings.url).hostname}
    return frozenset(named | {"localhost", "127.0.0.1", "::1"})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host_name(host: str) -> str | None:
    """The name in a Host header, without its port; None when it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
