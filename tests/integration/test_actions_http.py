"""HTTP tasks against a server that does what servers do."""

import asyncio
import gzip
import re
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from onthedot.run import RunStatus
from tests.attempts import Bench, bench, order

LOOPBACK = ("127.0.0.0/8", "::1/128")


class Server:
    """A server whose answers a test gives; it keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answers: dict[str, Callable[[web.Request], Any]] = {}
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(
            {
                "method": request.method,
                "path": request.path,
                "headers": request.headers.copy(),
                "body": await request.text(),
            }
        )
        answer = self.answers.get(request.path)
        if answer is None:
            return web.Response(text="hello")
        found = answer(request)
        return await found if asyncio.iscoroutine(found) else found


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    made.url = f"http://127.0.0.1:{port}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def executing() -> AsyncIterator[Bench]:
    async with bench(http_allow=LOOPBACK) as made:
        yield made


async def test_a_request_that_is_answered_succeeds(executing: Bench, server: Server) -> None:
    wanted = order("http", url=f"{server.url}/hook", method="POST", body={"greet": "wörld"})
    outcome = await executing.execute(wanted)

    assert outcome.status is RunStatus.SUCCEEDED, outcome.error
    assert outcome.output.text == "hello"
    assert outcome.result is not None
    assert outcome.result["status"] == 200
    assert outcome.result["headers"]["content-type"] == "text/plain; charset=utf-8"
    (request,) = server.requests
    assert request["method"] == "POST"
    assert request["body"] == '{"greet": "wörld"}'
    assert request["headers"]["Content-Type"] == "application/json"
    assert request["headers"]["User-Agent"].startswith("onthedot/")


async def test_a_request_says_which_run_it_is_of(executing: Bench, server: Server) -> None:
    wanted = order("http", url=server.url, number=3)
    await executing.execute(wanted)

    headers = server.requests[0]["headers"]
    assert headers["Idempotency-Key"] == wanted.run_id
    assert headers["Onthedot-Task"] == "task-1"
    assert headers["Onthedot-Attempt"] == "3"
    assert datetime.fromisoformat(headers["Onthedot-Due-At"]) == wanted.due_at


async def test_the_headers_of_a_task_win(executing: Bench, server: Server) -> None:
    given = {"idempotency-key": "mine", "content-type": "text/csv", "user-agent": "me/1"}
    await executing.execute(order("http", url=server.url, method="PUT", body="a,b", headers=given))

    headers = server.requests[0]["headers"]
    assert headers.getall("Idempotency-Key") == ["mine"]
    assert headers.getall("Content-Type") == ["text/csv"]
    assert headers.getall("User-Agent") == ["me/1"]


@pytest.mark.parametrize(
    ("status", "expect", "ends"),
    [
        (204, "2xx", RunStatus.SUCCEEDED),
        (404, "2xx", RunStatus.FAILED),
        (404, "200, 404", RunStatus.SUCCEEDED),
        (500, "2xx,3xx,4xx", RunStatus.FAILED),
        (302, "3xx", RunStatus.SUCCEEDED),
    ],
)
async def test_the_expected_statuses_decide(
    executing: Bench, server: Server, status: int, expect: str, ends: RunStatus
) -> None:
    server.answers["/"] = lambda _: web.Response(status=status, headers={"Location": "/other"})
    outcome = await executing.execute(order("http", url=server.url, expect=expect))

    assert outcome.status is ends
    assert outcome.result is not None
    assert outcome.result["status"] == status
    if ends is RunStatus.FAILED:
        assert outcome.error is not None
        assert str(status) in outcome.error
        assert expect in outcome.error
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("120", 120, 120),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=90)), 85, 91),
        (lambda: format_datetime(datetime.now(UTC) - timedelta(seconds=90)), 0, 0),
        ("9" * 40, 604_800, 604_800),
    ],
)
async def test_a_server_may_ask_to_be_left_alone(
    executing: Bench, server: Server, header: Any, least: float, most: float
) -> None:
    text = header() if callable(header) else header
    server.answers["/"] = lambda _: web.Response(status=429, headers={"Retry-After": text})
    outcome = await executing.execute(order("http", url=server.url))

    assert outcome.status is RunStatus.FAILED
    assert outcome.retry_after is not None
    assert least <= outcome.retry_after.total_seconds() <= most


@pytest.mark.parametrize(
    "header", ["soon", "-5", "1.5", "", "Mon, 01 Jan 99999999999 00:00:00 GMT"]
)
async def test_a_retry_after_that_says_nothing_is_ignored(
    executing: Bench, server: Server, header: str
) -> None:
    server.answers["/"] = lambda _: web.Response(status=503, headers={"Retry-After": header})
    outcome = await executing.execute(order("http", url=server.url))

    assert outcome.status is RunStatus.FAILED
    assert outcome.retry_after is None


async def test_a_server_that_never_answers_is_given_up_in_time(
    executing: Bench, server: Server
) -> None:
    server.answers["/"] = lambda _: asyncio.sleep(60)
    outcome = await executing.execute(order("http", url=server.url, timeout=0.5))

    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.error is not None
    assert "timeout of 500ms" in outcome.error
    assert outcome.started_at is not None
    assert outcome.finished_at - outcome.started_at < timedelta(seconds=10)


async def test_a_slow_drip_ends_at_the_deadline_with_what_came(
    executing: Bench, server: Server
) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"drop ")
            await asyncio.sleep(0.1)

    server.answers["/"] = drip
    outcome = await executing.execute(order("http", url=server.url, timeout=1))

    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.output.text.startswith("drop drop")
    assert outcome.result is not None
    assert outcome.result["status"] == 200


async def test_a_huge_answer_is_not_read_to_its_end(executing: Bench, server: Server) -> None:
    written = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"x" * 65_536)
            written += 65_536
        return response

    server.answers["/"] = flood
    outcome = await executing.execute(order("http", url=server.url))

    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.result is not None
    assert outcome.result["body_cut"] is True
    assert outcome.output.size == 65_536
    assert len(outcome.output.text.encode()) <= 16 * 1024
    assert written < 20_000_000


async def test_an_answer_that_comes_compressed_is_not_inflated(
    executing: Bench, server: Server
) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    server.answers["/"] = lambda _: web.Response(body=bomb, headers={"Content-Encoding": "gzip"})
    outcome = await executing.execute(order("http", url=server.url))

    assert outcome.status is RunStatus.SUCCEEDED
    assert "gzip" in outcome.output.text
    assert outcome.output.size < 200
    assert server.requests[0]["headers"]["Accept-Encoding"] == "identity"


async def test_text_is_read_in_the_charset_that_the_server_names(
    executing: Bench, server: Server
) -> None:
    server.answers["/"] = lambda _: web.Response(
        body="grün".encode("latin-1"), headers={"Content-Type": "text/plain; charset=ISO-8859-1"}
    )
    outcome = await executing.execute(order("http", url=server.url))
    assert outcome.output.text == "grün"


async def test_a_charset_that_is_no_text_is_not_used(executing: Bench, server: Server) -> None:
    server.answers["/"] = lambda _: web.Response(
        body=b"abc\x00\xff", headers={"Content-Type": "text/plain; charset=zlib"}
    )
    outcome = await executing.execute(order("http", url=server.url))
    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.output.text == "abc\ufffd"


async def test_redirects_are_followed_as_a_browser_does(executing: Bench, server: Server) -> None:
    server.answers["/"] = lambda _: web.Response(status=303, headers={"Location": "/one"})
    server.answers["/one"] = lambda _: web.Response(status=307, headers={"Location": "two?x=1"})
    outcome = await executing.execute(order("http", url=server.url, method="POST", body="hi"))

    assert outcome.status is RunStatus.SUCCEEDED
    assert [one["path"] for one in server.requests] == ["/", "/one", "/two"]
    assert [one["method"] for one in server.requests] == ["POST", "GET", "GET"]
    assert outcome.result is not None
    assert outcome.result["url"].endswith("/two?x=1")


async def test_a_redirect_may_keep_method_and_body(executing: Bench, server: Server) -> None:
    server.answers["/"] = lambda _: web.Response(status=308, headers={"Location": "/one"})
    await executing.execute(order("http", url=server.url, method="POST", body="hi"))

    assert server.requests[1]["method"] == "POST"
    assert server.requests[1]["body"] == "hi"


async def test_a_ring_of_redirects_ends(executing: Bench, server: Server) -> None:
    server.answers["/"] = lambda _: web.Response(status=302, headers={"Location": "/"})
    outcome = await executing.execute(order("http", url=server.url))

    assert outcome.status is RunStatus.FAILED
    assert outcome.error == "more than 5 redirects"
    assert len(server.requests) == 6


async def test_secrets_do_not_follow_a_redirect_elsewhere(executing: Bench, server: Server) -> None:
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    server.answers["/"] = lambda _: web.Response(status=302, headers={"Location": elsewhere + "/a"})
    secrets = {"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "Accept": "text/plain"}
    outcome = await executing.execute(order("http", url=server.url, headers=secrets))

    assert outcome.status is RunStatus.SUCCEEDED, outcome.error
    headers = server.requests[1]["headers"]
    assert headers["Accept"] == "text/plain"
    assert "s3cret" not in str(headers)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://example.com/"])
async def test_a_redirect_to_what_is_not_http_fails(
    executing: Bench, server: Server, location: str
) -> None:
    server.answers["/"] = lambda _: web.Response(status=302, headers={"Location": location})
    outcome = await executing.execute(order("http", url=server.url))

    assert outcome.status is RunStatus.FAILED
    assert len(server.requests) == 1


async def test_a_redirect_to_a_private_address_is_refused(server: Server) -> None:
    async with bench(http_allow=("127.0.0.1/32",)) as executing:
        port = server.url.rpartition(":")[2]
        server.answers["/"] = lambda _: web.Response(
            status=302, headers={"Location": f"http://127.0.0.2:{port}/secret"}
        )
        outcome = await executing.execute(order("http", url=server.url))

    assert outcome.status is RunStatus.FAILED
    assert outcome.error is not None
    assert "127.0.0.2, which is not a public address" in outcome.error
    assert not outcome.may_retry
    assert [one["path"] for one in server.requests] == ["/"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
async def test_no_way_of_writing_it_leads_to_a_private_address(server: Server, host: str) -> None:
    async with bench() as executing:
        url = server.url.replace("127.0.0.1", host)
        outcome = await executing.execute(order("http", url=url))

    assert outcome.status is RunStatus.FAILED
    assert not outcome.may_retry
    assert outcome.error is not None
    assert re.search("not a public address|not a canonical IPv4 address", outcome.error)
    assert server.requests == []


async def test_a_name_server_that_changes_its_mind_is_no_way_in(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the address that is connected to, whatever was answered for the name."""
    port = int(server.url.rpartition(":")[2])
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers[0])
    async with bench() as executing:
        outcome = await executing.execute(order("http", url="http://rebinding.example/"))

    assert outcome.error is not None
    assert "127.0.0.1, which is not a public address" in outcome.error
    assert server.requests == []


async def test_no_cookie_is_kept_between_runs(executing: Bench, server: Server) -> None:
    server.answers["/"] = lambda _: web.Response(headers={"Set-Cookie": "session=1; Path=/"})
    await executing.execute(order("http", url=server.url))
    await executing.execute(order("http", url=server.url))

    assert all("Cookie" not in one["headers"] for one in server.requests)


async def test_no_proxy_of_the_environment_is_used(
    executing: Bench, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    outcome = await executing.execute(order("http", url=server.url))
    assert outcome.status is RunStatus.SUCCEEDED


async def test_a_host_that_does_not_listen_fails_and_says_so(executing: Bench) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        outcome = await executing.execute(order("http", url=f"http://127.0.0.1:{port}"))

    assert outcome.status is RunStatus.FAILED
    assert outcome.may_retry
    assert outcome.error is not None
    assert re.search(rf"cannot connect to 127\.0\.0\.1:{port}", outcome.error)


async def test_an_answer_that_breaks_off_fails(executing: Bench, server: Server) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"only this")
        assert request.transport is not None
        request.transport.close()
        return response

    server.answers["/"] = break_off
    outcome = await executing.execute(order("http", url=server.url))

    assert outcome.status is RunStatus.FAILED
    assert outcome.output.text == "only this"


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_a_request_whose_connection_breaks_is_not_sent_again(
    executing: Bench, method: str
) -> None:
    """The server may have done what it was asked: the task's policies say whether it is repeated."""
    requests = []

    async def take_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.transport.abort() if method == "PUT" else writer.close()

    listening = await asyncio.start_server(take_and_close, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        body = {} if method == "GET" else {"body": "x"}
        wanted = order("http", url=f"http://127.0.0.1:{port}/", method=method, **body)
        outcome = await executing.execute(wanted)
    assert len(requests) == 1
    assert outcome.status is RunStatus.FAILED
    assert outcome.may_retry
    assert outcome.error


async def test_a_cancelled_request_is_closed(
    executing: Bench, server: Server, assert_eventually: Callable[..., Any]
) -> None:
    closed = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        # aiohttp forgets the transport when the client has gone, and tells nobody
        while request.transport is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        closed.set()
        return web.Response()

    server.answers["/"] = hang
    going = executing.start(order("http", url=server.url))
    await assert_eventually(lambda: server.requests)
    executing.environment.cancel()
    outcome = await going

    assert outcome.status is RunStatus.CANCELLED
    assert outcome.started_at is not None
    await asyncio.wait_for(closed.wait(), 5)


async def test_a_head_request_has_no_body_to_wait_for(executing: Bench, server: Server) -> None:
    outcome = await executing.execute(order("http", url=server.url, method="HEAD"))
    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.output.size == 0
