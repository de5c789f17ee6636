"""Holds what happened against what is promised.

The way of Jepsen's test of Chronos (aphyr.com/posts/326-jepsen-chronos): from the registrations
that were acknowledged follows each time at which a run must start; the runs, as somebody outside
has seen them, are matched with these windows; what is left on either side is a broken promise.
Beyond it the log is held against what was seen, and against itself as it was read on the way.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from activities.own_row import HEARD_LATE
from activities.watch import MAY_HAVE_BEGUN
from onthedot import schedule
from onthedot.run import RunStatus, Trigger, due_at_of
from onthedot.task import OverlapPolicy, TaskState
from tests.faults.history import Asked, Call, History, Registered, Row, Sample
from tests.faults.verdict import Broken, Figures, Verdict, Violation, at, words
from tests.faults.windows import PROMISED, Window, match, windows

#: The observer's clock and the worker's are one, but neither is read at the very instant.
_AT_ONCE = timedelta(milliseconds=50)
#: So long after its end a run may still be taken for one that goes on: its task hears of it late.
_HEARD_OF = timedelta(seconds=2)
#: So long after its start a run may be taken for one that had not begun: no heartbeat has said so.
_SAID_TO_BEGIN = timedelta(seconds=2)

_QUEUES = (OverlapPolicy.QUEUE_ONE, OverlapPolicy.QUEUE_ALL, OverlapPolicy.CANCEL_RUNNING)


def check(history: History) -> Verdict:
    """Each promise of a history that was not kept, and its figures."""
    checking = _Checking(history)
    for task in history.tasks:
        checking.registration(task)
        checking.occurrences(task)
    for asked in history.asked:
        checking.request(asked)
    checking.names()
    checking.rows()
    checking.calls()
    checking.samples()
    return Verdict(violations=checking.violations, figures=checking.figures())


class _Checking:
    """A history while it is checked."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._at_once = _AT_ONCE + history.clocks_differ_by
        self._tasks = {task.task_id: task for task in history.tasks}
        self._by_run = {row.run_id: row for row in history.rows}
        self._by_task: dict[str, list[Row]] = defaultdict(list)
        for row in history.rows:
            self._by_task[row.task_id].append(row)
        self._calls: dict[str, list[Call]] = defaultdict(list)
        for call in sorted(history.calls, key=lambda one: one.at):
            self._calls[call.key].append(call)
        self._expected: set[tuple[str, datetime]] = set()
        self._judged: list[Row] = []
        self._lags: list[float] = []
        self._lost_attempts = 0
        self.violations: list[Violation] = []

    def registration(self, task: Registered) -> None:
        stored = self._history.stored.get(task.task_id)
        if stored is None:
            self._blame(Broken.FORGOTTEN, task.task_id, "was acknowledged, and is not stored")
        elif stored.spec != task.spec:
            what = f"was acknowledged as {task.spec}, and is stored as {stored.spec}"
            self._blame(Broken.FORGOTTEN, task.task_id, what)
        elif not stored.in_step:
            self._blame(Broken.FORGOTTEN, task.task_id, "the engine has not heard of it")
        elif stored.state is not (state := self._state_of(task)):
            what = f"is {stored.state}, and what was acknowledged last makes it {state}"
            self._blame(Broken.FORGOTTEN, task.task_id, what)
        elif state in (TaskState.ACTIVE, TaskState.PAUSED) and not stored.has_workflow:
            self._blame(Broken.FORGOTTEN, task.task_id, "the engine has no open workflow of it")

    def _state_of(self, task: Registered) -> TaskState:
        """What a task is in the end."""
        state = task.changes[-1].state if task.changes else TaskState.ACTIVE
        later = schedule.due_times(task.spec.schedule, task.task_id, self._history.until)
        is_over = state is TaskState.ACTIVE and next(iter(later), None) is None
        return TaskState.FINISHED if is_over else state

    def names(self) -> None:
        """Each registration has a name of its own."""
        for name, count in Counter(one.name for one in self._history.stored.values()).items():
            if count > 1:
                self._blame(Broken.REGISTERED_TWICE, name, f"{count} tasks have this name")

    def occurrences(self, task: Registered) -> None:
        rows = [row for row in self._by_task[task.task_id] if row.trigger.is_occurrence]
        by_due: dict[datetime, list[Row]] = defaultdict(list)
        for row in rows:
            by_due[row.due_at].append(row)
        started: list[tuple[Window, Row]] = []
        dealt_with = list(windows(task, self._history))
        for window in dealt_with:
            self._expected.add((task.task_id, window.due_at))
            own = by_due[window.due_at]
            if len(own) > 1:
                what = f"due {at(window.due_at)} has {len(own)} rows: {words(own)}"
                self._blame(Broken.TWO_ROWS, task.task_id, what)
            if row := self._only(task, window, own):
                self._occurrence(task, window, row)
                started += [(window, row)] * row.ran
        self._caught_up(task, dealt_with, by_due)
        blamed = {one.kind for one in self.violations if one.task_id == task.task_id}
        if task.observed and not blamed & {Broken.LATE, Broken.EARLY}:  # else it is said already
            self._seen_in_windows(task, started)

    def request(self, asked: Asked) -> None:
        """A run that somebody asked for: it starts in time, or what goes on is in its way."""
        row = self._by_run.get(asked.run_id)
        task = self._tasks[asked.task_id]
        if row is None:
            self._blame(Broken.LOST, asked.task_id, f"{asked.run_id} was asked for: no row")
            return
        if row.due_at != asked.due_at:
            what = f"{row.run_id} was asked for {at(asked.due_at)}, the log has {at(row.due_at)}"
            self._blame(Broken.UNCALLED_FOR, asked.task_id, what)
        outages = tuple(
            one
            for one in self._history.outages
            if one.begun_at <= asked.due_at + PROMISED and asked.due_at <= one.ended_at
        )
        window = Window(due_at=asked.due_at, outages=outages, states=frozenset({TaskState.ACTIVE}))
        self._occurrence(task, window, row)

    def rows(self) -> None:
        """No row is there that nothing called for, and no run has two."""
        for run_id, count in Counter(row.run_id for row in self._history.rows).items():
            if count > 1:
                what = f"{run_id} has {count} rows"
                self._blame(Broken.TWO_ROWS, self._by_run[run_id].task_id, what)
        asked = {one.run_id for one in self._history.asked}
        for row in self._history.rows:
            if row.task_id not in self._tasks or row.due_at > self._history.until:
                continue
            is_due = row.trigger.is_occurrence and (row.task_id, row.due_at) in self._expected
            if not is_due and row.run_id not in asked:
                what = f"{row.run_id} ({row.trigger}) was neither due nor asked for"
                self._blame(Broken.UNCALLED_FOR, row.task_id, what)

    def calls(self) -> None:
        """What was seen outside is what the log says, call by call."""
        for key, calls in self._calls.items():
            row = self._by_run.get(key)
            task_id = key.partition(".")[0]
            if row is None:
                if self._is_judged(key):
                    what = f"{key} was seen at {at(calls[0].at)}: the log has no row of it"
                    self._blame(Broken.UNLOGGED, task_id, what)
                continue
            if row.task_id not in self._tasks or row.due_at > self._history.until:
                continue
            self._often_enough(row, calls)
            if not row.ran and row.status.is_final and not self._may_have_begun(row, calls):
                what = f"{key} was seen at {at(calls[0].at)}: the log says {words([row])}"
                self._blame(Broken.UNLOGGED, task_id, what)

    def _may_have_begun(self, row: Row, calls: Sequence[Call]) -> bool:
        """Whether its worker was lost as it began: nobody can tell the log, and it says so."""
        says_so = row.status is RunStatus.MISSED and (row.reason or "").endswith(MAY_HAVE_BEGUN)
        return says_so and any(
            one.begun_at - _SAID_TO_BEGIN <= call.at <= one.ended_at
            for one in self._history.outages
            for call in calls
        )

    def samples(self) -> None:
        """Rows move forward: waiting, running, final; and a final row stays as it is."""
        read = sorted(self._history.samples, key=lambda one: one.at)
        end = Sample(at=self._history.until, rows=self._by_run)
        for earlier, later in pairwise([*read, end]):
            for run_id, before in earlier.rows.items():
                after = later.rows.get(run_id)
                if after is before:
                    continue
                if after is None:
                    what = f"{run_id}, {before.status} at {at(earlier.at)}, has vanished"
                    self._blame(Broken.BACKWARDS, before.task_id, what)
                elif _rank(after) < _rank(before) or (
                    before.status.is_final and after != _said_since(before, after)
                ):
                    what = f"{run_id}: {words([before])} became {words([after])}"
                    self._blame(Broken.BACKWARDS, before.task_id, what)

    def figures(self) -> Figures:
        lags = sorted(self._lags)
        kinds = Counter(one.kind for one in self.violations)
        statuses = Counter(row.status for row in self._judged)
        return Figures(
            occurrences=len(self._judged) + kinds[Broken.LOST],
            runs=sum(row.ran for row in self._judged),
            calls=sum(map(len, self._calls.values())),
            skipped=statuses[RunStatus.SKIPPED],
            missed=statuses[RunStatus.MISSED],
            worst_lag=_share(lags, 1),
            p50=_share(lags, 0.5),
            p99=_share(lags, 0.99),
            lost=kinds[Broken.LOST] + kinds[Broken.FORGOTTEN],
            doubled=kinds[Broken.DOUBLED] + kinds[Broken.TWO_ROWS],
            lost_attempts=self._lost_attempts,
        )

    def _only(self, task: Registered, window: Window, own: Sequence[Row]) -> Row | None:
        if own:
            return own[0]
        if TaskState.DELETED not in window.states:
            what = f"due {at(window.due_at)}: the log has no row of it"
            self._blame(Broken.LOST, task.task_id, what)
        return None

    def _occurrence(self, task: Registered, window: Window, row: Row) -> None:
        self._judged.append(row)
        if not row.status.is_final:
            what = f"due {at(window.due_at)} is {row.status}, and nothing goes on any more"
            self._blame(Broken.UNFINISHED, task.task_id, what)
        elif row.ran:
            self._ran(task, window, row)
        elif why_not := self._why_not_run(task, window, row):
            what = f"due {at(window.due_at)}: {words([row])}, but {why_not}"
            self._blame(Broken.NOT_RUN, task.task_id, what)

    def _ran(self, task: Registered, window: Window, row: Row) -> None:
        assert row.started_at is not None
        seen = [call.at for call in self._calls[row.run_id][:1]]
        started_at = (seen or [row.started_at])[0]  # seen from outside, where somebody looked
        free_at = self._free_at(task, window, row)
        deadline = max(window.could_start_at, free_at) + PROMISED
        held_up_until = max(window.held_up_until(started_at), free_at)
        self._lags.append(max((started_at - held_up_until).total_seconds(), 0))
        about = f"due {at(window.due_at)} started {at(started_at)}"
        if min([row.started_at, *seen]) < window.due_at - self._at_once:
            self._blame(Broken.EARLY, task.task_id, about)
        if started_at > deadline:
            late = (started_at - window.due_at).total_seconds()
            what = f"{about}, {late:.3f} s late; the deadline was {at(deadline)}"
            self._blame(Broken.LATE, task.task_id, what)
        if window.states in ({TaskState.PAUSED}, {TaskState.DELETED}):
            self._blame(Broken.RAN, task.task_id, f"{about}: the task was {_states(window)}")
        if row.status not in task.ends:
            what = f"due {at(window.due_at)}: {words([row])}"
            self._blame(Broken.ENDED_BADLY, task.task_id, what)
        if task.observed:
            self._seen_when_logged(row)

    def _free_at(self, task: Registered, window: Window, row: Row) -> datetime:
        """When the run before it, behind which it had to queue, was over."""
        queues = row.trigger is Trigger.CATCH_UP or task.spec.policies.overlap in _QUEUES
        if not queues:
            return window.due_at
        ends = [
            other.finished_at
            for other in self._by_task[task.task_id]
            if other.finished_at and other.ran and _order(other) < _order(row)
        ]
        return max([window.due_at, *ends])

    def _why_not_run(self, task: Registered, window: Window, row: Row) -> str | None:
        """What is wrong with a row that says that it did not run; None where it is right."""
        if not row.reason:
            return "no reason is given"
        if TaskState.DELETED in window.states:
            return None
        match row.status:
            case RunStatus.SKIPPED if row.reason == "paused":
                paused = TaskState.PAUSED in window.states
                return None if paused else "the task was not paused"
            case RunStatus.SKIPPED if row.reason.startswith("overlap"):
                return self._why_not_skipped(task, row)
            case RunStatus.MISSED if window.outages:
                if min(one.begun_at for one in window.outages) > row.due_at + _SAID_TO_BEGIN:
                    return "it was due before the outage"
                keep = task.spec.policies.catch_up.keep
                return None if keep != "all" or _is_too_old(task, window) else "catch-up keeps all"
            case RunStatus.MISSED:
                return "nothing was out"
        return "that is no reason not to run"

    def _why_not_skipped(self, task: Registered, row: Row) -> str | None:
        """What is wrong with a row that says that its run was left out for an overlap."""
        if task.spec.policies.overlap is OverlapPolicy.ALLOW:
            return "its runs may overlap"
        if not self._is_overlapped(row):
            return "no run before it went on"
        others = self._by_task[row.task_id]
        waited = sum(_waited(other, row.due_at) for other in others if other is not row)
        match task.spec.policies.overlap:
            case OverlapPolicy.QUEUE_ONE if not waited:
                return "no other waited for its turn"
            case OverlapPolicy.QUEUE_ALL if waited < (room := task.spec.policies.overlap_limit):
                return f"{waited} others waited for their turn, and {room} may"
            case OverlapPolicy.CANCEL_RUNNING if not any(
                later.due_at > row.due_at for later in others
            ):
                return "no later one took its place"
        return None

    def _is_overlapped(self, row: Row) -> bool:
        return any(
            other.due_at < row.due_at
            and other.trigger is not Trigger.BACKFILL
            and (other.ran or not other.status.is_final)
            and (
                other.finished_at is None or self._heard_by(other, other.finished_at) >= row.due_at
            )
            for other in self._by_task[row.task_id]
        )

    def _heard_by(self, row: Row, finished_at: datetime) -> datetime:
        """Until when a run's task may not know that it has ended: in an outage nobody can tell it.

        Nor can a worker that is lost: the one that has the run next finds its row.
        """
        outages = [
            one.ended_at
            for one in self._history.outages
            if one.begun_at <= finished_at + _HEARD_OF and finished_at <= one.ended_at
        ]
        could_be_told_at = max([finished_at, *outages])
        if HEARD_LATE in (row.reason or ""):
            return could_be_told_at + PROMISED
        return could_be_told_at + _HEARD_OF + self._history.clocks_differ_by

    def _caught_up(
        self,
        task: Registered,
        dealt_with: Sequence[Window],
        by_due: dict[datetime, list[Row]],
    ) -> None:
        """After an outage the latest of those that were missed runs, once, where it is kept."""
        keep = task.spec.policies.catch_up.keep
        rows = [by_due[one.due_at][0] for one in dealt_with if one.outages and by_due[one.due_at]]
        caught = [row for row in rows if row.trigger is Trigger.CATCH_UP]
        if keep == "none" and caught:
            what = f"due {at(caught[0].due_at)} was caught up, and catch-up keeps none"
            self._blame(Broken.RAN, task.task_id, what)
        if keep != "latest":
            return
        # what was due in the last 10 s of the outage simply runs; on its way it may grow too late
        late = [
            by_due[one.due_at][0] for one in dealt_with if by_due[one.due_at] and _was_late(one)
        ]
        again = [row for row in late if row.trigger is Trigger.CATCH_UP]
        if len(again) > len(self._history.outages):
            what = f"{len(again)} runs were caught up: {words(again)}; catch-up keeps the latest"
            self._blame(Broken.RAN, task.task_id, what)
        for window in dealt_with:
            for row in by_due[window.due_at] if window.outages else []:
                if row.status is not RunStatus.MISSED or _is_too_old(task, window):
                    continue
                if not any(later.due_at > row.due_at for later in caught):
                    what = f"due {at(row.due_at)} was missed, and none after it was caught up"
                    self._blame(Broken.NOT_RUN, task.task_id, what)

    def _seen_in_windows(self, task: Registered, started: Sequence[tuple[Window, Row]]) -> None:
        """The first calls of all runs fit the windows, whatever their keys say."""
        opened = [
            (
                window.due_at - self._at_once,
                max(window.could_start_at, self._free_at(task, window, row)) + PROMISED,
            )
            for window, row in started
        ]
        firsts = [self._calls[row.run_id][0].at for _, row in started if self._calls[row.run_id]]
        left, too_many = match(opened, firsts)
        for index in left if len(firsts) == len(started) else []:
            what = f"due {at(started[index][0].due_at)}: nobody saw a run in its time"
            self._blame(Broken.UNSEEN, task.task_id, what)
        for number in too_many:
            what = f"a run was seen at {at(firsts[number])} for which it was not the time"
            self._blame(Broken.RAN, task.task_id, what)

    def _seen_when_logged(self, row: Row) -> None:
        assert row.started_at is not None and row.finished_at is not None
        calls = self._calls[row.run_id]
        begun, ended = row.started_at - self._at_once, row.finished_at + self._at_once
        acted = row.status in (RunStatus.SUCCEEDED, RunStatus.TIMED_OUT)
        if acted and not any(begun <= one.at <= ended for one in calls):
            seen = ", ".join(at(one.at) for one in calls) or "never"
            what = f"{row.run_id}: the log says {words([row])}; it was seen {seen}"
            self._blame(Broken.UNSEEN, row.task_id, what)

    def _often_enough(self, row: Row, calls: Sequence[Call]) -> None:
        lost = self._history.lost_attempts.get(row.run_id, 0)
        task = self._tasks[row.task_id]
        if task.spec.policies.delivery == "at_most_once":
            lost = 0
        explained = min(max(row.attempt_count, 1), task.spec.policies.retry.attempts)
        self._lost_attempts += min(max(len(calls) - explained, 0), lost)
        if len(calls) > explained + lost:
            what = (
                f"{row.run_id} was seen {len(calls)} times ({', '.join(at(one.at) for one in calls)}), "
                f"with {row.attempt_count} attempts and {lost} that were lost"
            )
            self._blame(Broken.DOUBLED, row.task_id, what)

    def _is_judged(self, key: str) -> bool:
        task_id = key.partition(".")[0]
        due_at = due_at_of(key)
        known = task_id in self._tasks
        return known and due_at is not None and due_at <= self._history.until

    def _blame(self, kind: Broken, task_id: str, text: str) -> None:
        self.violations.append(Violation(kind=kind, task_id=task_id, text=text))


def _was_late(window: Window) -> bool:
    """Whether it was too late simply to run, as soon as anything could."""
    healing = [one.healing_from or one.ended_at for one in window.outages]
    return any(moment - window.due_at > PROMISED for moment in healing)


def _is_too_old(task: Registered, window: Window) -> bool:
    """Whether it may have been older than catch-up keeps, once something could run it."""
    age = window.could_start_at + PROMISED - window.due_at
    return age > task.spec.policies.catch_up.within


def _waited(row: Row, moment: datetime) -> bool:
    """Whether a run that was due before ``moment`` had not started then."""
    left_at = row.started_at or row.finished_at
    return row.due_at < moment and (left_at is None or left_at > moment)


def _rank(row: Row) -> int:
    if row.status.is_final:
        return 2
    return 1 if row.status is RunStatus.RUNNING else 0


def _said_since(before: Row, after: Row) -> Row:
    """A final row as it may become: with the remark that its end was heard of late."""
    told = "; ".join(filter(None, (before.reason, HEARD_LATE)))
    return replace(before, reason=told) if after.reason == told else before


def _order(row: Row) -> tuple[datetime, str]:
    return row.due_at, row.run_id


def _share(lags: Sequence[float], share: float) -> float:
    return lags[min(int(share * len(lags)), len(lags) - 1)] if lags else 0.0


def _states(window: Window) -> str:
    return " or ".join(sorted(window.states))
