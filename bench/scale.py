"""The part ``scale``: what tasks cost that only wait, and what they do to the others."""

import asyncio
import math
import statistics
import time
from collections.abc import AsyncIterator, Sequence

import psycopg

from bench import calls, product
from bench.figures import Record, lag_figures
from bench.plan import LONGEST_LEAD, Work
from bench.processes import Span
from bench.product import Product
from bench.registration import bodies, refusal
from bench.side import Place, folder

_LISTED = 20  # times
_AMONG = 20  # tasks that fire among those that wait
_IDLE = 10.0  # seconds


async def measure(workers: int, sizes: Sequence[int]) -> AsyncIterator[Record]:
    """One installation that grows; at each size it is stopped, started and looked at."""
    with folder() as path:
        place = Place(path, workers, None)
        place.calls.mkdir(mode=0o777)
        base: dict[str, float] = {}
        registered = 0
        for size in [0, *sizes]:
            async with product.running(place) as side:
                rate = await _grow(side, registered, size)
            registered = size
            begun = time.monotonic()
            async with product.running(place) as side:
                figures = {"start-up": time.monotonic() - begun}
                figures |= await _look(side, place, size)
            base = base or figures
            if size:
                figures["registered"] = rate
                for what in ("memory", "disk"):
                    figures[f"{what} of each"] = (figures[what] - base[what]) * 1024 / size
            yield Record(part="scale", side="onthedot", case=f"{size} tasks wait", figures=figures)


async def _grow(side: Product, registered: int, size: int) -> float:
    """Register so many daily tasks that all wait half a day; how many a second."""
    noon = math.ceil(time.time()) + 12 * 3600
    work = Work(label=f"idle{size}", tasks=size - registered, first=noon, every=86_400)
    if not work.tasks:
        return math.nan
    begun = time.monotonic()
    async with side.client() as client:
        for body in bodies(side, work):
            async with client.post(f"{side.url}/api/v1/tasks:batch", data=body) as answer:
                if await refusal(answer):
                    return await side.register(work)
    return work.tasks / (time.monotonic() - begun)


async def _look(side: Product, place: Place, size: int) -> dict[str, float]:
    family = side.family()
    await family.rest({}, 60)
    span = Span(family)
    await asyncio.sleep(_IDLE)
    figures = {
        "idle": sum(span.rate().values()) * 1000,
        "memory": sum(family.memory().values()) / 2**20,
        "disk": await _disk(side, place),
        "list": statistics.median(await answers(side, "/api/v1/tasks?limit=50")),
        "page": statistics.median(await answers(side, "/tasks")),
    }
    first = math.ceil(time.time() + LONGEST_LEAD + 3)
    among = Work(label=f"among{size}", tasks=_AMONG, first=first)
    await side.register(among)
    await asyncio.sleep(among.first + 2 - time.time())
    lags = lag_figures(among, calls.read(place.calls, among.label))
    return figures | {name: lags[name] for name in ("lag p50", "lag max", "missing")}


async def _disk(side: Product, place: Place) -> float:
    """MiB of the database (without its write-ahead log) and of the engine's files."""
    async with await psycopg.AsyncConnection.connect(side.database_url) as connection:
        asked = await connection.execute("SELECT pg_database_size(current_database())")
        row = await asked.fetchone()
    assert row is not None
    engine = sum(file.stat().st_size for file in (place.folder / "data" / "temporal").iterdir())
    return float(row[0] + engine) / 2**20


async def answers(side: Product, path: str) -> list[float]:
    """Milliseconds that each of some answers takes, after one to warm up."""
    taken = []
    async with side.client() as client:
        if not path.startswith("/api/"):
            await side.sign_in(client)
        for _ in range(_LISTED + 1):
            begun = time.monotonic()
            async with client.get(side.url + path) as answer:
                await answer.read()
                if answer.status != 200 or answer.url.path == "/sign-in":
                    raise RuntimeError(f"{path} answered with {answer.status}, {answer.url}")
            taken.append((time.monotonic() - begun) * 1000)
    return taken[1:]
