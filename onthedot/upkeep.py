"""Keeps the installation in order: sends again what the engine does not know, minds the log's months."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from temporalio.service import RPCError

from onthedot.database import runs as log
from onthedot.database import tasks, workers
from onthedot.database.pool import Connection, Pool, connection
from onthedot.engine import Engine, translate, workflow_id
from onthedot.errors import DatabaseUnavailable
from onthedot.registration import Registration
from onthedot.run import RunStatus
from onthedot.settings import Settings
from onthedot.task import Task, TaskState

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

#: What is younger than this may still be on its way from the process that stored it.
_SETTLED = timedelta(seconds=5)
_PAGE = 500
_AT_ONCE = 20
_MONTHS_AHEAD = 3
_KEYS_KEPT = timedelta(days=7)
_VERSIONS_KEPT = 100  # of each task, however old; others as long as the log


class Upkeep:
    """What the upkeep workflow has done; each call may be repeated."""

    def __init__(
        self, settings: Settings, pool: Pool, engine: Engine, registration: Registration
    ) -> None:
        self._settings, self._pool = settings, pool
        self._engine, self._registration = engine, registration

    async def reconcile(self, alive: Callable[[], None]) -> int:
        """Send changes and requests that the engine has not taken; how many it has taken now.

        ``alive`` is called as the work goes on. Raise DatabaseUnavailable.
        """
        before = datetime.now(UTC) - _SETTLED
        # at once: each that the engine does not take costs seconds, and neither may wait for all
        changes = asyncio.create_task(self._send_changes(before, alive))
        try:
            return await self._send_requests(before, alive) + await changes
        finally:
            changes.cancel()
            await asyncio.gather(changes, return_exceptions=True)

    async def compare(self, alive: Callable[[], None]) -> int:
        """Hold all tasks against the open workflows; how many tasks were sent again.

        Those are tasks without a workflow, and deleted ones that have one.

        Raise EngineUnavailable or DatabaseUnavailable.
        """
        try:
            open_ids = set()
            query = "WorkflowType = 'Task' AND ExecutionStatus = 'Running'"
            async for found in self._engine.client.list_workflows(query):
                open_ids.add(found.id)
                if len(open_ids) % _PAGE == 0:
                    alive()
        except RPCError as error:
            raise translate(error) from error
        sent = await self._tell_deleted(sorted(open_ids), alive)
        async for page in self._pages(
            lambda conn, after: tasks.open_tasks(conn, after=after, limit=_PAGE)
        ):
            before = datetime.now(UTC) - timedelta(minutes=1)
            lost = [
                one
                for one in page
                if workflow_id(one.id) not in open_ids and one.updated_at < before
            ]
            if lost:
                ids = [one.id for one in lost]
                logger.warning("tasks without a workflow: %s", ids, extra={"task_ids": ids})
            sent += await self._apply(lost, alive)
        return sent

    async def _tell_deleted(self, open_ids: Sequence[str], alive: Callable[[], None]) -> int:
        """Tell workflows that are open that their task was deleted."""
        sent = 0
        for start in range(0, len(open_ids), _PAGE):
            ids = [one.removeprefix(workflow_id("")) for one in open_ids[start : start + _PAGE]]
            async with connection(self._pool) as conn:
                found = await tasks.some_tasks(conn, ids)
            sent += await self._apply(
                [task for task in found if task.state is TaskState.DELETED], alive
            )
        return sent

    async def apply_retention(self) -> None:
        """Forget old keys, requests, versions and workers; make the log's months ahead, and drop
        those past retention.

        Raise DatabaseBusy where a month is held by others, or another DatabaseUnavailable.
        """
        now = datetime.now(UTC)
        oldest = now - self._settings.retention
        async with connection(self._pool, within=60) as conn:
            await tasks.forget_keys(conn, before=now - _KEYS_KEPT)
            await tasks.forget_requests(conn, before=oldest)
            await tasks.forget_versions(conn, before=oldest, kept=_VERSIONS_KEPT)
            await workers.forget_old(conn)
            for ahead in range(_MONTHS_AHEAD + 1):
                month = now.month - 1 + ahead
                first = datetime(now.year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
                await log.make_month(conn, first)
            for suffix in await log.months(conn):
                if suffix < f"{oldest:%Y_%m}":
                    logger.info("dropping the log of %s: past retention", suffix)
                    await log.drop_month(conn, suffix)

    async def _pages(
        self, read: Callable[[Connection, str], Awaitable[list[Task]]]
    ) -> AsyncIterator[list[Task]]:
        """The tasks that ``read`` finds, page by page; it gets the id that the last page ended with."""
        after = ""
        while True:
            async with connection(self._pool) as conn:
                page = await read(conn, after)
            if page:
                yield page
            if len(page) < _PAGE:
                return
            after = page[-1].id

    async def _send_changes(self, before: datetime, alive: Callable[[], None]) -> int:
        sent = 0
        async for page in self._pages(
            lambda conn, after: tasks.not_in_step(conn, before=before, after=after, limit=_PAGE)
        ):
            sent += await self._apply(page, alive)
        return sent

    async def _apply(self, found: Sequence[Task], alive: Callable[[], None]) -> int:
        async def apply(task: Task) -> int:
            alive()
            return await _sparing_others(task.id, self._registration.apply_again(task))

        return await _some_at_once(apply, found)

    async def _send_requests(self, before: datetime, alive: Callable[[], None]) -> int:
        """Send what was asked of tasks, of each task in order until one is not taken."""
        stuck: set[str] = set()  # tasks whose other requests are left to the next round

        async def send(request: tasks.Request) -> bool:
            is_sent = await self._send(request)
            if not is_sent:
                stuck.add(request.task_id)
            return is_sent

        async def send_in_order(requests: Sequence[tasks.Request]) -> int:
            sent = 0
            for request in requests:
                if request.task_id not in stuck:
                    alive()
                    sent += await _sparing_others(request.task_id, send(request))
            return sent

        sent, after = 0, None
        while True:
            async with connection(self._pool) as conn:
                page = await tasks.requests_not_sent(conn, before=before, after=after, limit=_PAGE)
            sent += await _some_at_once(send_in_order, _by_task(page))
            if len(page) < _PAGE:
                return sent
            after = page[-1]

    async def _send(self, request: tasks.Request) -> bool:
        """Send a request again, unless its runs show that it was taken."""
        async with connection(self._pool) as conn:
            if request.kind != "cancel":
                runs = await log.some_runs(conn, request.run_ids)
                if runs and all(run.status is not RunStatus.WAITING for run in runs):
                    await tasks.mark_sent(conn, request.id)
                    return True
            task = await tasks.get_task(conn, request.task_id)
        # a change that was made before must not come after it
        if not task.in_step and not await self._registration.apply_again(task):
            return False
        return await self._registration.send(request)


def _by_task(requests: Iterable[tasks.Request]) -> list[list[tasks.Request]]:
    found: dict[str, list[tasks.Request]] = {}
    for one in requests:
        found.setdefault(one.task_id, []).append(one)
    return list(found.values())


async def _some_at_once(do: Callable[[Item], Awaitable[int]], items: Iterable[Item]) -> int:
    """Do it for all, some at the same time; the sum of what it returns."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(item: Item) -> int:
        async with places:
            return await do(item)

    return sum(await asyncio.gather(*map(one, items)))


async def _sparing_others(task_id: str, work: Awaitable[bool]) -> bool:
    """Whether the work was done. What one task gets wrong must not keep others from their turn."""
    try:
        return await work
    except DatabaseUnavailable:
        raise
    except Exception:
        about = {"task_id": task_id}
        logger.exception("task %s cannot be brought in step", task_id, extra=about)
        return False
