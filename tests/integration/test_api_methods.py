"""HEAD answers as GET does, without content; OPTIONS and 405 tell what works."""

import asyncio

import pytest

from tests.integration.web_client import Web, registered

DOCUMENT_PATHS = ("/api/v1/tasks", "/api/v1/runs", "/api/v1/stats", "/api/openapi.json")


@pytest.mark.parametrize(
    "path", [*DOCUMENT_PATHS, "/healthz", "/readyz", "/sign-in", "/", "/tasks", "/no-such-page"]
)
async def test_head_answers_as_get_does_without_content(live: Web, path: str) -> None:
    got, head = await live("GET", path), await live("HEAD", path)
    assert head.status == got.status
    assert head.text == ""
    for name in ("Content-Type", "Content-Security-Policy", "Location"):
        assert head.headers.get(name) == got.headers.get(name)


async def test_head_tells_a_tasks_etag(live: Web) -> None:
    kept = await registered(live)
    head = await live("HEAD", f"/api/v1/tasks/{kept['id']}")
    assert (head.status, head.headers["ETag"]) == (200, '"1"')
    assert int(head.headers["Content-Length"]) > 100
    assert (await live("HEAD", "/api/v1/tasks/nobody")).status == 404
    assert (await live("HEAD", "/api/v1/tasks", key=None)).status == 401


async def test_head_of_a_stream_comes_to_its_end(live: Web) -> None:
    head = await asyncio.wait_for(live("HEAD", "/events"), timeout=10)
    assert (head.status, head.text) == (200, "")
    assert head.headers["Content-Type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/tasks", "GET, HEAD, POST, OPTIONS"),
        ("/api/v1/tasks/x", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("/api/v1/tasks/x/pause", "POST, OPTIONS"),
        ("/api/v1/tasks/x/versions/1", "GET, HEAD, OPTIONS"),
        ("/api/v1/tasks:pause", "POST, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_and_a_method_that_does_not_work_tell_what_does(
    live: Web, path: str, allowed: str
) -> None:
    options = await live("OPTIONS", path)
    assert (options.status, options.text, options.headers["Allow"]) == (204, "", allowed)
    for method in ("GET", "POST", "DELETE"):
        if method not in allowed:
            refused = await live(method, path)
            assert (refused.status, refused.headers["Allow"]) == (405, allowed)
    if "GET" not in allowed:
        head = await live("HEAD", path)
        assert (head.status, head.headers["Allow"]) == (405, allowed)


async def test_options_of_nothing_is_not_found(live: Web) -> None:
    assert (await live("OPTIONS", "/api/v1/nothing")).status == 404
