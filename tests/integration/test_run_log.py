"""The log, written on a real Postgres: rows move forward, each once, and one bad row hurts no other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import psycopg
import pytest

from onthedot import metrics
from onthedot.database import runs, tasks
from onthedot.database.pool import Pool, connection, open_pool, transaction
from onthedot.database.run_log import Progress, RunLog
from onthedot.database.tasks import Change
from onthedot.errors import DatabaseBusy, DatabaseUnavailable, NotFound
from onthedot.run import Attempt, Output, Run, RunStatus, Trigger, scheduled_run_id
from onthedot.settings import Settings
from onthedot.task import HttpAction, IntervalSchedule, Task, TaskSpec, TaskState
from onthedot.upkeep import Upkeep
from onthedot.versions import What
from tests import promql
from tests.faults.network import Link
from tests.services import assert_eventually

DUE = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TASK = "task-1"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    made = await open_pool(Settings(database_url=database_url))
    yield made
    await made.close()


@pytest.fixture
async def log(pool: Pool) -> AsyncIterator[RunLog]:
    async with connection(pool) as conn:
        spec = TaskSpec(
            name="A task",
            schedule=IntervalSchedule(every=timedelta(minutes=1), anchor=DUE),
            action=HttpAction(url="http://127.0.0.1/"),
        )
        await tasks.insert_task(conn, TASK, spec, by="test", now=DUE, next_due_at=DUE)
    async with RunLog(pool) as made:
        yield made


def run(number: int = 0, status: RunStatus = RunStatus.SUCCEEDED, **given: Any) -> Run:
    due_at = DUE + timedelta(minutes=number)
    started_at = due_at + timedelta(milliseconds=3)
    plain = Run(
        run_id=scheduled_run_id(TASK, due_at),
        task_id=TASK,
        task_version=1,
        trigger=Trigger.SCHEDULE,
        due_at=due_at,
        status=status,
        started_at=started_at,
        finished_at=started_at + timedelta(seconds=1) if status.is_final else None,
        attempt_count=1,
        worker="worker-1",
    )
    return replace(plain, **given)


def progress(version: int = 1, state: TaskState = TaskState.ACTIVE) -> Progress:
    return Progress(task_id=TASK, version=version, next_due_at=DUE, state=state)


async def stored(pool: Pool, number: int = 0) -> Run:
    async with connection(pool) as conn:
        return await runs.get_run(conn, run(number).run_id)


async def task(pool: Pool) -> Task:
    async with connection(pool) as conn:
        return await tasks.get_task(conn, TASK)


async def test_a_row_is_read_as_it_was_written(log: RunLog, pool: Pool) -> None:
    tried = Attempt(
        number=1,
        status=RunStatus.FAILED,
        started_at=DUE,
        finished_at=DUE + timedelta(seconds=1),
        worker="worker-1",
        error="it went wrong",
    )
    written = run(
        attempts=[tried],
        reason="a reason",
        output=Output(text="Grüße\n", size=9),
        error="it went wrong",
        result={"status": 500, "headers": {"a": ["b"]}},
    )
    await log.write([written])
    assert await stored(pool) == written


@pytest.mark.parametrize("later", [RunStatus.WAITING, RunStatus.RUNNING, RunStatus.FAILED])
async def test_a_final_row_stays_as_it_is(log: RunLog, pool: Pool, later: RunStatus) -> None:
    await log.write([run()], progress())
    await log.write([run(status=later, error="late")], progress())
    assert await stored(pool) == run()
    after = await task(pool)
    assert (after.run_count, after.failure_count) == (1, 0)


async def test_a_row_moves_on_to_its_end(log: RunLog, pool: Pool) -> None:
    first = run(status=RunStatus.RUNNING)
    await log.write([run(status=RunStatus.WAITING, started_at=None, attempt_count=0)])
    await log.write([first])
    second = first.started_at + timedelta(seconds=5)
    await log.write([replace(first, attempt_count=2, started_at=second)])
    assert (await stored(pool)).attempt_count == 2
    await log.write([first])  # an older word that comes late
    assert (await stored(pool)).attempt_count == 2
    await log.write([run(attempt_count=2, started_at=second)], progress())
    row = await stored(pool)
    assert (row.status, row.started_at) == (RunStatus.SUCCEEDED, first.started_at)


async def test_the_furthest_of_several_rows_in_one_flush_counts(log: RunLog, pool: Pool) -> None:
    await asyncio.gather(
        log.write([run()], progress()),
        log.write([run(status=RunStatus.RUNNING)]),
        log.write([run(status=RunStatus.WAITING)]),
        log.write([run()], progress()),
    )
    assert await stored(pool) == run()
    assert (await task(pool)).run_count == 1


async def test_counts_and_last_status_follow_the_runs(log: RunLog, pool: Pool) -> None:
    await log.write([run(0), run(1, RunStatus.FAILED)], progress())
    await log.write([run(2, RunStatus.SKIPPED, started_at=None, attempt_count=0)], progress())
    after = await task(pool)
    assert (after.run_count, after.failure_count) == (2, 1)
    assert after.last_status is RunStatus.FAILED
    assert after.last_run_at == run(1).started_at


async def test_runs_without_a_word_on_their_task_are_counted_too(log: RunLog, pool: Pool) -> None:
    """Rows of a long backlog come so, beside others that do not."""
    await log.write([run(0), run(1, RunStatus.FAILED)])
    after = await task(pool)
    assert (after.run_count, after.failure_count) == (2, 1)
    assert (after.last_status, after.last_run_at) == (RunStatus.FAILED, run(1).started_at)
    await asyncio.gather(log.write([run(2)]), log.write([run(3)], progress()))
    assert (await task(pool)).run_count == 4


async def test_a_flush_takes_many_writers_of_few_rows_and_few_of_many(
    log: RunLog, pool: Pool
) -> None:
    metric, before = "onthedot_log_flush_rows_count", metrics.render().decode()
    rows = [[run(number) for number in range(first, first + 400)] for first in range(0, 2000, 400)]
    await asyncio.gather(*map(log.write, rows))
    flushes = promql.samples(metrics.render().decode(), metric) - promql.samples(before, metric)
    assert flushes == 3
    assert (await task(pool)).run_count == 2000


async def test_how_a_task_stands_counts_for_the_version_it_names(log: RunLog, pool: Pool) -> None:
    before = await task(pool)
    async with connection(pool) as conn:
        await tasks.change_task(
            conn,
            before,
            Change(what=What.REVISED, spec=before.spec, state=TaskState.ACTIVE),
            by="test",
            now=DUE,
            next_due_at=None,
        )
    await log.write([], progress(1, TaskState.PAUSED))
    assert (await task(pool)).state is TaskState.ACTIVE
    await log.write([], progress(2, TaskState.PAUSED))
    after = await task(pool)
    assert (after.state, after.next_due_at, after.in_step) == (TaskState.PAUSED, DUE, True)


async def test_a_thousand_writers_are_written_together(log: RunLog, pool: Pool) -> None:
    await asyncio.gather(*(log.write([run(number)], progress()) for number in range(1000)))
    assert (await task(pool)).run_count == 1000
    async with connection(pool) as conn:
        found = await conn.execute("SELECT count(DISTINCT xmin::text::bigint) AS flushes FROM runs")
        row = await found.fetchone()
    assert row is not None
    assert row["flushes"] < 50


async def test_a_due_time_in_any_month_finds_its_place(log: RunLog, pool: Pool) -> None:
    for year in (1999, 2026, 2199):
        due_at = datetime(year, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
        run_id = scheduled_run_id(TASK, due_at)
        await log.write([run(due_at=due_at, run_id=run_id)])
        async with connection(pool) as conn:
            assert (await runs.get_run(conn, run_id)).due_at == due_at


async def test_an_entry_that_is_refused_holds_up_no_other(log: RunLog, pool: Pool) -> None:
    answers = await asyncio.gather(
        log.write([run(0, error="a NUL: \0")], progress()),
        log.write([run(1, error="a lone surrogate: \ud800")], progress()),
        log.write([run(2)], progress()),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers[:2]] == [DatabaseUnavailable] * 2
    assert answers[2] is None
    await log.write([run(3)], progress())  # and it goes on
    assert (await task(pool)).run_count == 2
    with pytest.raises(NotFound):
        await stored(pool, 0)


async def test_nobody_waits_for_a_postgres_that_is_known_to_be_away(database_url: str) -> None:
    """A workflow whose row waits to be written fires no timer."""
    loop = asyncio.get_running_loop()
    async with Link(port_of(database_url)).listening() as link:
        far = await open_pool(Settings(database_url=with_port(database_url, link.port)))
        async with RunLog(far) as log:
            await log.write([run(0)])
            link.swallow()
            with pytest.raises(DatabaseUnavailable):
                await log.write([run(1)])
            begun = loop.time()
            for _ in range(20):
                with pytest.raises(DatabaseUnavailable):
                    await log.write([run(1)])
                await asyncio.sleep(0.1)
            assert loop.time() - begun < 20 * 0.1 + 1
            link.heal()
            await assert_eventually(lambda: written(log, run(1)), within=20)
        assert (await stored(far, 1)).status is RunStatus.SUCCEEDED
        await far.close()


@asynccontextmanager
async def held(url: str, statement: str) -> AsyncIterator[None]:
    """Another session that has done this in a transaction which goes on."""
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute(statement.encode())
        yield


def next_month() -> Run:
    due_at = DUE + timedelta(days=30)
    return run(due_at=due_at, run_id=scheduled_run_id(TASK, due_at))


async def test_a_month_is_made_beside_a_long_reader(
    log: RunLog, pool: Pool, database_url: str
) -> None:
    async with held(database_url, "SELECT FROM runs, attempts, run_output"):
        await log.write([next_month()], progress())
    async with connection(pool) as conn:
        assert await runs.months(conn) == ["2026_12"]


async def test_a_month_that_cannot_be_made_now_holds_no_other_row_up(
    log: RunLog, pool: Pool, database_url: str
) -> None:
    await log.write([run(0)])
    async with held(database_url, "LOCK TABLE runs IN SHARE UPDATE EXCLUSIVE MODE"):
        answers = await asyncio.gather(
            log.write([next_month()]), log.write([run(1)]), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [DatabaseUnavailable, type(None)]
        await log.write([run(2)])  # Postgres is not taken for away
    await log.write([next_month()])
    assert (await stored(pool, 2)).status is RunStatus.SUCCEEDED


async def test_old_months_are_dropped_when_no_reader_holds_them(
    pool: Pool, database_url: str
) -> None:
    settings = Settings(database_url=database_url)
    upkeep = Upkeep(settings, pool, Mock(), Mock())
    async with connection(pool) as conn:
        await runs.make_month(conn, datetime(2020, 1, 1, tzinfo=UTC))
    async with held(database_url, "SELECT FROM runs"):
        minding = asyncio.create_task(upkeep.apply_retention())
        await asyncio.sleep(0.2)
        async with connection(pool) as conn, asyncio.timeout(2):  # it waits for the drop's end
            await conn.execute("SELECT FROM runs")
        with pytest.raises(DatabaseBusy):
            await asyncio.wait_for(minding, 5)
    await upkeep.apply_retention()
    async with connection(pool) as conn:
        months = await runs.months(conn)
    assert (len(months), months[0]) == (4, f"{datetime.now(UTC):%Y_%m}")


async def test_a_statement_that_others_hold_up_is_told_from_a_postgres_that_is_away(
    pool: Pool,
) -> None:
    with pytest.raises(DatabaseBusy):
        async with transaction(pool) as conn:
            await conn.execute("SET LOCAL statement_timeout = 50")
            await conn.execute("SELECT pg_sleep(5)")
    with pytest.raises(DatabaseUnavailable) as away:
        async with connection(pool) as conn:
            await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert not isinstance(away.value, DatabaseBusy)


async def written(log: RunLog, one: Run) -> bool:
    try:
        await log.write([one])
    except DatabaseUnavailable:
        return False
    return True


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def with_port(url: str, port: int) -> str:
    return url.replace(f":{port_of(url)}/", f":{port}/")


async def test_a_claim_is_given_once(log: RunLog, pool: Pool) -> None:
    wanted = run(status=RunStatus.RUNNING)
    answers = await asyncio.gather(*(log.claim(wanted, one) for one in ("a", "b")))
    assert sorted(answers) == [False, True]


async def test_a_claim_whose_answer_was_lost_is_given_again(log: RunLog, pool: Pool) -> None:
    wanted = run(status=RunStatus.RUNNING)
    for attempt in (replace(wanted, attempt_count=number) for number in (1, 2)):
        claim = f"of attempt {attempt.attempt_count}"
        assert await log.claim(attempt, claim)
        assert await log.claim(replace(attempt, worker="worker-2"), claim)
        assert not await log.claim(attempt, "another")
    assert (await stored(pool)).worker == "worker-2"


async def test_the_next_attempt_is_claimed_anew_and_a_run_that_ended_is_not(log: RunLog) -> None:
    claimed = run(status=RunStatus.RUNNING)
    assert await log.claim(claimed, "a")
    assert await log.claim(replace(claimed, attempt_count=2), "b")
    assert not await log.claim(claimed, "a")
    await log.write([run(attempt_count=2)], progress())
    assert not await log.claim(replace(claimed, attempt_count=2), "b")
    assert not await log.claim(replace(claimed, attempt_count=3), "c")


async def test_a_run_says_when_its_task_is_due_next(log: RunLog, pool: Pool) -> None:
    await log.record_success(run(1), DUE + timedelta(minutes=2))
    told = await task(pool)
    assert (told.next_due_at, told.state, told.run_count) == (
        DUE + timedelta(minutes=2),
        TaskState.ACTIVE,
        1,
    )
    await log.record_success(run(0), DUE + timedelta(minutes=1))  # it took long
    assert (await task(pool)).next_due_at == DUE + timedelta(minutes=2)
    assert (await stored(pool, 0)).status is RunStatus.SUCCEEDED


async def test_a_run_says_that_its_task_is_finished(log: RunLog, pool: Pool) -> None:
    await log.record_success(run(), None)
    told = await task(pool)
    assert (told.next_due_at, told.state) == (None, TaskState.FINISHED)


async def test_a_run_says_nothing_of_another_version_of_its_task(log: RunLog, pool: Pool) -> None:
    for next_due_at in (DUE + timedelta(minutes=9), None):
        await log.record_success(run(task_version=7), next_due_at)
    told = await task(pool)
    assert (told.next_due_at, told.state) == (DUE, TaskState.ACTIVE)


async def test_a_run_does_not_resume_a_task_that_its_workflow_has_paused(
    log: RunLog, pool: Pool
) -> None:
    await log.write([], replace(progress(state=TaskState.PAUSED), next_due_at=None))
    await log.record_success(run(), DUE + timedelta(minutes=1))
    told = await task(pool)
    assert (told.next_due_at, told.state) == (None, TaskState.PAUSED)
    assert told.pause is not None
    assert told.pause.by == "pause_on_failure"


async def test_in_one_flush_the_word_of_the_workflow_counts(log: RunLog, pool: Pool) -> None:
    by_workflow = log.write([], replace(progress(state=TaskState.PAUSED), next_due_at=None))
    await asyncio.gather(
        log.record_success(run(1), DUE + timedelta(minutes=2)),
        by_workflow,
        log.record_success(run(2), DUE + timedelta(minutes=3)),
    )
    told = await task(pool)
    assert (told.next_due_at, told.state, told.run_count) == (None, TaskState.PAUSED, 2)


async def test_output_that_is_slow_to_be_kept_holds_up_no_row_and_no_claim(
    log: RunLog, pool: Pool
) -> None:
    await log.write([run(0)])  # its month is made
    async with transaction(pool) as conn:
        await conn.execute("LOCK TABLE run_output IN SHARE MODE")
        said = [
            asyncio.create_task(log.append_output(run(0).run_id, DUE, 1, number, "x"))
            for number in range(50)
        ]
        await asyncio.sleep(0)  # all of them have begun
        async with asyncio.timeout(2):
            await log.write([run(1)])
            assert await log.claim(run(2, RunStatus.RUNNING), "a")
        assert not any(one.done() for one in said)
    await asyncio.gather(*said)
    async with connection(pool) as conn:
        assert await runs.get_output(conn, run(0)) == "x" * 50


async def test_a_run_that_ended_is_found(log: RunLog) -> None:
    await log.write([run(1, RunStatus.RUNNING)])
    await log.write([run(2)])
    assert await log.find_ended(run(0).run_id) is None
    assert await log.find_ended(run(1).run_id) is None
    found = await log.find_ended(run(2).run_id)
    assert found is not None
    assert found.status is RunStatus.SUCCEEDED


def deleted() -> Run:
    return run(
        status=RunStatus.CANCELLED,
        started_at=None,
        attempt_count=0,
        worker=None,
        reason="the task was deleted",
    )


async def test_a_run_that_went_with_its_task_comes_back_with_it(log: RunLog, pool: Pool) -> None:
    """A task that is deleted and registered again just before it is due runs, and that is told."""
    await log.write([deleted()], progress())
    await log.write([run(status=RunStatus.RUNNING)], progress())
    assert (await stored(pool)).status is RunStatus.CANCELLED  # the same version of the task
    await log.write([run(status=RunStatus.RUNNING, task_version=2)], progress(2))
    going_on = await stored(pool)
    assert (going_on.status, going_on.reason, going_on.finished_at) == ("running", None, None)
    await log.write([run(task_version=2)], progress(2))
    await log.write([replace(deleted(), task_version=3)], progress(2))
    ended = await stored(pool)
    assert (ended.status, ended.reason, ended.task_version) == ("succeeded", None, 2)
    assert (await task(pool)).run_count == 1


async def test_a_run_that_comes_back_with_its_task_can_be_claimed(log: RunLog, pool: Pool) -> None:
    await log.write([deleted()], progress())
    assert not await log.claim(run(status=RunStatus.RUNNING), "a")
    assert await log.claim(run(status=RunStatus.RUNNING, task_version=2), "b")
    assert not await log.claim(run(status=RunStatus.RUNNING, task_version=2), "c")
    row = await stored(pool)
    assert (row.status, row.reason, row.task_version) == (RunStatus.RUNNING, None, 2)


async def test_other_rows_of_runs_that_did_not_start_stay_as_they_are(
    log: RunLog, pool: Pool
) -> None:
    on_request = replace(deleted(), reason="cancelled on request")
    await log.write([on_request], progress())
    await log.write([run(task_version=2)], progress(2))
    assert (await stored(pool)).reason == "cancelled on request"


async def test_a_run_that_was_asked_for_can_be_claimed(log: RunLog, pool: Pool) -> None:
    waiting = run(status=RunStatus.WAITING)
    async with connection(pool) as conn:
        await runs.insert_waiting(
            conn, TASK, 1, Trigger.MANUAL, [(waiting.run_id, waiting.due_at)], reason="why not"
        )
    assert await log.claim(run(status=RunStatus.RUNNING), "a")
    row = await stored(pool)
    assert (row.status, row.reason) == (RunStatus.RUNNING, "why not")


async def test_output_is_kept_by_attempt(log: RunLog, pool: Pool) -> None:
    written = run(output=Output(text="...", size=10))
    await log.write([written])
    for attempt, text in ((1, "first"), (2, "second "), (2, "half")):
        position = 7 if text == "half" else 0
        for _ in range(2):  # to repeat it is fine
            await log.append_output(written.run_id, written.due_at, attempt, position, text)
    async with connection(pool) as conn:
        assert await runs.get_output(conn, await stored(pool)) == "second half"
