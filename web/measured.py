"""What every request leaves behind: a count, its duration, the span of its trace."""

import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from onthedot import metrics, tracing

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Measured:
    """ASGI middleware: counts, times and traces each request by the template of its route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        began, status, spent = time.perf_counter(), 500, 0.0

        async def send_and_look(message: MutableMapping[str, Any]) -> None:
            nonlocal status, spent
            if message["type"] == "http.response.start":
                # up to here: a live stream goes on for hours
                status, spent = message["status"], time.perf_counter() - began
            await send(message)

        with tracing.request(method, Headers(scope=scope), **{"url.path": scope["path"]}):
            try:
                await self._app(scope, receive, send_and_look)
            finally:
                route = _template(scope)
                metrics.HTTP_REQUESTS.labels(method, route, status).inc()
                seconds = spent or time.perf_counter() - began
                metrics.HTTP_SECONDS.labels(method, route).observe(seconds)
                of_response = {"http.response.status_code": status, "http.route": route}
                tracing.describe(name=f"{method} {route}", **of_response)


def _template(scope: Scope) -> str:
    """``/api/v1/tasks/{task_id}``; ``none`` where no route was reached."""
    route = scope.get("route")
    template = getattr(route, "path_format", None)
    if template is None:
        return "/static" if "endpoint" in scope else "none"
    # The route knows its path below the prefix of the router that includes it.
    below, whole = template.strip("/").split("/"), scope["path"].strip("/").split("/")
    return "/" + "/".join([*whole[: len(whole) - len(below)], *below])
