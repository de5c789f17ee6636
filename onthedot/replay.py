"""`onthedot replay`: whether open workflows would go on with the code that is installed here.

Their histories are replayed by this process alone: nothing is changed and nobody is disturbed. It
is to be run with a new version before its workers are rolled out.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from temporalio.client import Client, WorkflowExecution, WorkflowHistory
from temporalio.service import RPCError
from temporalio.worker import Replayer

from onthedot.engine import (
    DATA_CONVERTER,
    TASK_QUEUE,
    UPKEEP_QUEUE,
    Engine,
    translate,
    workflow_id,
)
from onthedot.errors import FieldError, InvalidInput
from onthedot.settings import Settings
from workflows.runner import WORKFLOWS, workflow_runner

_FETCHED_AT_ONCE = 8
_OPEN = f"ExecutionStatus = 'Running' AND TaskQueue IN ('{TASK_QUEUE}', '{UPKEEP_QUEUE}')"


@dataclass(slots=True)
class Report:
    """What came of a replay. ``failures`` are by workflow id, and say where it went apart."""

    open: int = 0  # workflows of ours that are open
    not_begun: int = (
        0  # of those that were looked at: they have done nothing yet, and begin with new code
    )
    replayed: Counter[str] = field(default_factory=Counter)  # by workflow type
    failures: dict[str, str] = field(default_factory=dict)


async def replay_open(settings: Settings, *, sample: int, tasks: Sequence[str] = ()) -> Report:
    """Replay the open workflows of ``tasks``, or a random ``sample`` of all that are open and have
    done something: one that only waits for its start fits any code.

    Raise EngineUnavailable, or InvalidInput for a task that has no open workflow.
    """
    engine = await Engine.connect(settings, lazy=False)
    try:
        found = [one async for one in engine.client.list_workflows(_OPEN)]
        report = Report(open=len(found))
        if tasks:
            chosen, most = [_of_task(found, task) for task in tasks], len(tasks)
        else:
            chosen, most = random.sample(found, len(found)), sample
        async with contextlib.aclosing(_histories(engine.client, chosen)) as histories:
            async for history in histories:
                if not _has_begun(history):
                    report.not_begun += 1
                elif report.replayed.total() < most:
                    await _replay(history, report)
                if report.replayed.total() == most:
                    break
    except RPCError as error:
        raise translate(error) from error
    return report


async def replay_files(files: Sequence[Path]) -> Report:
    """Replay histories that were saved as JSON, as by ``temporal workflow show --output json``.

    Raise InvalidInput for a file that is none.
    """
    report = Report()
    for file in files:
        await _replay(_read(file), report)
    return report


def in_words(report: Report) -> str:
    """The report for a terminal, with what to do when something does not fit."""
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(report.replayed.items()))
    of = f" of {report.open} open ones" if report.open else ""
    none = "none has begun" if report.open else "no workflow is open"
    lines = [f"replayed {report.replayed.total()}{of} ({kinds or none})"]
    if report.not_begun:
        lines[0] += f", left out {report.not_begun} that have not begun"
    if not report.failures:
        return f"{lines[0]}: all of them go on with this code."
    lines += [f"  does not fit: {name}: {error}" for name, error in report.failures.items()]
    return "\n".join([*lines, "", _WHAT_TO_DO])


_WHAT_TO_DO = """\
These tasks would be suspended by workers with this code until others come that fit. Do not roll it
out. Keep the order of the workflow's commands (timers, activities, upserts) as it was, or put the
change behind workflow.patched()."""


def _of_task(found: Sequence[WorkflowExecution], task: str) -> WorkflowExecution:
    for one in found:
        if one.id == workflow_id(task):
            return one
    remedy = "give the id of a task that is neither finished nor deleted"
    raise InvalidInput(FieldError("--task", task, "has no open workflow", remedy))


async def _histories(
    client: Client, chosen: Sequence[WorkflowExecution]
) -> AsyncGenerator[WorkflowHistory]:
    async def fetch(one: WorkflowExecution) -> WorkflowHistory:
        return await client.get_workflow_handle(one.id, run_id=one.run_id).fetch_history()

    for start in range(0, len(chosen), _FETCHED_AT_ONCE):
        for history in await asyncio.gather(*map(fetch, chosen[start : start + _FETCHED_AT_ONCE])):
            yield history


def _has_begun(history: WorkflowHistory) -> bool:
    """Whether a worker has done anything for it that a replay could contradict."""
    return any(
        event.HasField("workflow_task_completed_event_attributes") for event in history.events
    )


async def _replay(history: WorkflowHistory, report: Report) -> None:
    replayer = Replayer(
        workflows=WORKFLOWS, workflow_runner=workflow_runner(), data_converter=DATA_CONVERTER
    )
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    started = history.events[0].workflow_execution_started_event_attributes
    report.replayed[started.workflow_type.name] += 1
    if result.replay_failure is not None:
        report.failures[history.workflow_id] = str(result.replay_failure)


def _read(file: Path) -> WorkflowHistory:
    try:
        return WorkflowHistory.from_json(file.stem, file.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as error:
        remedy = "give a history as `temporal workflow show --output json` prints it"
        problem = f"cannot be read: {error}"
        raise InvalidInput(FieldError("--history", str(file), problem, remedy)) from error
