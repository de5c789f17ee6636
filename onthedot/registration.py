"""The registration service: validates, stores what is desired, then tells the task's workflow.

The row comes first. When the engine does not answer the row stands, the result's ``in_step`` is
False, and upkeep sends it again. Each change makes a version, which is kept with who made it.
"""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from onthedot import catching_up, follow_ups, schedule
from onthedot.catching_up import CaughtUp
from onthedot.database import calendars, tasks
from onthedot.database.pool import Pool, connection, transaction
from onthedot.database.tasks import Change
from onthedot.engine import Engine
from onthedot.errors import (
    Conflict,
    DatabaseUnavailable,
    EngineUnavailable,
    FieldError,
    InvalidInput,
    NotFound,
    TaskExists,
    VersionMismatch,
)
from onthedot.idempotency import bind, fingerprint, subject_of
from onthedot.marks import Marks
from onthedot.observed import observed
from onthedot.requests import Requests
from onthedot.settings import Settings
from onthedot.task import (
    CatchUp,
    FollowUps,
    Pause,
    Schedule,
    Task,
    TaskRegistration,
    TaskSpec,
    TaskState,
)
from onthedot.versions import What

_TRIES = 100  # for a change without If-Match that meets others
_LONGEST_PAUSE = timedelta(days=3650)


class Registration(Requests):
    """Registers and changes tasks, and asks of them. Stateless: any number may run.

    A change takes ``if_version``, the version that it must find, and ``key``, an Idempotency-Key.
    Unless it says otherwise it raises NotFound, VersionMismatch, KeyReused, DatabaseUnavailable.
    """

    def __init__(self, settings: Settings, pool: Pool, engine: Engine) -> None:
        super().__init__(settings, pool, engine)
        self._marks = Marks(pool, self.apply_again)

    async def close(self) -> None:
        await self._marks.close()

    @observed("register")
    async def register(self, sent: TaskRegistration, *, by: str, key: str | None = None) -> Task:
        """Store a new task and start its workflow.

        Raise InvalidInput, TaskExists, KeyReused or DatabaseUnavailable; then nothing is stored.
        """
        print_ = fingerprint("register", sent.model_dump(mode="json"))
        if key:
            async with connection(self._pool) as conn:
                before = await subject_of(conn, key, print_)
            if before:
                return await self._hand_over(await self._task(before), again=True)
        now = datetime.now(UTC)
        task_id = sent.id or f"task-{uuid.uuid4().hex[:12]}"
        spec = await self._acceptance.accept(task_id, sent.spec(), now)
        task, again = await self._store_new(task_id, spec, by, now, key, print_)
        return await self._hand_over(task, again=again)

    @observed("revise")
    async def revise(
        self,
        task_id: str,
        spec: TaskSpec,
        *,
        by: str,
        if_version: int | None = None,
        key: str | None = None,
    ) -> Task:
        """Give the task another definition; raise InvalidInput when it cannot be accepted."""

        async def revised(task: Task) -> Change:
            return await self._defined(task, spec, What.REVISED)

        print_ = fingerprint("revise", [task_id, spec.model_dump(mode="json")])
        return await self._change(task_id, revised, by, if_version, key, print_)

    @observed("amend")
    async def amend(
        self,
        task_id: str,
        amended: Callable[[TaskSpec], TaskSpec],
        sent: Any,
        *,
        by: str,
        if_version: int | None = None,
        key: str | None = None,
    ) -> Task:
        """Give the task what ``amended`` makes of the definition that it has, as ``revise`` does.

        ``sent`` is the request's JSON, which tells it from others that come with the same ``key``.
        """

        async def revised(task: Task) -> Change:
            return await self._defined(task, amended(task.spec), What.REVISED)

        print_ = fingerprint("amend", [task_id, sent])
        return await self._change(task_id, revised, by, if_version, key, print_)

    @observed("restore")
    async def restore(
        self,
        task_id: str,
        version: int,
        *,
        by: str,
        if_version: int | None = None,
        key: str | None = None,
        reason: str | None = None,
    ) -> Task:
        """Give the task the definition that it had as ``version``; a deleted one comes back active.

        Raise NotFound also when there is no such version, InvalidInput when its definition cannot
        be accepted any more.
        """
        async with connection(self._pool) as conn:
            await tasks.get_task(conn, task_id)
            earlier = await tasks.get_version(conn, task_id, version)

        async def restored(task: Task) -> Change:
            why = reason or f"version {version}"
            return await self._defined(task, earlier.spec, What.RESTORED, why)

        print_ = fingerprint("restore", [task_id, version])
        return await self._change(task_id, restored, by, if_version, key, print_, also_deleted=True)

    @observed("pause")
    async def pause(
        self,
        task_id: str,
        *,
        by: str,
        if_version: int | None = None,
        key: str | None = None,
        reason: str | None = None,
        until: datetime | None = None,
    ) -> Task:
        """Let the task's occurrences be skipped, until ``until`` (aware) or until it is resumed.

        A pause with a reason or an end replaces the one before. Raise Conflict when the task is
        finished, InvalidInput when ``until`` is no instant ahead.
        """
        now = datetime.now(UTC)
        _check_until(until, now)

        async def paused(task: Task) -> Change:
            _refuse_finished(task)
            pause = task.pause
            if pause is None or reason is not None or until is not None:
                since = pause.since if pause else now
                pause = Pause(reason=reason, until=until, since=since, by=by)
            return _state_change(task, What.PAUSED, TaskState.PAUSED, reason, pause=pause)

        print_ = fingerprint("pause", [task_id, reason, until])
        return await self._change(task_id, paused, by, if_version, key, print_)

    @observed("resume")
    async def resume(
        self,
        task_id: str,
        *,
        by: str,
        if_version: int | None = None,
        key: str | None = None,
        reason: str | None = None,
        catch_up: CatchUp | None = None,
    ) -> Task:
        """Let the task's occurrences run again, and those of its pause as ``catch_up`` says.

        Without it they stay skipped. Raise Conflict when the task is finished.
        """

        async def resumed(task: Task) -> Change:
            _refuse_finished(task)
            return _state_change(task, What.RESUMED, TaskState.ACTIVE, reason, catch_up=catch_up)

        print_ = fingerprint("resume", [task_id, catch_up and catch_up.model_dump(mode="json")])
        return await self._change(task_id, resumed, by, if_version, key, print_)

    async def preview_resume(self, task_id: str, catch_up: CatchUp | None = None) -> CaughtUp:
        """How many runs ``resume`` would start now; nothing is changed. Raise NotFound, Conflict."""
        task, now = await self._task(task_id), datetime.now(UTC)
        _refuse_finished(task)
        since = (task.pause.since if task.pause else None) or now
        return catching_up.count(task.spec.schedule, task.id, since, now, catch_up)

    @observed("delete")
    async def delete(
        self,
        task_id: str,
        *,
        by: str,
        if_version: int | None = None,
        key: str | None = None,
        reason: str | None = None,
        let_finish: bool = False,
    ) -> Task:
        """Take the task back: none of its runs follows, its log stays.

        A run that goes on is cancelled, or with ``let_finish`` comes to its end.
        """

        async def deleted(task: Task) -> Change:
            return _state_change(
                task, What.DELETED, TaskState.DELETED, reason, let_finish=let_finish
            )

        print_ = fingerprint("delete", [task_id, let_finish])
        return await self._change(task_id, deleted, by, if_version, key, print_)

    async def with_calendar_days(self, when: Schedule) -> Schedule:
        """The schedule as it would be stored now; raise InvalidInput for an unknown calendar."""
        return await self._acceptance.with_calendar_days(when)

    async def apply_again(self, task: Task) -> bool:
        """Send a task whose workflow may not know of it; False when the engine does not answer."""
        return (await self._hand_over(task, again=True)).in_step

    async def start_again(self, task: Task) -> bool:
        """Send a task that has no open workflow; False when the engine does not answer.

        Where its last workflow had a version after this one, Postgres has lost that: ``renew`` it.
        """
        try:
            outrun = await self._workflows.has_outrun(task)
        except EngineUnavailable:
            return False
        return await (self.renew(task) if outrun else self.apply_again(task))

    async def renew(self, task: Task) -> bool:
        """Have the workflow follow the task as it stands, though it had versions that are lost.

        As a version of its own; False where the task was changed meanwhile, which is as good, or
        the engine does not answer. Raise DatabaseUnavailable.
        """
        change = Change(
            what=What.RESTORED,
            spec=task.spec,
            state=task.state,
            pause=task.pause,
            reason="later versions are lost",
            catch_up=None if task.in_step else task.catch_up,
            let_finish=task.let_finish,
        )
        after = await self._store(task, change, "upkeep", None, "")
        return after is not None and (await self._hand_over(after, again=True)).in_step

    async def _defined(
        self, task: Task, spec: TaskSpec, what: What, reason: str | None = None
    ) -> Change:
        """The change that gives ``task`` the definition ``spec``."""
        deleted = task.state is TaskState.DELETED
        kept = spec.schedule if deleted else schedule.adopt(spec.schedule, task.spec.schedule)
        same = kept == task.spec.schedule and not deleted
        meant = spec.model_copy(update={"schedule": kept})
        accepted = await self._acceptance.accept(
            task.id, meant, datetime.now(UTC), check_schedule=not same
        )
        revived = deleted or (task.state is TaskState.FINISHED and not same)
        return Change(
            what=what,
            spec=accepted,
            state=TaskState.ACTIVE if revived else task.state,
            pause=task.pause,
            reason=reason,
            # a resuming of which the engine does not know yet is told with this change
            catch_up=None if task.in_step else task.catch_up,
        )

    async def _change(
        self,
        task_id: str,
        changed: Callable[[Task], Awaitable[Change]],
        by: str,
        if_version: int | None,
        key: str | None,
        print_: str,
        *,
        also_deleted: bool = False,
    ) -> Task:
        for _ in range(_TRIES):
            async with connection(self._pool) as conn:
                task = await tasks.get_task(conn, task_id)
                # The key last: where it is not there, the task is as it was before this request.
                made_before = await subject_of(conn, key, print_) if key else None
                if made_before:
                    task = await tasks.get_task(conn, task_id)
            if made_before:
                return await self._hand_over(task, again=not task.in_step)
            if task.state is TaskState.DELETED and not also_deleted:
                raise NotFound(f"the task {task_id!r} was deleted")
            if if_version is not None and task.version != if_version:
                raise VersionMismatch(
                    f"the task {task_id!r} is at version {task.version}, not {if_version}"
                )
            change = await changed(task)
            if not change.changes(task):
                return await self._leave(task, key, print_)
            if after := await self._store(task, change, by, key, print_):
                return await self._hand_over(after)
        raise VersionMismatch(f"the task {task_id!r} is being changed by others; try again")

    async def _leave(self, task: Task, key: str | None, print_: str) -> Task:
        """The task as it is; the key stands for that answer, also after later changes."""
        if key:
            async with connection(self._pool) as conn:
                await bind(conn, key, print_, task.id)
        return await self._hand_over(task, again=not task.in_step)

    async def _store(
        self, task: Task, change: Change, by: str, key: str | None, print_: str
    ) -> Task | None:
        now = datetime.now(UTC)
        active = change.state is TaskState.ACTIVE
        due_at = schedule.next_due(change.spec.schedule, task.id, now) if active else None
        led_on = change.spec.follow_ups not in (task.spec.follow_ups, FollowUps())
        # a single statement is its own commit
        holds = calendars.named_by(change.spec.schedule)
        one_commit = transaction if key or led_on or holds else connection
        async with one_commit(self._pool) as conn:
            if not await calendars.hold(conn, change.spec.schedule):
                return None
            if led_on:
                await follow_ups.check(conn, task.id, change.spec.follow_ups)
            after = await tasks.change_task(conn, task, change, by=by, now=now, next_due_at=due_at)
            # The same request waits for this one at the task's row, and finds the key afterwards.
            if after:
                await bind(conn, key, print_, task.id)
        return after

    async def _store_new(
        self, task_id: str, spec: TaskSpec, by: str, now: datetime, key: str | None, print_: str
    ) -> tuple[Task, bool]:
        """The new task, or the one that the same request has made before, and which it is."""
        due_at = schedule.next_due(spec.schedule, task_id, now)
        led_on, holds = spec.follow_ups != FollowUps(), calendars.named_by(spec.schedule)
        # a single statement is its own commit
        one_commit = transaction if key or led_on or holds else connection
        async with one_commit(self._pool) as conn:
            if not await calendars.hold(conn, spec.schedule):
                raise Conflict(
                    f"a calendar of the task {task_id!r} was changed this moment: send it again"
                )
            if before := await bind(conn, key, print_, task_id):
                return await tasks.get_task(conn, before), True
            if led_on:
                await follow_ups.check(conn, task_id, spec.follow_ups)
            task = await tasks.insert_task(conn, task_id, spec, by=by, now=now, next_due_at=due_at)
            if task is None:
                remedy = "Choose another, leave it out to get one, or change that task by PUT"
                taken = FieldError("id", task_id, "is taken", remedy)
                raise TaskExists(f"a task with the id {task_id!r} exists already", taken)
        return task, False

    async def _hand_over(self, task: Task, *, again: bool = False) -> Task:
        if not self._tells or (task.in_step and not again):
            return task
        try:
            await self._workflows.apply(task, again=again)
        except (EngineUnavailable, DatabaseUnavailable):
            return task
        self._marks.add(task.id, task.version)
        return replace(task, engine_version=task.version)


def _state_change(
    task: Task,
    what: What,
    state: TaskState,
    reason: str | None,
    *,
    pause: Pause | None = None,
    catch_up: CatchUp | None = None,
    let_finish: bool = False,
) -> Change:
    return Change(
        what=what,
        spec=task.spec,
        state=state,
        reason=reason,
        pause=pause,
        catch_up=catch_up,
        let_finish=let_finish,
    )


def _refuse_finished(task: Task) -> None:
    if task.state is TaskState.FINISHED:
        raise Conflict(f"the task {task.id!r} is finished: give it another schedule")


def _check_until(until: datetime | None, now: datetime) -> None:
    if until is None:
        return
    remedy = "give an instant ahead with its offset, or leave it out to pause until it is resumed"
    if until.tzinfo is None:
        raise InvalidInput(FieldError("until", until.isoformat(), "no offset", remedy))
    if until <= now:
        raise InvalidInput(FieldError("until", until.isoformat(), "has passed", remedy))
    if until - now > _LONGEST_PAUSE:
        raise InvalidInput(FieldError("until", until.isoformat(), "over ten years ahead", remedy))
