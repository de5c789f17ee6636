"""`onthedot doctor`: what is wrong with this installation, and what to do about it."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
from psycopg.rows import dict_row

from onthedot import clocks
from onthedot.database import migrate, workers
from onthedot.database.workers import Worker
from onthedot.errors import DatabaseUnavailable
from onthedot.settings import Settings
from onthedot.stack import local_url

_ANSWERS_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part; ``remedy`` is given when it is not well."""

    part: str
    says: str
    remedy: str | None = None

    @property
    def is_well(self) -> bool:
        return self.remedy is None

    def __str__(self) -> str:
        line = f"{'ok     ' if self.is_well else 'PROBLEM'}  {self.part}: {self.says}"
        return line if self.remedy is None else f"{line}\n         -> {self.remedy}"


async def examine(settings: Settings) -> list[Finding]:
    """Look at all parts; those that depend on a part which does not answer are left out."""
    found = [finding async for finding in _database(settings)]
    found.append(await _temporal(settings))
    found += [finding async for finding in _web(settings)]
    return found


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    if settings.database_url is None:
        yield Finding(
            "Postgres",
            f"no URL is set, and `onthedot up` is not running in {settings.data_dir}",
            "start `onthedot up`, or set ONTHEDOT_DATABASE_URL",
        )
        return
    where = urlsplit(settings.database_url)
    place = f"{where.hostname}:{where.port or 5432}{where.path}"
    try:
        yield Finding("Postgres", f"{await _version(settings.database_url)} at {place}")
        missing = await migrate.pending(settings.database_url)
        skew = await _skew(settings.database_url)
        seen = [] if missing else await _workers(settings.database_url)
    except (psycopg.Error, DatabaseUnavailable) as error:
        said = str(error).strip().splitlines()[0]
        yield Finding("Postgres", f"{place}: {said}", "start it, or correct ONTHEDOT_DATABASE_URL")
        return
    yield _migrations(missing)
    yield _clocks(skew)
    yield _workers_clocks(seen)


async def _version(url: str) -> str:
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
        number = connection.info.server_version
    return f"version {number // 10_000}.{number % 10_000}"


def _migrations(missing: list[str]) -> Finding:
    if missing:
        return Finding("Schema", f"lacks {', '.join(missing)}", "run `onthedot migrate`")
    return Finding("Schema", "up to date")


async def _skew(url: str) -> float:
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
        return await clocks.skew_to_postgres(connection)


async def _workers(url: str) -> list[Worker]:
    async with await psycopg.AsyncConnection.connect(
        url, connect_timeout=5, row_factory=dict_row
    ) as connection:
        return await workers.seen(connection)


def _workers_clocks(seen: list[Worker]) -> Finding:
    most = clocks.MOST_SKEW * 1000
    off = [one for one in seen if abs(one.clock_skew_ms) > most]
    if off:
        told = ", ".join(f"{one.identity} by {one.clock_skew_ms / 1000:+.1f} s" for one in off)
        remedy = "keep the clocks of their hosts in step by NTP: a task starts by its worker's"
        return Finding("Workers' clocks", f"apart from Postgres's: {told}", remedy)
    return Finding("Workers' clocks", f"all {len(seen)} are in step with Postgres's")


def _clocks(skew: float) -> Finding:
    says = f"ours is {abs(skew) * 1000:.0f} ms {'ahead of' if skew > 0 else 'behind'} Postgres's"
    if abs(skew) > clocks.MOST_SKEW:
        return Finding(
            "Clocks", says, "keep both in step by NTP: a task starts by its worker's clock"
        )
    return Finding("Clocks", says)


async def _temporal(settings: Settings) -> Finding:
    host, _, port = settings.temporal.rpartition(":")
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError) as error:
        remedy = "start it, or correct ONTHEDOT_TEMPORAL_ADDRESS"
        return Finding("Temporal", f"{settings.temporal} does not answer ({error})", remedy)
    writer.close()
    await writer.wait_closed()
    return Finding("Temporal", f"listens at {settings.temporal}")


async def _web(settings: Settings) -> AsyncIterator[Finding]:
    url = local_url(settings)
    status, said = await asyncio.to_thread(_get, url + "/healthz")
    if status != 200:
        remedy = "start `onthedot web`, or correct ONTHEDOT_HOST and ONTHEDOT_PORT"
        yield Finding("Web app", f"{url} does not answer ({said})", remedy)
        return
    yield Finding("Web app", f"answers at {url}")
    _, said = await asyncio.to_thread(_get, url + "/readyz")
    for finding in _as_web_sees_it(said):
        yield finding


_REMEDIES = {
    "postgres": "compare ONTHEDOT_DATABASE_URL of the web app with ours",
    "temporal": "compare ONTHEDOT_TEMPORAL_ADDRESS and _NAMESPACE of the web app with ours",
    "workers": "start `onthedot worker`, one of them with the scheduler role, and read what it says",
}


def _as_web_sees_it(said: str) -> list[Finding]:
    """What ``/readyz`` answered: ``{"checks": {part: {"ok": bool, "detail": text}}}``."""
    try:
        checks = json.loads(said)["checks"].items()
        return [
            Finding(
                f"{part.capitalize()}, as the web app sees it",
                check["detail"],
                None if check["ok"] else _REMEDIES.get(part, "read the web app's log"),
            )
            for part, check in checks
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        remedy = "see whether something else listens there, or another version of Onthedot"
        return [Finding("Web app", f"its /readyz answers something else: {said[:200]!r}", remedy)]


def _get(url: str) -> tuple[int, str]:
    """The status (0: no answer) and the beginning of the body."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ANSWERS_WITHIN) as answer:
            return answer.status, answer.read(2000).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(2000).decode("utf-8", "replace")
    except OSError as error:
        return 0, str(error)
