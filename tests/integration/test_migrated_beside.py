"""A process that runs goes on beside a database that a newer version has migrated."""

from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

from onthedot.database import calendars, lists, runs, tasks, workers
from onthedot.database.pool import Connection, connection, open_pool
from onthedot.database.tasks import Change, Request
from onthedot.database.workers import Worker
from onthedot.holidays import CalendarDay, CalendarDefinition
from onthedot.run import Trigger, scheduled_run_id
from onthedot.settings import Settings
from onthedot.task import Exclusion, HttpAction, IntervalSchedule, TaskSpec, TaskState
from onthedot.versions import What

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
_TABLES = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""


async def test_columns_that_a_migration_adds_disturb_nobody(database_url: str) -> None:
    pool = await open_pool(Settings(database_url=database_url))
    try:
        async with connection(pool) as conn:
            conn.prepare_threshold = 0  # each statement is prepared at once
            await use(conn, "before")
            await add_columns(database_url)
            await use(conn, "after")
    finally:
        await pool.close()


async def add_columns(url: str) -> None:
    connecting = psycopg.AsyncConnection.connect(url, autocommit=True)
    async with await connecting as conn:
        tables = [name for (name,) in await (await conn.execute(_TABLES)).fetchall()]
        assert {"tasks", "runs", "requests", "calendars", "workers"} <= set(tables)
        for name in tables:
            added = sql.SQL("ALTER TABLE {} ADD COLUMN added_later text DEFAULT 'new'")
            await conn.execute(added.format(sql.Identifier(name)))


async def use(conn: Connection, name: str) -> None:
    """Store and read one of each."""
    await use_tasks(conn, name)
    await use_requests_and_runs(conn, name)
    await use_calendars(conn, name)
    worker = Worker(
        identity=name, role="all", queues=["default"], version="1", started_at=NOW, clock_skew_ms=0
    )
    await workers.keep(conn, worker)
    assert name in [one.identity for one in await workers.seen(conn)]


async def use_tasks(conn: Connection, name: str) -> None:
    days = Exclusion(calendars=(name,))
    every = IntervalSchedule(every=timedelta(minutes=1), anchor=NOW, exclude=days)
    spec = TaskSpec(name=name, schedule=every, action=HttpAction(url="http://127.0.0.1/"))
    task = await tasks.insert_task(conn, name, spec, by="test", now=NOW, next_due_at=NOW)
    assert task is not None
    assert task == await tasks.get_task(conn, name)
    change = Change(what=What.PAUSED, spec=spec, state=TaskState.PAUSED)
    task = await tasks.change_task(conn, task, change, by="test", now=NOW, next_due_at=None)
    assert task is not None
    assert [one.version for one in await tasks.mark_taken(conn, [(name, 1)])] == [2]
    assert await tasks.some_tasks(conn, [name])
    assert await tasks.open_tasks(conn, after="", limit=9)
    later = NOW + timedelta(days=1)
    assert await tasks.not_in_step(conn, before=later, after="", limit=9)
    assert (await lists.list_tasks(conn, lists.TaskFilter())).items
    await lists.upcoming_tasks(conn, before=later)
    assert [one.version for one in (await lists.list_versions(conn, name)).items] == [2, 1]
    assert (await tasks.get_version(conn, name, 2)).state is TaskState.PAUSED


async def use_requests_and_runs(conn: Connection, name: str) -> None:
    run_id = scheduled_run_id(name, NOW)
    asked = Request(
        id=name,
        task_id=name,
        kind="trigger",
        body={"orders": [{"run_id": run_id}]},
        created_by="test",
    )
    assert await tasks.insert_request(conn, asked, now=NOW)
    found = await tasks.get_request(conn, name)
    assert found == await tasks.unsent_with_run(conn, name, run_id)
    later = NOW + timedelta(days=1)
    assert found in await tasks.requests_not_sent(conn, before=later, limit=9)
    assert (await lists.list_requests(conn, name)).items == [found]
    await runs.insert_waiting(conn, name, 2, Trigger.MANUAL, [(run_id, NOW)])
    assert await runs.some_runs(conn, [run_id]) == [await runs.get_run(conn, run_id)]
    assert await runs.going_on(conn, name, now=later)
    assert (await lists.list_runs(conn, lists.RunFilter(task_id=name))).items


async def use_calendars(conn: Connection, name: str) -> None:
    days = (CalendarDay(date="2026-12-25"),)
    definition = CalendarDefinition(title=name, days=days)
    made = await calendars.insert_calendar(conn, name, definition, by="test", now=NOW)
    assert made == await calendars.get_calendar(conn, name)
    assert made in await calendars.list_calendars(conn, after="", limit=9)
    assert await calendars.days_of(conn, [name]) == {name: days}
    assert await calendars.get_calendar(conn, name, lock=True) == made
    changed = await calendars.change_calendar(conn, name, definition, by="test", now=NOW)
    assert changed.version == 2
    for lock in (False, True):
        (task,) = await calendars.tasks_with_calendar(conn, name, lock=lock)
        await calendars.hold(conn, task.spec.schedule)
