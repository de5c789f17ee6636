"""Keeps the installation in order: sends again what the engine does not know, minds the log's months."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

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
        sent = 0
        async for page in self._pages(
            lambda conn, after: tasks.not_in_step(conn, before=before, after=after, limit=_PAGE)
        ):
            sent += await self._apply(page, alive)
        async with connection(self._pool) as conn:
            requests = await tasks.requests_not_sent(conn, before=before, limit=_PAGE)
        for request in requests:
            alive()
            sent += await _sparing_others(request.task_id, self._send(request))
        return sent

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

    async def mind_months(self) -> None:
        """Make the log's months ahead, drop those past retention, forget old keys, requests and
        versions.
        """
        now = datetime.now(UTC)
        oldest = now - self._settings.retention
        async with connection(self._pool, within=60) as conn:
            for ahead in range(_MONTHS_AHEAD + 1):
                month = now.month - 1 + ahead
                first = datetime(now.year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
                await log.make_month(conn, first)
            for suffix in await log.months(conn):
                if suffix < f"{oldest:%Y_%m}":
                    logger.info("dropping the log of %s: past retention", suffix)
                    await log.drop_month(conn, suffix)
            await tasks.forget_keys(conn, before=now - _KEYS_KEPT)
            await tasks.forget_requests(conn, before=oldest)
            await tasks.forget_versions(conn, before=oldest, kept=_VERSIONS_KEPT)
            await workers.forget_old(conn)

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

    async def _apply(self, found: Sequence[Task], alive: Callable[[], None]) -> int:
        places = asyncio.Semaphore(_AT_ONCE)

        async def apply(task: Task) -> bool:
            async with places:
                alive()
                return await _sparing_others(task.id, self._registration.apply_again(task))

        return sum(await asyncio.gather(*map(apply, found)))

    async def _send(self, request: tasks.Request) -> bool:
        """Send a request again, unless its runs show that it was taken."""
        if request.kind != "cancel":
            async with connection(self._pool) as conn:
                runs = await log.some_runs(conn, request.run_ids)
                if all(run.status is not RunStatus.WAITING for run in runs):
                    await tasks.mark_sent(conn, request.id)
                    return True
        return await self._registration.send(request)


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
