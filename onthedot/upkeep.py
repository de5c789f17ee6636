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
from onthedot.engine import Engine, Followed, followed, translate, workflow_id
from onthedot.errors import DatabaseUnavailable
from onthedot.registration import Registration
from onthedot.run import RunStatus
from onthedot.settings import Settings
from onthedot.task import Task, TaskState

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

#: What is younger than this may still be on its way from the process that stored it.
_SETTLED = timedelta(seconds=5)
#: A task that has no workflow though it is older than this will get none by itself.
_SURELY_STARTED = timedelta(minutes=1)
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

        Those are tasks without a workflow, deleted ones that have one, and those of which Postgres
        has lost versions that their workflows have taken.

        Raise EngineUnavailable or DatabaseUnavailable.
        """
        found = await self._open_workflows(alive)
        sent = await self._compare_open(found, alive)
        async for page in self._pages(
            lambda conn, after: tasks.open_tasks(conn, after=after, limit=_PAGE)
        ):
            before = datetime.now(UTC) - _SURELY_STARTED
            lost = [one for one in page if one.id not in found and one.updated_at < before]
            _warn("tasks without a workflow", [one.id for one in lost])
            sent += await self._for_all(self._registration.start_again, lost, alive)
        return sent

    async def _open_workflows(self, alive: Callable[[], None]) -> dict[str, Followed]:
        """Which version each open workflow follows, by the id of its task."""
        found: dict[str, Followed] = {}
        query = "WorkflowType = 'Task' AND ExecutionStatus = 'Running'"
        try:
            async for one in self._engine.client.list_workflows(query):
                found[one.id.removeprefix(workflow_id(""))] = await followed(one)
                if len(found) % _PAGE == 0:
                    alive()
        except RPCError as error:
            raise translate(error) from error
        return found

    async def _compare_open(self, found: dict[str, Followed], alive: Callable[[], None]) -> int:
        """Bring open workflows in step with the rows of their tasks."""
        sent, ids = 0, sorted(found)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            # read after the workflows: a row is never behind, unless Postgres has lost what it was
            async with connection(self._pool) as conn:
                rows = {task.id: task for task in await tasks.some_tasks(conn, page)}
            _warn("workflows without a task", [one for one in page if one not in rows])
            behind = {task.id for task in rows.values() if found[task.id].is_ahead_of(task)}
            _warn("tasks that are behind their workflows", sorted(behind))
            to_renew = [rows[one] for one in behind]
            sent += await self._for_all(self._registration.renew, to_renew, alive)
            others = [task for task in rows.values() if task.id not in behind]
            deleted = [task for task in others if task.state is TaskState.DELETED]
            sent += await self._for_all(self._registration.apply_again, deleted, alive)
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
            sent += await self._for_all(self._registration.apply_again, page, alive)
        return sent

    async def _for_all(
        self,
        send: Callable[[Task], Awaitable[bool]],
        found: Sequence[Task],
        alive: Callable[[], None],
    ) -> int:
        async def one(task: Task) -> int:
            alive()
            return await _sparing_others(task.id, send(task))

        return await _some_at_once(one, found)

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


def _warn(of: str, task_ids: Sequence[str]) -> None:
    if task_ids:
        logger.warning("%s: %s", of, task_ids, extra={"task_ids": task_ids})


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
