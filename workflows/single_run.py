"""One run of a task as a workflow, beside the task's own: see ``workflows.apart``."""

from dataclasses import replace

from temporalio import workflow

from activities.apart import (
    RUN_WORKFLOW,
    STOP,
    HowToStop,
    MakeRun,
    RunWorkflows,
    StopRun,
    TellOfRun,
)
from activities.limits import TELL, TellOfPlace
from activities.messages import RunOrder
from onthedot.run import Run
from workflows.backlog import KeepRows, keep
from workflows.batches import Batches
from workflows.beside import Beside
from workflows.follow_ups import that_follow
from workflows.log import waiting_row
from workflows.places import Places
from workflows.run import RunHere
from workflows.sending import SENT_WITHIN, UNTIL_SENT
from workflows.silent import SilentRuns


@workflow.defn(name=RUN_WORKFLOW)
class RunWorkflow:
    """Makes one run of a task, and tells the task's workflow of it."""

    @workflow.init
    def __init__(self, asked: MakeRun) -> None:
        self._asked = asked
        self._rows: list[Run] = []  # of which is to be told
        self._end: Run | None = None
        self._beside = Beside()
        self._run = RunHere(
            asked.order,
            task_id=asked.task_id,
            version=asked.version,
            spec=asked.spec,
            report=self._rows.append,
            batches=Batches(),
        )
        limited = bool(asked.spec.policies.limits)
        self._places = Places(self._run, asked.task_id, self._show) if limited else None
        self._silent = SilentRuns({asked.order.run_id: self._run}, self._beside.spawn)

    @workflow.run
    async def run(self, asked: MakeRun) -> None:
        self._beside.spawn(self._make())
        while self._end is None or self._rows:
            await workflow.wait_condition(self._is_called)
            self._beside.check()
            if self._rows:
                await self._tell(self._rows.pop(0))
        if not await self._tell(self._end, ended=True):
            await self._settle_alone(self._end)

    @workflow.signal(name=STOP, description="Have the run end, as it is said")
    def stop(self, asked: StopRun) -> None:
        match asked.how:
            case HowToStop.RECALL:
                self._recall()
            case HowToStop.WITHDRAW if self._run.in_line:
                self._run.withdraw()
            case HowToStop.LET_FINISH:
                self._beside.spawn(self._run.end_unless_taken(asked.reason))
            case HowToStop.CANCEL:
                self._run.cancel(asked.reason)
        self._silent.give_up()

    @workflow.signal(name=TELL, description="A limit answers the run that asked for a place")
    def hear_of_place(self, news: TellOfPlace) -> None:
        if self._places is not None:
            self._places.hear(news)

    async def _make(self) -> None:
        self._end = await (self._places.run_to_end() if self._places else self._run.to_end())

    def _recall(self) -> None:
        self._run.recall()
        if not self._run.recalled:  # its task must not wait for it to come back
            self._show(self._asked.order, None)

    def _show(self, order: RunOrder, reason: str | None) -> None:
        row = waiting_row(order, self._asked.task_id, self._asked.version)
        self._rows.append(replace(row, reason=reason))

    def _is_called(self) -> bool:
        return bool(self._rows) or self._end is not None or self._beside.is_broken

    async def _tell(self, row: Run, *, ended: bool = False) -> bool:
        """Whether the task's workflow hears of it."""
        recalled, withdrawn = self._run.recalled, self._run.withdrawn
        return await workflow.execute_local_activity_method(
            RunWorkflows.tell,
            TellOfRun(row=row, recalled=recalled, withdrawn=withdrawn, ended=ended),
            start_to_close_timeout=SENT_WITHIN,
            retry_policy=UNTIL_SENT,
            summary=f"the run is {row.status}",
        )

    async def _settle_alone(self, row: Run) -> None:
        """Somebody has terminated the task's workflow."""
        follows = that_follow(row, self._asked.spec.follow_ups)
        await keep(KeepRows(rows=[row], follow_ups=[follows] if follows else []))
