"""HTTP requests: one connection pool a process, public addresses only, all of it bounded."""

import asyncio
import codecs
import functools
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from activities.action import SUCCEEDED, Ended, Running, failed, now
from activities.addresses import AddressRefused, Guard
from activities.messages import ExecuteAttempt
from activities.plain import plain_text
from onthedot import tracing
from onthedot.errors import FieldError
from onthedot.settings import Settings
from onthedot.task import HttpAction

_MAX_READ = 64 * 1024  # bytes of a body
_MAX_REDIRECTS = 5
_MAX_RETRY_AFTER = timedelta(days=7)
_LOOKUPS = 32  # host names that are resolved at once
_KEPT_HEADERS = (
    "Content-Type",
    "Content-Length",
    "Location",
    "Retry-After",
    "Date",
    "Server",
    "X-Request-Id",
)
# What goes along when a redirect leads to another origin. What a task gives may be a secret.
_GOES_ANYWHERE = frozenset({"accept", "accept-encoding", "content-type", "user-agent"})
# A server may name any codec of Python's, zlib as well: these are text, and cheap to read.
_CHARSETS = re.compile(r"utf-?(8|16|32).*|us-ascii|(iso-?8859|windows|koi8|gb|big5|euc|shift).*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_RESERVED_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_WITH_BODY = ("POST", "PUT", "PATCH")
_USER_AGENT = f"onthedot/{version('onthedot')}"


class HttpCalls:
    """Performs ``http`` actions."""

    def __init__(self, settings: Settings) -> None:
        self._guard = Guard(settings.http_allow)
        self._session: aiohttp.ClientSession | None = None

    async def perform(self, running: Running) -> Ended:
        """Send the request and follow its redirects; read the start of the answer.

        The result has ``status``, ``url`` and ``headers`` of the last answer.
        """
        action = running.order.action
        assert isinstance(action, HttpAction)
        try:
            return await self._call(action, running)
        except aiohttp.ClientConnectorError as error:
            return _not_connected(error)
        except _BrokenOff as error:
            return failed(str(error))
        except aiohttp.ClientPayloadError as error:
            return failed(f"the answer broke off: {error}")
        except (aiohttp.InvalidURL, ValueError) as error:
            return failed(f"the request cannot be sent: {error}", may_retry=False)
        except (aiohttp.ClientError, OSError) as error:
            return failed(f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()
            self._session = None

    async def _call(self, action: HttpAction, running: Running) -> Ended:
        request = _first_request(action, running.order)
        for _ in range(_MAX_REDIRECTS + 1):
            async with (
                _traced(request) as headers,
                self._opened().request(
                    request.method,
                    request.url,
                    headers=headers,
                    data=request.body,
                    allow_redirects=False,
                ) as answer,
            ):
                tracing.describe(**{"http.response.status_code": answer.status})
                running.result.update(_describe(answer))
                if is_expected(answer.status, action.expect) or not _is_redirect(answer):
                    await _read(answer, running)
                    return _judge(answer, action)
                request = request.redirected(answer)
        return failed(f"more than {_MAX_REDIRECTS} redirects", may_retry=False)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                socket_factory=self._guard.open_socket,
                resolver=_Resolver(),
                # A server may close a kept connection just when it is used again, and then nobody
                # knows whether it has done what it was asked.
                force_close=True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                auto_decompress=False,  # a small body may become a huge one
                trust_env=False,
                read_bufsize=_MAX_READ,
                middlewares=(_sent_once,),
            )
        return self._session


class _BrokenOff(aiohttp.ClientError):
    """The connection broke before an answer came."""


async def _sent_once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Have no request sent again by aiohttp, as it does with a GET or PUT whose connection breaks.

    The server may have done what it was asked; whether that is repeated, the task's policies say.
    """
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise  # nothing was sent
    except aiohttp.ServerDisconnectedError as error:
        raise _BrokenOff("the server closed the connection without an answer") from error
    except aiohttp.ClientOSError as error:
        raise _BrokenOff(f"{type(error).__name__}: {error}") from error


class _Resolver(AbstractResolver):
    """getaddrinfo in threads of its own: a slow name server keeps only HTTP tasks waiting."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = functools.partial(
            socket.getaddrinfo,
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=of_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for of_family, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: URL
    headers: CIMultiDict[str]
    body: bytes | None

    def redirected(self, answer: aiohttp.ClientResponse) -> "_Request":
        """The request that a redirect asks for (RFC 9110, 15.4); raise ValueError if none is."""
        url = self.url.join(URL(answer.headers["Location"]))
        if url.scheme not in ("http", "https") or not url.raw_host:
            raise ValueError(f"it was redirected to {plain_text(str(url), 200)}, which is not HTTP")
        headers = self.headers.copy()
        if url.origin() != self.url.origin():
            headers = CIMultiDict(
                (name, value) for name, value in headers.items() if name.lower() in _GOES_ANYWHERE
            )
        if answer.status == 303 and self.method != "HEAD":
            return self._as_get(url, headers)
        if answer.status in (301, 302) and self.method == "POST":
            return self._as_get(url, headers)
        return _Request(self.method, url, headers, self.body)

    @staticmethod
    def _as_get(url: URL, headers: CIMultiDict[str]) -> "_Request":
        headers.popall("Content-Type", None)
        return _Request("GET", url, headers, None)


@asynccontextmanager
async def _traced(request: _Request) -> AsyncIterator[CIMultiDict[str]]:
    """The span of a request, and the headers to send: a task's own ``traceparent`` stands."""
    with tracing.call(
        request.method,
        **{
            "http.request.method": request.method,
            "server.address": request.url.host,
            "server.port": request.url.port,
        },
    ):
        headers = request.headers
        if given := tracing.outgoing():
            headers = CIMultiDict({**given, **headers})
        yield headers


def _first_request(action: HttpAction, order: ExecuteAttempt) -> _Request:
    headers = CIMultiDict(action.headers)
    headers.setdefault("User-Agent", _USER_AGENT)
    headers.setdefault("Accept-Encoding", "identity")
    headers.setdefault("Idempotency-Key", order.run_id)
    headers.setdefault("Onthedot-Task", order.task_id)
    headers.setdefault("Onthedot-Due-At", order.due_at.isoformat().replace("+00:00", "Z"))
    headers.setdefault("Onthedot-Attempt", str(order.number))
    given = action.body
    if order.outcome is not None:
        headers.setdefault("Onthedot-After", order.outcome["run_id"])
        headers.setdefault("Onthedot-After-Status", order.outcome["status"])
        if given is None and action.method in _WITH_BODY:
            given = order.outcome
    body: bytes | None = None
    if isinstance(given, str):
        body = given.encode()
        headers.setdefault("Content-Type", "text/plain; charset=utf-8")
    elif given is not None:
        body = json.dumps(given, ensure_ascii=False).encode()
        headers.setdefault("Content-Type", "application/json")
    return _Request(action.method, URL(action.url), headers, body)


def is_expected(status: int, expect: str) -> bool:
    """Whether ``status`` is one of ``expect``, such as ``2xx,404``."""
    return any(
        str(status) == one or (one.endswith("xx") and str(status)[0] == one[0])
        for one in map(str.strip, expect.split(","))
    )


def retry_after(header: str | None, moment: datetime) -> timedelta | None:
    """How long a ``Retry-After`` (RFC 9110, 10.2.3) asks to wait, counted from ``moment``."""
    if header is None:
        return None
    if re.fullmatch(r"[0-9]+", header.strip()):
        # a number of many digits is more than a timedelta holds
        return min(timedelta(seconds=int(header.strip()[:9])), _MAX_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    until = until.replace(tzinfo=UTC) if until.tzinfo is None else until
    return min(max(until - moment, timedelta()), _MAX_RETRY_AFTER)


def _is_redirect(answer: aiohttp.ClientResponse) -> bool:
    return answer.status in (301, 302, 303, 307, 308) and "Location" in answer.headers


def _describe(answer: aiohttp.ClientResponse) -> dict[str, object]:
    headers = {
        name.lower(): plain_text(answer.headers[name], 500)
        for name in _KEPT_HEADERS
        if name in answer.headers
    }
    url = plain_text(str(answer.url), 500)
    return {"status": answer.status, "url": url, "headers": headers}


async def _read(answer: aiohttp.ClientResponse, running: Running) -> None:
    """Take the start of the body into the output."""
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        running.output.write(f"[a body in {plain_text(encoding, 50)}, which was not asked for]")
        answer.close()
        return
    decoder = _decoder(answer.charset)
    left = _MAX_READ
    async for piece in answer.content.iter_any():
        running.output.write(decoder.decode(piece[:left]))
        left -= len(piece)
        if left < 0 or (left == 0 and not answer.content.at_eof()):
            running.result["body_cut"] = True
            answer.close()
            return


def _decoder(charset: str | None) -> codecs.IncrementalDecoder:
    name = charset if charset and _CHARSETS.fullmatch(charset.lower()) else "utf-8"
    try:
        return codecs.getincrementaldecoder(name)("replace")
    except LookupError:
        return codecs.getincrementaldecoder("utf-8")("replace")


def _judge(answer: aiohttp.ClientResponse, action: HttpAction) -> Ended:
    if is_expected(answer.status, action.expect):
        return SUCCEEDED
    reason = f" {plain_text(answer.reason, 100)}" if answer.reason else ""
    return failed(
        f"the answer was {answer.status}{reason}, expected is {action.expect}",
        retry_after=retry_after(answer.headers.get("Retry-After"), now()),
    )


def _not_connected(error: aiohttp.ClientConnectorError) -> Ended:
    where = f"{error.host}:{error.port}"
    match error.os_error:
        case AddressRefused() as refused:
            return failed(
                f"{where} is at {refused.address}, which is not a public address; "
                "the operator may allow its network with ONTHEDOT_HTTP_ALLOW",
                may_retry=False,
            )
        case socket.gaierror() as unknown:
            return failed(f"the host {error.host} cannot be found: {unknown.strerror}")
    return failed(f"cannot connect to {where}: {error.os_error.strerror or error.os_error}")


def check(action: HttpAction, settings: Settings) -> list[FieldError]:
    """What is wrong with ``action``, as far as it shows without sending anything."""
    return [*_check_url(action.url, settings), *_check_headers(action)]


def _check_url(text: str, settings: Settings) -> Iterator[FieldError]:
    remedy = "Give a URL such as https://example.com/hook"
    try:
        url = URL(text)
        port = url.port
    except ValueError as error:
        yield FieldError("action.url", text, f"not a URL: {error}", remedy)
        return
    if url.scheme not in ("http", "https"):
        problem = f"the scheme {url.scheme} is not HTTP" if url.scheme else "not a whole URL"
        yield FieldError("action.url", text, problem, remedy)
    elif not url.raw_host or re.search(r"[\s\x00-\x1f\\]", text) or not port:
        yield FieldError("action.url", text, "not a URL with a host", remedy)
    elif Guard(settings.http_allow).refuses_host(url.host or ""):
        yield FieldError(
            "action.url",
            text,
            "not a public address",
            "Give a public one; the operator may allow others with ONTHEDOT_HTTP_ALLOW",
        )


def _check_headers(action: HttpAction) -> Iterator[FieldError]:
    for name, value in action.headers.items():
        field = f"action.headers.{name}"
        if not _TOKEN.fullmatch(name):
            yield FieldError(field, value, "not the name of a header", "Use letters, digits and -")
        elif name.lower() in _RESERVED_HEADERS:
            yield FieldError(field, value, "this header is set for you", "Leave it out")
        elif re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            yield FieldError(field, value, "holds a control character", "Leave line ends out")
    names = [name.lower() for name in action.headers]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield FieldError(f"action.headers.{name}", None, "given twice", "Give it once")
    if "authorization" in names and "@" in action.url.partition("?")[0]:
        yield FieldError(
            "action.headers.authorization", None, "the URL has a user, too", "Give one of the two"
        )
