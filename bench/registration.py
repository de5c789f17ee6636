"""The part ``registration``: how many tasks a second are taken, one by one and many at a time."""

import json
import math
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp

from bench.figures import Record
from bench.plan import Work
from bench.processes import Span
from bench.product import Product
from bench.side import Offer, started

_DAY = 24 * 3600
_MOST_AT_ONCE = 1000
SINGLE, BULK = "one by one", "many at a time"


def _work(label: str, tasks: int) -> Work:
    return Work(label=label, tasks=tasks, first=math.ceil(time.time()) + _DAY)


async def measure(offer: Offer, workers: int, tasks: int) -> AsyncIterator[Record]:
    """Tasks that are due tomorrow, ``tasks`` of them, after a tenth as many to warm up."""
    async with started(offer, workers, "noop") as (side, _):
        await side.register(_work("warm", max(16, tasks // 10)))
        span = Span(side.family())
        rate = await side.register(_work("single", tasks))
        assert rate is not None
        yield _record(offer.name, SINGLE, tasks, rate, span)
        if isinstance(side, Product):
            yield await _bulk(side, tasks)


async def _bulk(side: Product, tasks: int) -> Record:
    work = _work("bulk", tasks)
    span = Span(side.family())
    begun = time.monotonic()
    async with side.client() as client:
        for body in bodies(side, work):
            async with client.post(f"{side.url}/api/v1/tasks:batch", data=body) as answer:
                if why := await refusal(answer):
                    return Record(part="registration", side="onthedot", case=BULK, left_out=why)
    rate = tasks / (time.monotonic() - begun)
    return _record("onthedot", BULK, tasks, rate, span)


def bodies(side: Product, work: Work) -> Iterator[bytes]:
    """What is sent to register ``work``, as many tasks at a time as may be."""
    tasks = [side.task_of(work, *one) for one in work.starts()]
    for at in range(0, len(tasks), _MOST_AT_ONCE):
        yield json.dumps({"tasks": tasks[at : at + _MOST_AT_ONCE]}).encode()


async def refusal(answer: aiohttp.ClientResponse) -> str | None:
    """Why there are no batches; raise where a task of this one was not taken."""
    text = await answer.text()
    if answer.status in (404, 405):
        return f"this version has no batches (POST /api/v1/tasks:batch: {answer.status})"
    if answer.status >= 300:
        raise RuntimeError(f"a batch was answered with {answer.status}: {text[:300]}")
    said = json.loads(text)
    if said["done"] < said["count"]:
        raise RuntimeError(f"of {said['count']} tasks of a batch {said['done']} were taken")
    return None


def _record(name: str, case: str, tasks: int, rate: float, span: Span) -> Record:
    used, _ = span.used()
    cpu = sum(used.values()) / tasks * 1000
    figures = {"registered": rate, "cpu registration": cpu, "tasks": tasks}
    return Record(part="registration", side=name, case=case, figures=figures)
