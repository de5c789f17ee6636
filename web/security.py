"""Who calls: API keys, sessions, and the dependency that a route names to want one.

Roles come later. The place for them is ``require``: every route that needs a caller goes through
it, and ``Principal.role`` says what the caller is.
"""

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import Response

from onthedot import access
from onthedot.database import sessions
from onthedot.database.pool import Pool, connection
from onthedot.database.sessions import Principal
from onthedot.errors import Forbidden, Unauthenticated
from onthedot.settings import Settings

SESSION_COOKIE = "onthedot_session"
_COOKIE_AGE = 400 * 86_400  # the most that browsers keep; the sessions table decides what is valid
_REMEMBER = 5.0  # seconds for which a look-up counts; so long a revoked key or session still works
_MOST_REMEMBERED = 4096


class Access:
    """Looks callers up, and remembers for some seconds whom it found."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[bytes, tuple[float, Principal]] = {}

    async def by_key(self, key: str) -> Principal | None:
        """Whose API key this is. Raise DatabaseUnavailable."""
        hashed = access.hash_secret(key)
        if known := self._remembered(hashed):
            return known
        async with connection(self._pool) as conn:
            return self._remember(hashed, await sessions.find_key(conn, hashed))

    async def by_session(self, session: str) -> Principal | None:
        """Whose session this is. Raise DatabaseUnavailable."""
        hashed = access.hash_secret(session)
        if known := self._remembered(hashed):
            return known
        async with connection(self._pool) as conn:
            return self._remember(hashed, await sessions.keep_session(conn, hashed))

    async def sign_in(self, token: str) -> str | None:
        """Use up a sign-in link: the new session's id, or None when the link is not valid."""
        async with connection(self._pool) as conn:
            whose = await sessions.use_link(conn, access.hash_secret(token))
        return await self.start_session(whose) if whose else None

    async def start_session(self, whose: Principal) -> str:
        session = secrets.token_urlsafe(32)
        async with connection(self._pool) as conn:
            await sessions.start_session(conn, access.hash_secret(session), whose)
        return session

    async def end_session(self, session: str) -> None:
        hashed = access.hash_secret(session)
        self._known.pop(hashed, None)
        async with connection(self._pool) as conn:
            await sessions.end_session(conn, hashed)

    def _remembered(self, hashed: bytes) -> Principal | None:
        until, whose = self._known.get(hashed, (0.0, None))
        return whose if time.monotonic() < until else None

    def _remember(self, hashed: bytes, whose: Principal | None) -> Principal | None:
        if whose is not None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[hashed] = (time.monotonic() + _REMEMBER, whose)
        return whose


async def caller(request: Request) -> Principal:
    """Whoever sent the request; raise Unauthenticated (401, or on a page off to /sign-in)."""
    known: Access = request.app.state.services.access
    if (key := bearer_key(request)) is not None:
        whose = await known.by_key(key)
    elif session := request.cookies.get(SESSION_COOKIE):
        whose = await known.by_session(session)
    else:
        whose = None
    if whose is None:
        raise Unauthenticated
    return whose


def bearer_key(request: Request) -> str | None:
    """The key of ``Authorization: Bearer`` (RFC 6750), or None when there is none."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def require(role: str) -> Callable[[Principal], Awaitable[Principal]]:
    """The dependency of a route that only callers of ``role`` may use; raise Forbidden."""

    async def allowed(whose: Annotated[Principal, Depends(caller)]) -> Principal:
        if whose.role != role:
            raise Forbidden(f"This needs the role {role}; {whose.name} has {whose.role}.")
        return whose

    return allowed


#: A route's parameter: ``async def pause(caller: Admin) -> Response``.
Admin = Annotated[Principal, Depends(require("admin"))]


def set_session(response: Response, session: str, settings: Settings) -> None:
    response.set_cookie(
        SESSION_COOKIE,
        session,
        max_age=_COOKIE_AGE,
        path="/",
        secure=settings.secure_cookies,
        httponly=True,
        samesite="lax",
    )


def forget_session(response: Response, settings: Settings) -> None:
    response.delete_cookie(
        SESSION_COOKIE, path="/", secure=settings.secure_cookies, httponly=True, samesite="lax"
    )


def local_path(wanted: str | None) -> str:
    """``wanted`` where it is a path on this site, else ``/``: no redirect leads away from us."""
    path = re.sub(r"[\x00-\x20]", "", wanted or "")  # browsers drop some of these: "/\t/host"
    return path if re.match(r"/(?![/\\])", path) else "/"
