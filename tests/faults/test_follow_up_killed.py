"""A worker is killed between the end of a run and the start of the one that follows it."""

import os
import signal
from pathlib import Path

import psycopg

from onthedot.database.pool import connection
from onthedot.database.runs import read_run
from onthedot.run import Run, RunStatus
from onthedot.settings import Settings
from onthedot.task import TaskRegistration
from tests import services
from tests.running import Office, office, worker_process


async def rows(at: Office, task_id: str) -> list[Run]:
    async with connection(at.pool) as conn:
        found = await conn.execute("SELECT * FROM runs WHERE task_id = %s", [task_id])
        return [read_run(row) for row in await found.fetchall()]


async def register(at: Office, task_id: str, script: str, **follow_ups: list[str]) -> None:
    sent = {
        "id": task_id,
        "name": task_id,
        "schedule": {"kind": "interval", "every": "365d"},
        "action": {"kind": "shell", "script": script},
        "follow_ups": follow_ups,
    }
    await at.registration.register(TaskRegistration.model_validate(sent), by="tester")


async def test_what_follows_runs_once_although_the_worker_is_killed_before_it_starts(
    database_url: str, own_temporal: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=database_url, temporal_address=own_temporal, shell=True)
    done, go = tmp_path / "done", tmp_path / "go"
    async with office(settings) as at:
        await register(at, "second", f"echo $ONTHEDOT_RUN_ID >> {done}")
        await register(
            at, "first", f"until [ -e {go} ]; do sleep 0.05; done", on_success=["second"]
        )
        async with await psycopg.AsyncConnection.connect(database_url) as locking:
            with worker_process(settings, tmp_path / "killed.log") as killed:
                asked = await at.registration.trigger("first", by="tester")

                async def first_goes_on() -> bool:
                    return [run.status for run in await rows(at, "first")] == [RunStatus.RUNNING]

                await services.assert_eventually(first_goes_on, within=60)
                # Nobody can ask for a run any more: what follows the first is about to be.
                await locking.execute("LOCK TABLE requests IN EXCLUSIVE MODE")
                go.touch()

                async def first_has_ended() -> bool:
                    return (await rows(at, "first"))[0].status is RunStatus.SUCCEEDED

                await services.assert_eventually(first_has_ended, within=30)

                async def is_about_to_ask() -> bool:
                    query = (
                        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                        " AND query LIKE 'INSERT INTO requests%' AND datname = current_database()"
                    )
                    async with connection(at.pool) as conn:
                        return bool((await conn.execute(query)).rowcount)

                await services.assert_eventually(is_about_to_ask, within=30)
                os.killpg(killed.pid, signal.SIGKILL)
            assert await rows(at, "second") == []
        with worker_process(settings, tmp_path / "next.log"):

            async def second_has_ended() -> list[Run]:
                found = await rows(at, "second")
                assert [run.status for run in found] == [RunStatus.SUCCEEDED]
                return found

            (run,) = await services.assert_eventually(second_has_ended, within=30, every=0.2)
    assert run.reason == f"after {asked.run_id}: succeeded"
    assert done.read_text(encoding="utf-8").split() == [run.run_id]
