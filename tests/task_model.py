"""What becomes of a task, told beforehand: a model of the promises, which knows no workflow.

A program is a task with its policies and the steps of those who deal with it. ``foretell`` says at
which instants the steps are to happen and which rows the log has in the end. Time is in seconds
since the program began, which is at a whole minute; due times are whole minutes as well.

Steps happen and runs end at instants of the minute that lie apart from each other, so that there is
one right answer. Where two things come too close to say which is first, the program is ``unclear``,
and is not to be played.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from itertools import count, takewhile
from math import inf

MINUTE = 60.0
#: Where in a minute steps happen: away from all due times, or while the next run is with a worker.
QUIET, LEAD = 14, 50
#: A short attempt lasts so long. A long one ends at this second of a minute.
SHORT, LONG_ENDS = 5.0, 27.0
#: What is closer together may come in either order. Leads begin after this second of the minute.
CLOSE, LEAD_BEGINS = 1.8, 44
#: At this second of a minute pauses end by themselves.
PAUSE_ENDS = 40
#: How long it may take until a run hears that it is cancelled, or is sent to another worker.
HEARD, SENT_AGAIN = 6.0, 2.0
#: What is at most this late simply runs.
GRACE = 10.0


@dataclass(frozen=True)
class Every:
    minutes: int


@dataclass(frozen=True)
class Once:
    minutes: int  # after the minute in which the task gets this schedule


@dataclass(frozen=True)
class Policies:
    overlap: str = "skip"
    limit: int = 100
    keep: str = "latest"
    within: float = 86_400  # seconds
    attempts: int = 1
    backoff: float = 13  # seconds
    retry_within: float | None = None  # seconds
    pause_on_failure: int = 0


@dataclass(frozen=True)
class Try:
    """How an attempt goes. A short one has no ``minutes``."""

    good: bool = True
    minutes: int | None = None

    def end(self, start: float) -> float:
        if self.minutes is None:
            return start + SHORT
        earliest = start + 2
        first = earliest // MINUTE * MINUTE + LONG_ENDS
        return first + (self.minutes + (first < earliest)) * MINUTE


@dataclass(frozen=True)
class Program:
    schedule: Every | Once
    policies: Policies
    lives: tuple[tuple[Try, ...], ...]  # of runs, by the minute in which they are due
    steps: tuple["Step", ...]
    short_history: bool = False
    no_cache: bool = False

    def how(self, due: float, number: int) -> Try:
        """How attempt ``number`` of a run goes."""
        life = self.lives[int(due // MINUTE) % len(self.lives)]
        return life[min(number, len(life)) - 1]


@dataclass(frozen=True)
class Wait:
    minutes: int
    until: int = QUIET  # second of the minute


@dataclass(frozen=True)
class Pause:
    minutes: int | None = None  # until so many minutes later, at PAUSE_ENDS


@dataclass(frozen=True)
class Resume:
    keep: str | None = None  # catch up with the occurrences of the pause
    within: float = 86_400


@dataclass(frozen=True)
class Revise:
    schedule: Every | Once | None = None
    policies: Policies | None = None


@dataclass(frozen=True)
class Delete:
    let_finish: bool = False


@dataclass(frozen=True)
class Trigger:
    overlap: str | None = None


@dataclass(frozen=True)
class Backfill:
    count: int
    at_once: int = 1


@dataclass(frozen=True)
class Cancel:
    """Cancel one of the runs that are there, or the one that is about to start."""

    which: int


@dataclass(frozen=True)
class StopWorker:
    pass


@dataclass(frozen=True)
class StartWorker:
    pass


@dataclass(frozen=True)
class RestartWorker:
    pass


@dataclass(frozen=True)
class LogAway:
    pass


@dataclass(frozen=True)
class LogBack:
    pass


Step = (
    Wait
    | Pause
    | Resume
    | Revise
    | Delete
    | Trigger
    | Backfill
    | Cancel
    | StopWorker
    | StartWorker
    | RestartWorker
    | LogAway
    | LogBack
)
_ONLY_TIME = (StopWorker, StartWorker, RestartWorker, LogAway, LogBack)


@dataclass(frozen=True)
class Order:
    """A run that there is to be. ``key`` is that of the request for it."""

    due: float
    trigger: str = "schedule"
    key: str | None = None
    overlap: str | None = None
    at_once: int = 1


@dataclass(frozen=True)
class Row:
    """A row of the log. ``reasons`` are beginnings, one of which it has; none is no reason."""

    order: Order
    status: str
    reasons: tuple[str, ...] = ()
    started: float | None = None
    ended: float | None = None
    slack: float = 0  # by how much it may be later
    attempts: int = 0
    version: int | None = None


@dataclass(frozen=True)
class Act:
    """A step of the program as it is to be played."""

    at: float
    step: Step
    version: int
    schedule: Every | Once
    anchor: float  # the minute that ``schedule`` is counted from
    policies: Policies
    state: str
    paused_until: float | None
    orders: tuple[Order, ...] = ()


@dataclass(kw_only=True)
class Going:
    """A run that goes on: an attempt, or the wait for the next one."""

    order: Order
    policies: Policies
    version: int
    number: int = 1
    started: float = 0
    started_slack: float = 0
    waits: bool = False  # for its next attempt
    until: float = 0  # the attempt's end, or the wait's
    slack: float = 0
    stopped: tuple[str, ...] = ()  # the reasons for which it was cancelled


@dataclass
class Foretold:
    acts: list[Act] = field(default_factory=list)
    rows: dict[Order, Row] = field(default_factory=dict)
    optional: set[Order] = field(default_factory=set)  # there may be a row, or none
    unclear: str = ""
    ended: float = 0  # all is over


def foretell(program: Program) -> Foretold:
    model = TaskModel(program)
    for step in program.steps:
        model.take(step)
    model.close()
    return model.told


class TaskModel:
    """One task, its runs, and its rows."""

    def __init__(self, program: Program) -> None:
        self.program, self.told = program, Foretold()
        self.now, self.version, self.state = 0.0, 1, "active"
        self.policies = program.policies
        self.paused_until: float | None = None
        self.failures = 0  # in a row
        self.works, self.log_is_away = True, False
        self.going: list[Going] = []
        self.queue: list[Order] = []
        self.backfills: list[Order] = []
        self.requests = count()
        self.cancelled: set[float] = set()  # due times whose run was cancelled before its start
        self.recent: list[tuple[float, float]] = []  # when something may have ended
        self._set(program.schedule)

    # What those do who deal with the task.

    def take(self, step: Step) -> None:
        if isinstance(step, Wait):
            minute = self.now // MINUTE + step.minutes
            self.advance(max(self.now, minute * MINUTE + step.until))
            return
        if not self.works and not isinstance(step, _ONLY_TIME):
            return
        self._calm_down(step)
        is_open = self.state in ("active", "paused")
        match step:
            case Pause() if self.state == "active":
                self._pause(step)
            case Resume() if self.state == "paused":
                self._resume(step)
            case Revise() if is_open:
                self._revise(step)
            case Delete() if is_open:
                self._delete(step)
            case Trigger() | Backfill() if is_open:
                self._ask(step)
            case Cancel() if self.state != "finished":
                self._cancel(step)
            case _ if isinstance(step, _ONLY_TIME):
                self._around(step)
        self._go_on()

    def close(self) -> None:
        """Everything is there again, the task is deleted, and what goes on comes to its end."""
        for step in (Wait(1), StartWorker(), LogBack(), Wait(1), Delete()):
            self.take(step)
        while self.going or self.backfills:
            self.advance(self.now + MINUTE)
        self.advance(self.now + 2 * MINUTE)
        self.told.ended = self.now

    def _ask(self, step: Trigger | Backfill) -> None:
        key = f"request-{next(self.requests)}"
        if isinstance(step, Trigger):
            order = Order(self.now, "manual", key, step.overlap)
            self._act(step, order)
            self._come_due(order)
        else:
            dues = [(self.now // MINUTE - n) * MINUTE for n in range(step.count, 0, -1)]
            orders = [Order(due, "backfill", key, at_once=step.at_once) for due in dues]
            self._act(step, *orders)
            self.backfills += orders

    def _around(self, step: Step) -> None:
        """What becomes of the workers and of the log; once all is over it is of no interest."""
        over = self.state in ("finished", "deleted") and not (self.going or self.backfills)
        match step:
            case StopWorker() if self.works and not over:
                self._act(step)
                self.works = False
            case StartWorker() if not self.works:
                self._act(step)
                self._come_back()
            case RestartWorker() if self.works and not over:
                self._act(step)
                self._come_back()
            case LogAway() if not self.log_is_away and not over:
                self._act(step)
                self.log_is_away = True
            case LogBack() if self.log_is_away:
                self._act(step)
                self.log_is_away = False

    def _pause(self, step: Pause) -> None:
        if step.minutes is not None:
            self.paused_until = (self.now // MINUTE + step.minutes) * MINUTE + PAUSE_ENDS
        self._change(step, "paused")
        self._drop_waiting("skipped", "paused", by_itself=True)

    def _resume(self, step: Resume) -> None:
        kept = []
        if step.keep is not None:
            kept = self._kept(self._dues(self.now), step.keep, step.within)
        self._pass_over("skipped", "paused", self.now, but=kept)
        self.failures, self.paused_until = 0, None
        self._change(step, "active")
        self.queue += [Order(due, "catch_up") for due in kept]

    def _resume_by_itself(self, at: float) -> None:
        self._pass_over("skipped", "paused", at)
        self.state, self.failures, self.paused_until = "active", 0, None

    def _act(self, step: Step, *orders: Order) -> None:
        self.told.acts.append(
            Act(
                self.now,
                step,
                self.version,
                self.schedule,
                self.anchor,
                self.policies,
                self.state,
                self.paused_until,
                orders,
            )
        )

    def _set(self, schedule: Every | Once) -> None:
        self.schedule, self.anchor = schedule, self.now // MINUTE * MINUTE
        self.cursor = self.now  # what was due up to here has its row, or its run

    def _change(self, step: Step, state: str) -> None:
        self.version, self.state = self.version + 1, state
        self._act(step)

    def _revise(self, step: Revise) -> None:
        self.policies = step.policies or self.policies
        if step.schedule is not None and step.schedule != self.schedule:
            if self.state == "paused":
                self._pass_over("skipped", "paused", self.now)
            self._set(step.schedule)
        self._change(step, self.state)

    def _delete(self, step: Delete) -> None:
        if self.state == "paused":
            self._pass_over("skipped", "paused", self.now)
        if self._next_due() - self.now < MINUTE - LEAD_BEGINS:  # it may be on its way to a worker
            self.told.optional.add(Order(self._next_due()))
        self.paused_until = None
        self._change(step, "deleted")
        self._drop_waiting("cancelled", "the task was deleted", by_itself=False)
        if not step.let_finish:
            for run in list(self.going):
                self._stop(run, "the task was deleted")

    def _cancel(self, step: Cancel) -> None:
        runs = [one.order for one in self.going] + self.queue + self.backfills
        due = self._next_due()
        soon = self.now % MINUTE >= LEAD and due - self.now < MINUTE and self.state == "active"
        allowed = self.policies.overlap == "allow" and self._others() < self.policies.limit
        if soon and (allowed or not self._is_busy()):
            runs.append(Order(due))
        if not runs:
            return
        runs.sort(key=lambda one: (one.due, one.trigger, one.key or ""))
        order = runs[step.which % len(runs)]
        self._act(step, order)
        for one in self.going:
            if one.order == order:
                self._stop(one, "cancelled on request")
                return
        for lane in (self.queue, self.backfills):
            if order in lane:
                lane.remove(order)
                self._row(order, "cancelled", "cancelled on request")
                return
        self.cancelled.add(order.due)

    # What happens by itself.

    def advance(self, to: float) -> None:
        while True:
            ends = min(self.going, key=lambda one: one.until, default=None)
            due = self._next_due() if self.works and self.state == "active" else inf
            next_end = ends.until if ends and self.works else inf
            resumes = self.paused_until if self.paused_until and self.works else inf
            if min(due, next_end, resumes) > to:
                break
            if resumes <= min(due, next_end):
                self.now = max(self.now, resumes)
                self.paused_until = None
                self._see_whether_clear("a pause ends")
                self._resume_by_itself(resumes)
                self._go_on()
                continue
            if next_end <= due and ends:
                self.now = max(self.now, next_end)
                self._end(ends)
            else:
                self.now = max(self.now, due)
                self._see_whether_clear("an occurrence is due")
                self.cursor = due
                self._fire(Order(due))
            self._go_on()
        self.now = to

    def _fire(self, order: Order) -> None:
        if order.due in self.cancelled:
            self._row(order, "cancelled", "cancelled on request")
        else:
            self._come_due(order)
        if isinstance(self.schedule, Once):
            self._go_on()

    def _next_due(self) -> float:
        return next(iter(self._dues(inf)), inf)

    def _dues(self, until: float) -> list[float]:
        """What is due after the cursor; without an ``until``, the first of it."""
        if isinstance(self.schedule, Once):
            at = self.anchor + self.schedule.minutes * MINUTE
            return [at] if self.cursor < at <= until else []
        step = self.schedule.minutes * MINUTE
        first = max(0, (self.cursor - self.anchor) // step + 1)
        times = (self.anchor + (first + n) * step for n in count())
        return [next(times)] if until == inf else list(takewhile(lambda one: one <= until, times))

    def _is_busy(self) -> bool:
        return bool(self._others() or self.queue)

    def _come_due(self, order: Order) -> None:
        """The overlap policy."""
        policy = order.overlap or self.policies.overlap
        room = policy == "allow" and self._others() < self.policies.limit
        if room or not self._is_busy():
            self._start(order)
        elif policy == "cancel_running":
            for one in self.queue:
                self._row(one, "skipped", "overlap")
            self.queue = [order]
            for run in list(self.going):
                if run.order.trigger != "backfill":
                    self._stop(run, "overlap")
        elif len(self.queue) < {"queue_all": self.policies.limit, "queue_one": 1}.get(policy, 0):
            self.queue.append(order)
        else:
            self._row(order, "skipped", "overlap")

    def _go_on(self) -> None:
        """Start what waits for a lane that is free; finish the task when nothing is left."""
        if not self.works:
            return
        while self.queue and self._may_leave(self.queue[0]):
            self._start(self.queue.pop(0))
        while self.backfills and self._may_fill_back(self.backfills[0]):
            self._start(self.backfills.pop(0))
        left = self.going or self.queue or self.backfills
        if self.state == "active" and self._next_due() == inf and not left:
            self.state = "finished"

    def _others(self) -> int:
        return sum(one.order.trigger != "backfill" for one in self.going)

    def _may_leave(self, order: Order) -> bool:
        allowed = (order.overlap or self.policies.overlap) == "allow"
        return self._others() < (self.policies.limit if allowed else 1)

    def _may_fill_back(self, order: Order) -> bool:
        beside = [run.order.at_once for run in self.going if run.order.trigger == "backfill"]
        return len(beside) < min([order.at_once, *beside])

    def _start(self, order: Order) -> None:
        slack = max((to - self.now for _, to in self.recent[-1:]), default=0)
        run = Going(order=order, policies=self.policies, version=self.version)
        run.started_slack = max(slack, 0)
        run.started = self.now
        self.going.append(run)
        self._try(run, run.started_slack)

    def _try(self, run: Going, slack: float) -> None:
        how = self.program.how(run.order.due, run.number)
        run.waits = False
        run.until, run.slack = how.end(self.now), slack if how.minutes is None else 0
        if how.end(self.now + slack + CLOSE) - run.until > SHORT + CLOSE + slack:
            self._unclear("a long attempt starts as others end")

    def _end(self, run: Going) -> None:
        """An attempt has ended, or the wait for the next one has."""
        self.recent.append((run.until, run.until + run.slack))
        if run.waits:
            run.number += 1
            self._try(run, run.slack)
            return
        good = self.program.how(run.order.due, run.number).good
        if not good and not run.stopped and self._may_try_again(run):
            run.waits, run.until = True, run.until + run.policies.backoff
            return
        self._final(run, "cancelled" if run.stopped else "succeeded" if good else "failed")
        if run.stopped:
            return
        self.failures = 0 if good else self.failures + 1
        if 0 < self.policies.pause_on_failure <= self.failures and self.state == "active":
            if abs(self._next_due() - self.now) < 2 * CLOSE + run.slack:
                self._unclear("it pauses itself as an occurrence is due")
            if not good:
                self.state = "paused"
                self._drop_waiting("skipped", "paused", by_itself=True)

    def _may_try_again(self, run: Going) -> bool:
        within = run.policies.retry_within
        since_first = run.until + run.policies.backoff - run.started
        if within is not None and abs(since_first - within) < CLOSE:
            self._unclear("it is about too late for another attempt")
        in_time = within is None or since_first <= within
        return in_time and run.number < run.policies.attempts

    def _final(self, run: Going, status: str) -> None:
        self.going.remove(run)
        self.told.rows[run.order] = Row(
            run.order,
            status,
            run.stopped if status == "cancelled" else (),
            started=run.started,
            ended=self.now,
            slack=max(run.slack, run.started_slack),
            attempts=run.number,
            version=run.version,
        )

    def _stop(self, run: Going, reason: str) -> None:
        run.stopped = (*run.stopped, reason)
        if run.waits:
            self.recent.append((self.now, self.now))
            self._final(run, "cancelled")
        else:
            run.until, run.slack = min(run.until, self.now), HEARD

    def _come_back(self) -> None:
        """A worker is there. What went on starts again; what is late is caught up."""
        self.works = True
        self.recent.append((self.now, self.now + SENT_AGAIN))
        for run in self.going:
            if run.waits and run.until > self.now:
                continue
            if run.waits:
                run.number, run.waits = run.number + 1, False
            if run.number == 1:
                run.started, run.started_slack = self.now, SENT_AGAIN
            self._try(run, SENT_AGAIN)
        if self.paused_until and self.paused_until <= self.now:
            self._resume_by_itself(self.paused_until)
        if self.state == "active":
            late = [Order(due, "catch_up") for due in self._dues(self.now)]
            if any(self.now - one.due <= GRACE + CLOSE for one in late):
                self._unclear("it comes back as an occurrence is hardly late")
            self._catch_up(late)
            self.cursor = self.now

    def _catch_up(self, late: list[Order]) -> None:
        """What becomes of occurrences whose time has passed while nothing could run."""
        kept = self._kept([one.due for one in late], self.policies.keep, self.policies.within)
        for order in late:
            if order.due in kept:
                self.queue.append(order)
            else:
                self._row(replace(order, trigger="schedule"), "missed", "outage")

    def _kept(self, dues: list[float], keep: str, within: float) -> list[float]:
        if any(abs(self.now - due - within) < CLOSE for due in dues):
            self._unclear("one is about as old as the catch-up window")
        young = [due for due in dues if self.now - due <= within]
        return {"all": young, "latest": young[-1:], "none": []}[keep]

    def _pass_over(
        self, status: str, reason: str, until: float, but: Collection[float] = ()
    ) -> None:
        for due in self._dues(until):
            if due not in but:
                self._row(Order(due), status, reason)
        self.cursor = until

    def _drop_waiting(self, status: str, reason: str, *, by_itself: bool) -> None:
        """What waits for its turn does not run; only what was due by itself, or all of it."""
        for lane in (self.queue, self.backfills):
            for order in list(lane):
                if not by_itself or order.trigger in ("schedule", "catch_up"):
                    lane.remove(order)
                    self._row(order, status, reason)

    def _row(self, order: Order, status: str, reason: str) -> None:
        self.told.rows[order] = Row(order, status, (reason,))

    # What comes too close.

    def _unclear(self, why: str) -> None:
        self.told.unclear = self.told.unclear or f"at {self.now:.0f} s {why}"

    def _see_whether_clear(self, why: str) -> None:
        if self._is_close(self.now):
            self._unclear(f"{why}, and a run ends")

    def _is_close(self, moment: float) -> bool:
        """Whether something ends at about ``moment``."""
        if self.paused_until and abs(self.paused_until - moment) < CLOSE:
            return True
        windows = [(one.until, one.until + one.slack) for one in self.going] if self.works else []
        return any(
            since - CLOSE < moment < until + CLOSE for since, until in windows + self.recent[-20:]
        )

    def _calm_down(self, step: Step) -> None:
        """Let time pass until nothing else happens just when ``step`` does."""
        is_calm: Callable[[], bool] = lambda: not self._is_close(self.now) and self._is_free(step)  # noqa: E731
        while not is_calm():
            self.advance(self.now + 1)

    def _is_free(self, step: Step) -> bool:
        second = self.now % MINUTE
        if isinstance(step, StopWorker):
            return QUIET - 4 <= second < LEAD_BEGINS
        if isinstance(step, StartWorker):
            return QUIET <= second < LEAD_BEGINS
        return CLOSE < second < MINUTE - 2 * CLOSE or self.now == 0
