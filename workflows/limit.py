"""A limit, as a durable workflow: who holds a place, and who waits for one."""

import asyncio
import bisect
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from activities.limits import (
    ASK,
    GIVE_BACK,
    LIMIT_WORKFLOW,
    AskForPlace,
    Holder,
    KeepLimit,
    Limits,
    TellOfPlace,
)

#: While somebody waits, a holder that is gone is noticed within this; without anybody, within the
#: longer one, after which an idle limit ends.
LOOK, SELDOM = timedelta(seconds=15), timedelta(minutes=10)
#: Events after which it continues as new. A lower number breaks the replay of limits that are open.
LONG_HISTORY = 5_000
_SENT_AT_ONCE = 100
_AGAIN = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=5)
)


@workflow.defn(name=LIMIT_WORKFLOW)
class LimitWorkflow:
    """Gives out the places of one limit, first come, first served. Its whole state is its input."""

    @workflow.init
    def __init__(self, state: KeepLimit) -> None:
        self._state = state
        self._news: list[TellOfPlace] = []  # that are to be told
        self._looks_often = False
        self._looked_at = 0  # so many of the holders, the first ones, in this turn
        self._timer: asyncio.Task[None]

    @workflow.run
    async def run(self, state: KeepLimit) -> None:
        self._set_timer()
        while True:
            await workflow.wait_condition(self._is_called)
            if self._news:
                await self._tell()
            elif self._is_long():
                workflow.continue_as_new(self._state)
            elif not self._timer.done():  # somebody waits now
                self._timer.cancel()
                self._set_timer()
            elif self._state.held or self._state.line or self._looks_often:
                await self._look_at_holders()
                self._set_timer()
            else:
                return

    @workflow.signal(name=ASK, description="A run asks for a place")
    def ask(self, asked: AskForPlace) -> None:
        """Give it a place, or let it wait; one that asks again is told again."""
        if self._holds(asked.run_id):
            self._remove(asked.run_id)
            self._give_place(asked)
            return
        self._remove(asked.run_id)
        bisect.insort(self._state.line, asked, key=lambda one: one.ready_at)
        self._let_in()
        if asked in self._state.line:
            self._report(asked, granted=False, before=self._state.line.index(asked))

    @workflow.signal(name=GIVE_BACK, description="A run gives its place back, or leaves the line")
    def give_back(self, run_id: str) -> None:
        self._remove(run_id)
        self._let_in()

    @workflow.query(description="Who holds a place, and who waits for one")
    def standing(self) -> KeepLimit:
        return self._state

    def _let_in(self) -> None:
        """Strictly in order: one that may be let in does not overtake the first, who may not."""
        line = self._state.line
        while line and len(self._state.held) < line[0].size:
            self._give_place(line.pop(0))
        self._describe()

    def _give_place(self, asked: AskForPlace) -> None:
        self._state.held.append(Holder(ask=asked, since=workflow.now()))
        self._report(asked, granted=True, before=0)

    def _report(self, asked: AskForPlace, *, granted: bool, before: int) -> None:
        self._news[:] = [one for one in self._news if one.ask != asked]  # it would be old news
        self._news.append(
            TellOfPlace(
                ask=asked,
                granted=granted,
                held=len(self._state.held),
                before=before,
            )
        )

    def _holds(self, run_id: str) -> bool:
        return any(one.ask.run_id == run_id for one in self._state.held)

    def _remove(self, run_id: str) -> None:
        state = self._state
        state.held[:] = [one for one in state.held if one.ask.run_id != run_id]
        state.line[:] = [one for one in state.line if one.run_id != run_id]

    async def _tell(self) -> None:
        news = self._news[:_SENT_AT_ONCE]
        del self._news[:_SENT_AT_ONCE]
        gone = await workflow.execute_local_activity_method(
            Limits.tell,
            news,
            start_to_close_timeout=timedelta(seconds=8),
            retry_policy=_AGAIN,
            summary=", ".join(
                f"{one.ask.run_id} {'may start' if one.granted else 'waits'}" for one in news[:3]
            ),
        )
        self._drop([one.ask for one in news if one.ask.run_id in gone])

    async def _look_at_holders(self) -> None:
        """Free the places of those that nobody follows: their task's workflow was terminated.

        Where there are many, they are looked at by turns.
        """
        before = workflow.now() - LOOK / 2
        held = [one for one in self._state.held if one.since < before]
        if not held:
            return
        first = self._looked_at if self._looked_at < len(held) else 0
        held = held[first : first + _SENT_AT_ONCE]
        self._looked_at = first + len(held)
        gone = await workflow.execute_local_activity_method(
            Limits.find_gone,
            held,
            start_to_close_timeout=timedelta(seconds=8),
            retry_policy=_AGAIN,
            summary=f"whether {len(held)} runs still go on",
        )
        self._drop([one.ask for one in held if one.ask.run_id in gone])

    def _drop(self, gone: list[AskForPlace]) -> None:
        """Remove those who are gone, unless the run has asked anew from another workflow."""
        state = self._state
        state.held[:] = [one for one in state.held if one.ask not in gone]
        state.line[:] = [one for one in state.line if one not in gone]
        self._let_in()

    def _is_called(self) -> bool:
        soon = bool(self._state.line) and not self._looks_often
        return bool(self._news) or soon or self._timer.done() or self._is_long()

    def _is_long(self) -> bool:
        return workflow.info().get_current_history_length() > LONG_HISTORY

    def _set_timer(self) -> None:
        self._looks_often = bool(self._state.line)
        wait = workflow.sleep(
            LOOK if self._looks_often else SELDOM, summary="until it looks at those who hold it"
        )
        self._timer = asyncio.create_task(wait)

    def _describe(self) -> None:
        """For those who look at the limit in the Temporal UI or CLI."""
        state = self._state
        held = "".join(f"\n- {one.ask.run_id}" for one in state.held[:_SHOWN])
        line = "".join(f"\n- {one.run_id}" for one in state.line[:_SHOWN])
        workflow.set_current_details(
            f"**{state.name}**\n\nheld by {len(state.held)} runs:{held}\n\n"
            f"waiting are {len(state.line)}:{line}"
        )


_SHOWN = 20
