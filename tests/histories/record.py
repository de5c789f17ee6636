"""Records a history for each branch of the workflows: ``python -m tests.histories.record``.

It takes about two minutes; with names of ``TASKS`` it records these alone. What it writes is what tasks that run somewhere have behind them, so
record anew only what no installation can have open; see tests/integration/test_replay.py.
"""

import argparse
import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from temporalio.client import WorkflowHandle, WorkflowHistory

import workflows.history
import workflows.limit
import workflows.upkeep
from onthedot.database.migrate import migrate
from onthedot.engine import UPKEEP_QUEUE
from tests import services
from tests.histories import scenarios
from tests.histories.stage import FailingKeeper, Stage, UnreachableLog, set_up

FOLDER = Path(__file__).parent
LARGEST = 100_000  # bytes of one file

Scenario = Callable[[Stage], Awaitable[None]]

#: Scenarios that are played at once, each with a task that has its name.
TASKS: Mapping[str, Scenario] = {
    name: play for name, play in vars(scenarios).items() if hasattr(play, "is_scenario")
}
#: The first two are played alike: an installation may have either behind it.
ALL_CAUGHT_UP = ("catch_up_all", "caught_up_by_attempts", "caught_up_in_turn")
AWAY = ("log_away", "catch_up_latest", "catch_up_none", "catch_up_too_old", *ALL_CAUGHT_UP)
UPKEEP = ("upkeep", "upkeep_failing", "upkeep_in_stretches")
#: Histories of workflows that continue as new after a few events: they replay with ``SHORT``.
CONTINUED_LIMIT = "limit_continued"
CONTINUED = (
    CONTINUED_LIMIT,
    "continued",
    "continued_again",
    "continued_by_size",
    "continued_while_running",
    "continued_while_writing",
    "upkeep_continued",
    "apart",
    "apart_again",
    "apart_stopped",
)
#: Of the workflows that make one run each, by the task that has it made.
RUNS = {
    "run_apart": "apart",
    "run_apart_stopped": "apart_stopped",
    "run_apart_limited": "apart_limited",
    "run_apart_alone": "apart_alone",
}
#: All that is played and recorded together.
APART = ("apart", "apart_again", "apart_stopped", *RUNS)
BRANCHES = (*TASKS, *AWAY, *UPKEEP, *CONTINUED, *RUNS)


@contextmanager
def short() -> Iterator[None]:
    """Let workflows continue as new soon. A replay must see what the recording saw."""
    with (
        patch.multiple(
            workflows.history, LONG_HISTORY=30, TOO_LONG_HISTORY=50, LONG_IN_BYTES=12_000
        ),
        patch.multiple(workflows.upkeep, _ROUNDS=1, _STRETCHES=1),
        patch.object(workflows.limit, "LONG_HISTORY", 40),
    ):
        yield


async def _play_tasks(stage: Stage, names: Sequence[str]) -> None:
    async with stage.worker(), asyncio.TaskGroup() as playing:
        for number, play in enumerate(TASKS[name] for name in names):
            playing.create_task(play(stage))
            if number % 8 == 7:
                await asyncio.sleep(2)  # all at once would be late for each other


async def _play_outages(stage: Stage) -> None:
    """The log does not answer; then there is no worker for a while; then all is well again."""
    async with stage.worker(UnreachableLog(stage.pool), FailingKeeper()):
        await stage.register("log_away", scenarios.every(3))
        await _upkeep(stage, "upkeep_failing", rounds=1)
    for name in ("catch_up_all", "caught_up_by_attempts"):
        await stage.register(name, scenarios.every(5), catch_up={"keep": "all"})
    slow = scenarios.shell("sleep 1")
    await stage.register("caught_up_in_turn", scenarios.every(2), slow, catch_up={"keep": "all"})
    await stage.register("catch_up_latest", scenarios.every(3), catch_up={"keep": "latest"})
    await stage.register("catch_up_none", scenarios.every(3), catch_up={"keep": "none"})
    window = {"keep": "all", "within": "14s"}
    await stage.register("catch_up_too_old", scenarios.every(2), catch_up=window)
    await asyncio.sleep(17)  # longer than what simply runs late
    async with stage.worker(), asyncio.TaskGroup() as playing:
        playing.create_task(_upkeep(stage, "upkeep", rounds=2))
        playing.create_task(_upkeep(stage, "upkeep_in_stretches", rounds=2))
        for name in AWAY:
            playing.create_task(_recover(stage, name))


async def _recover(stage: Stage, name: str) -> None:
    await stage.wait_for(name, scenarios.SUCCEEDED, count=3)
    rows = await stage.rows(name)
    if name == "log_away":
        await stage.delete(name)
        return
    missed = any(run.status is scenarios.MISSED for run in rows)
    caught_up = any(run.trigger is scenarios.CATCH_UP for run in rows)
    assert missed or name in ALL_CAUGHT_UP, rows
    assert caught_up or name == "catch_up_none", rows
    await stage.delete(name)


async def _play_continued(stage: Stage) -> None:
    with short():
        async with stage.worker(), asyncio.TaskGroup() as playing:
            playing.create_task(scenarios.go_on(stage, "continued", "true"))
            playing.create_task(scenarios.go_on(stage, "continued_while_running", "sleep 2.7"))
            playing.create_task(scenarios.go_on(stage, "continued_while_writing", "sleep 15"))
            long = f"true # {'x' * 3_000}"
            playing.create_task(scenarios.go_on(stage, "continued_by_size", long))
            playing.create_task(_upkeep(stage, "upkeep_continued", rounds=1))
    stage.played["continued_again"] = stage.played["continued"]


async def _play_apart(stage: Stage) -> None:
    with short():
        async with stage.worker(), asyncio.TaskGroup() as playing:
            playing.create_task(scenarios.go_on(stage, "apart", "sleep 2.7", overlap="allow"))
            playing.create_task(scenarios.stopped_apart(stage, "apart_stopped"))
            playing.create_task(scenarios.limited_apart(stage, "apart_limited"))
            playing.create_task(scenarios.left_alone_apart(stage, "apart_alone"))
    stage.played["apart_again"] = stage.played["apart"]


async def _play_continued_limit(stage: Stage) -> None:
    """A limit continues as new while some hold it and others wait."""
    policies = {"overlap": "allow", "limits": {CONTINUED_LIMIT: 2}}
    script = scenarios.shell("sleep 0.5")
    with short():
        async with stage.worker():
            task_id = await stage.register("asks_on", scenarios.every(3600), script, **policies)
            for _ in range(12):
                await stage.registration.trigger(task_id, by=scenarios.BY)
            await stage.wait_for(task_id, scenarios.SUCCEEDED, count=12)
            await stage.delete(task_id)


async def _upkeep(stage: Stage, name: str, rounds: int) -> None:
    """An upkeep workflow beside the installation's own, through its first rounds."""
    client = stage.engine.client
    workflow = workflows.upkeep.UpkeepWorkflow.run
    handle = await client.start_workflow(workflow, id=name, task_queue=UPKEEP_QUEUE)
    first = client.get_workflow_handle(name, run_id=handle.first_execution_run_id)

    async def has_slept() -> bool:
        events = (await first.fetch_history()).to_json_dict()["events"]
        return [one["eventType"] for one in events].count("EVENT_TYPE_TIMER_FIRED") >= rounds

    await services.assert_eventually(has_slept, within=60, every=0.5)
    await asyncio.sleep(0.5)
    await client.get_workflow_handle(name).terminate("recorded")


async def _write(stage: Stage, name: str, folder: Path) -> None:
    history = await _history(stage, name)
    found = _without_traces(history.to_json_dict()["events"])
    events = [json.dumps(one, sort_keys=True) for one in found]
    text = '{"events": [\n' + ",\n".join(events) + "\n]}\n"
    if len(text) > LARGEST:
        raise AssertionError(f"{name} has {len(text)} bytes: play a shorter scenario")
    (folder / f"{name}.json").write_text(text, encoding="utf-8")


def _without_traces(value: Any) -> Any:
    """No replay reads stack traces, and they name the folders of one machine."""
    if isinstance(value, list):
        return [_without_traces(one) for one in value]
    if isinstance(value, dict):
        return {name: _without_traces(one) for name, one in value.items() if name != "stackTrace"}
    return value


async def _history(stage: Stage, name: str) -> WorkflowHistory:
    client = stage.engine.client
    if name in UPKEEP or name == "upkeep_continued":
        workflow_id = name
    elif name.startswith("limit_"):
        workflow_id = f"limit/{name}"
    elif name in RUNS:
        workflow_id = (await stage.apart(RUNS[name]))[0]
    else:
        workflow_id = f"task/{stage.played[name]}"
    handle: WorkflowHandle[object, object] = client.get_workflow_handle(workflow_id)
    if name not in CONTINUED:
        return await handle.fetch_history()
    found = client.list_workflows(f"WorkflowId = '{workflow_id}'")
    runs = sorted([one async for one in found], key=lambda one: one.start_time)
    run = runs[1 if name.endswith("_again") else 0]
    return await client.get_workflow_handle(workflow_id, run_id=run.run_id).fetch_history()


async def record(stage: Stage, names: Sequence[str]) -> None:
    """Play scenarios, all when ``names`` is empty, and write the histories of their workflows."""
    await _play_tasks(stage, [one for one in names or TASKS if one in TASKS])
    if not names or CONTINUED_LIMIT in names:
        await _play_continued_limit(stage)
    if not names or set(APART) & set(names):
        await _play_apart(stage)
    if not names or set(AWAY) & set(names):
        await _play_outages(stage)
    if not names or set(CONTINUED) & set(names) - {CONTINUED_LIMIT, *APART}:
        await _play_continued(stage)
    for name in names or BRANCHES:
        await _write(stage, name, FOLDER)


async def _record(database_url: str, temporal_address: str, names: Sequence[str]) -> None:
    await migrate(database_url)
    async with set_up(database_url, temporal_address) as stage:
        await record(stage, names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BRANCHES], metavar="NAME")
    names = parser.parse_args().names
    logging.basicConfig(level=logging.WARNING)
    with (
        patch.object(workflows.upkeep, "_STRETCH", timedelta(seconds=8)),  # which no replay sees
        services.temporary_folder() as folder,
        services.running_postgres(folder) as postgres,
        services.running_temporal(folder) as temporal,
    ):
        postgres.make_database()
        asyncio.run(_record(postgres.url(), temporal.address, names))
    print(f"{len(names or BRANCHES)} histories in {FOLDER}")  # noqa: T201 - it is a command


if __name__ == "__main__":
    main()
