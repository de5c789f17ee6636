"""What a task's workflow hands to the log: rows, and how the task stands."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError

from activities.messages import RunOrder
from activities.plain import plain_text
from activities.record import Recorder, RecordProgress
from onthedot.engine import TASK_TIMEOUT, UPKEEP_QUEUE
from onthedot.run import Attempt, Run, RunStatus
from workflows.backlog import BacklogWorkflow, KeepRows
from workflows.messages import KeepTask

_RECORDED_AT_ONCE = 100
#: Rows that are carried along when a task continues as new, and how many of them, the latest, keep
#: their output and a long error: an input may have 2 MiB.
_CARRIED, _CARRIED_WHOLE = 100, 10
#: Attempts that each keeps, and bytes of other errors.
_LEFT_ATTEMPTS, _LEFT_TEXT = 5, 200
_LONGEST_PAUSE = timedelta(seconds=30)
_ONE_TRY = RetryPolicy(maximum_attempts=1)


class TaskLog:
    """Rows wait here until the log has them. Runs never wait for the log."""

    def __init__(self, state: KeepTask) -> None:
        self._state = state
        self._task_changed = state.changed
        self._writing = False
        self._finished_version: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the log has all that there is to know."""
        return not (self._state.unrecorded or self._task_changed or self._writing)

    @property
    def is_writing(self) -> bool:
        return self._writing

    def add(self, run: Run) -> None:
        self._state.unrecorded.append(run)

    def leave_out(self, order: RunOrder, status: RunStatus, reason: str) -> None:
        """The row of a run that is not made."""
        self.add(
            replace(self._row(order), status=status, reason=reason, finished_at=workflow.now())
        )

    def show_waiting(self, order: RunOrder, reason: str | None = None) -> None:
        """Let people see a run that does not come to its turn.

        A row that is there changes by a ``reason`` alone, and while it waits.
        """
        self.add(replace(self._row(order), reason=reason))

    def _row(self, order: RunOrder) -> Run:
        return waiting_row(order, self._state.task_id, self._state.version)

    def has_finish(self, version: int) -> None:
        """A run has written its row, and that its task, as of this version, is finished."""
        if not (self._state.unrecorded or self._writing):
            self._finished_version = version

    def task_finished(self) -> None:
        """Have the log told that the task is finished, unless a run's own row has said so."""
        if self._finished_version != self._state.version:
            self._task_changed = True

    def task_changed(self) -> None:
        """Its projection is to be written although there may be no row."""
        self._task_changed = True

    @property
    def is_too_long(self) -> bool:
        """Whether the rows that wait are more than can be carried along."""
        return len(self._state.unrecorded) > _CARRIED

    def pack(self) -> None:
        """Have the state say all that is to be carried along, and no more than there is room for."""
        self._state.changed = self._task_changed
        self._lighten()

    def _lighten(self) -> None:
        rows = self._state.unrecorded
        rows[:] = [
            *(_lightened(run) for run in rows[:-_CARRIED_WHOLE]),
            *(replace(run, attempts=_latest(run)) for run in rows[-_CARRIED_WHOLE:]),
        ]

    async def hand_over(self) -> None:
        """Give the oldest rows, and what follows those runs, to a workflow of their own."""
        self._lighten()
        state = self._state
        rows, state.unrecorded[:_CARRIED] = state.unrecorded[:_CARRIED], []
        run_ids = {run.run_id for run in rows} - {run.run_id for run in state.unrecorded}
        follow_ups = [one for one in state.follow_ups if one.run_id in run_ids]
        state.follow_ups[:] = [one for one in state.follow_ups if one not in follow_ups]
        await workflow.start_child_workflow(
            BacklogWorkflow.run,
            KeepRows(rows=rows, follow_ups=follow_ups),
            id=f"rows/{state.task_id}/{workflow.uuid4()}",
            task_queue=UPKEEP_QUEUE,
            task_timeout=TASK_TIMEOUT,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            static_summary=f"{len(rows)} rows of {state.task_id} that the log has not taken",
        )

    async def keep(
        self, is_settled: Callable[[], bool], due: Callable[[], datetime | None]
    ) -> None:
        """Write for ever; while the log does not answer, try again with growing pauses.

        ``is_settled`` says whether ``due``, the next due time for the projection, is known.
        """
        pause = timedelta(seconds=1)
        while True:
            await workflow.wait_condition(
                lambda: bool(self._state.unrecorded or self._task_changed) and is_settled()
            )
            if await self._write(due()):
                pause = timedelta(seconds=1)
            else:
                await workflow.sleep(pause, summary="the log does not answer")
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _write(self, next_due_at: datetime | None) -> bool:
        runs = self._state.unrecorded[:_RECORDED_AT_ONCE]
        self._task_changed, self._finished_version, self._writing = False, None, True
        try:
            await workflow.execute_local_activity_method(
                Recorder.record,
                RecordProgress(
                    task_id=self._state.task_id,
                    version=self._state.version,
                    state=self._state.state,
                    next_due_at=next_due_at,
                    runs=runs,
                ),
                start_to_close_timeout=timedelta(seconds=4),
                retry_policy=_ONE_TRY,
                summary=f"log: {_in_words(runs) or f'the task is {self._state.state}'}",
            )
        except FailureError:  # in a replay it comes without the ActivityError around it
            self._task_changed = True
            return False
        finally:
            self._writing = False
        del self._state.unrecorded[: len(runs)]
        return True


def waiting_row(order: RunOrder, task_id: str, version: int) -> Run:
    """The row of a run that does not come to its turn."""
    return Run(
        run_id=order.run_id,
        task_id=task_id,
        task_version=version,
        trigger=order.trigger,
        due_at=order.due_at,
        status=RunStatus.WAITING,
    )


def _lightened(run: Run) -> Run:
    return replace(run, output=None, result=None, error=_cut(run.error), attempts=_latest(run))


def _latest(run: Run) -> list[Attempt]:
    return [replace(one, error=_cut(one.error)) for one in run.attempts[-_LEFT_ATTEMPTS:]]


def _cut(text: str | None) -> str | None:
    return plain_text(text, _LEFT_TEXT) if text else text


def _in_words(runs: Sequence[Run]) -> str:
    return f"{len(runs)} rows" if len(runs) > 3 else ", ".join(run.status for run in runs)
