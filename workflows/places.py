"""The places that a run takes under its task's limits: asked for at its instant, given back at its end."""

from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow

from activities.limits import AskForPlace, GiveBackPlaces, Limits, TellOfPlace
from activities.messages import RunOrder
from onthedot.run import Run
from workflows.run import RunHere, in_words
from workflows.sending import SENT_WITHIN, UNTIL_SENT

#: A place is asked for this long before the instant: it is there at the instant, and nobody who is
#: due earlier misses it for longer than this.
AHEAD = timedelta(milliseconds=250)


class Places:
    """Those of one run, taken in the order of the limits' names, so that no two runs can each have
    what the other waits for. They are held to the run's end, with its retries and the pauses between.
    """

    def __init__(
        self, run: RunHere, task_id: str, show: Callable[[RunOrder, str | None], None]
    ) -> None:
        """``show`` lets people see that the run waits, and why."""
        self._run, self._task_id, self._show_waiting = run, task_id, show
        self._asked: list[str] = []
        self._waited_for: list[str] = []
        self._news: dict[str, TellOfPlace] = {}

    def hear(self, news: TellOfPlace) -> None:
        """A limit has answered. Answers may overtake each other, but a place given is not taken."""
        before = self._news.get(news.ask.limit)
        if before is None or not before.granted:
            self._news[news.ask.limit] = news

    async def run_to_end(self) -> Run:
        """Wait for all places, let the run be made, give them back; the run's final row."""
        run = self._run
        await self._until_instant()
        began = workflow.now()
        for name, size in sorted(run.spec.policies.limits.items()):
            if not run.is_asked_to_stop:
                await self._take(name, size)
        run.in_line = run.in_line and run.is_asked_to_stop
        if self._waited_for and not run.is_asked_to_stop:
            seconds = (workflow.now() - began).total_seconds()
            run.remark = f"waited {seconds:.1f} s for limit {', '.join(self._waited_for)}"
            self._show(run.remark)
        run.held_back = False
        row = await run.to_end()  # at once, where it was cancelled while it waited
        if self._asked:
            await give_back(self._asked, row.run_id)
        return row

    def _show(self, why: str) -> None:
        self._show_waiting(self._run.order, in_words(self._run.order, why))

    async def _until_instant(self) -> None:
        run = self._run
        run.held_back = True
        left = run.start_at - AHEAD - workflow.now()
        if left <= timedelta():
            return
        try:
            await workflow.wait_condition(
                lambda: run.is_asked_to_stop,
                timeout=left,
                timeout_summary=f"until it asks for {', '.join(sorted(run.spec.policies.limits))}",
            )
        except TimeoutError:
            return

    async def _take(self, name: str, size: int) -> None:
        """Return when the place is there, or when the run was cancelled."""
        run = self._run
        self._asked.append(name)
        run.in_line = True
        info = workflow.info()
        asked = AskForPlace(
            limit=name,
            run_id=run.order.run_id,
            task_id=self._task_id,
            workflow_id=info.workflow_id,
            workflow_run_id=info.run_id,
            ready_at=run.start_at,
            size=size,
        )
        await workflow.execute_local_activity_method(
            Limits.ask,
            asked,
            start_to_close_timeout=SENT_WITHIN,
            retry_policy=UNTIL_SENT,
            summary=f"a place under the limit {name}",
        )
        await workflow.wait_condition(lambda: name in self._news or run.is_asked_to_stop)
        if not run.is_asked_to_stop and not self._news[name].granted:
            self._waited_for.append(name)
            self._show(_in_words(self._news[name]))
            await workflow.wait_condition(lambda: self._news[name].granted or run.is_asked_to_stop)


async def give_back(limits: list[str], run_id: str) -> None:
    """Give the run's places back, and leave the lines that it waits in."""
    await workflow.execute_local_activity_method(
        Limits.give_back,
        GiveBackPlaces(run_id=run_id, limits=limits),
        start_to_close_timeout=SENT_WITHIN,
        retry_policy=UNTIL_SENT,
        summary=f"{run_id} gives back its place under {', '.join(limits)}",
    )


def _in_words(news: TellOfPlace) -> str:
    """Why a run waits: ``limit crm-api: 2 of 2 held``."""
    before = f", {news.before} wait before it" if news.before else ""
    return f"limit {news.ask.limit}: {news.held} of {news.ask.size} held{before}"
