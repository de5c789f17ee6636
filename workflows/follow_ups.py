"""What a task's workflow has to start after its runs, until it is started."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from activities.follow_ups import FollowUpActivities, StartFollowUps
from onthedot.engine import UPKEEP_QUEUE
from onthedot.run import Run, RunStatus
from onthedot.task import FollowUps
from workflows.beside import Spawn
from workflows.messages import KeepTask

_STARTED_AT_ONCE = 20
#: Postgres may be away for hours: the engine keeps at it, and no history grows by that.
UNTIL_IT_SUCCEEDS = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10)
)


class PendingFollowUps:
    """Follow-ups wait here until the run's row is in the log and their own runs are asked for."""

    def __init__(self, state: KeepTask, spawn: Spawn) -> None:
        self._state, self._spawn = state, spawn
        self._is_busy = False

    def after(self, run: Run, follow_ups: FollowUps) -> None:
        """A run has ended; ``follow_ups`` are of the definition that it was made from."""
        if chosen := that_follow(run, follow_ups):
            self._state.follow_ups.append(chosen)
            self.go_on()

    def go_on(self) -> None:
        """Start what is left, also from the time before this history."""
        if self._state.follow_ups and not self._is_busy:
            self._is_busy = True
            self._spawn(self._start_all())

    async def _start_all(self) -> None:
        left = self._state.follow_ups
        while left:
            await workflow.wait_condition(lambda: bool(self._recorded()))
            ended = self._recorded()[:_STARTED_AT_ONCE]
            await start(ended)
            left[:] = [one for one in left if one not in ended]
        self._is_busy = False

    def _recorded(self) -> list[StartFollowUps]:
        """Those whose run's row is in the log: what is told of the run is read from there."""
        waiting = {run.run_id for run in self._state.unrecorded}
        return [one for one in self._state.follow_ups if one.run_id not in waiting]


def that_follow(run: Run, follow_ups: FollowUps) -> StartFollowUps | None:
    """What is to be started after a run that has ended."""
    chosen: list[str] = []
    if run.status is RunStatus.SUCCEEDED:
        chosen = follow_ups.on_success
    elif run.status.is_failure:
        chosen = follow_ups.on_failure
    task_ids = list(dict.fromkeys(chosen))
    return StartFollowUps(run_id=run.run_id, task_ids=task_ids) if task_ids else None


async def start(ended: list[StartFollowUps]) -> None:
    """Start what follows these runs, whose rows are in the log; however long that takes."""
    # On upkeep's queue: only workers with the scheduler role have the registration service.
    await workflow.execute_activity_method(
        FollowUpActivities.start,
        ended,
        task_queue=UPKEEP_QUEUE,
        start_to_close_timeout=timedelta(minutes=2),
        heartbeat_timeout=timedelta(seconds=5),
        retry_policy=UNTIL_IT_SUCCEEDS,
        summary=", ".join(f"{one.run_id}: {', '.join(one.task_ids)}" for one in ended[:3]),
    )
