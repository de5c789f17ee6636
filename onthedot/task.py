"""What a client registers: an action, a schedule, policies. These models are the API's shapes.

A model here says only what has the right *shape*; it is decoded again and again, also years later.
What depends on the moment or the place (an instant in the past, a handler that is not allowed, a
zone that is unknown) is asked once, at registration, by the part that knows.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)
from pydantic import Tag as Label
from pydantic.json_schema import SkipJsonSchema

from onthedot.duration import Duration, DurationOrZero
from onthedot.run import RunStatus

#: A definition (the JSON of a TaskSpec) may not be larger; a larger one would wedge a workflow.
MAX_DEFINITION_BYTES = 64 * 1024

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}$")]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # pydantic lets it through, as it is no ValueError
        raise ValueError("out of range; give an instant from the year 1 to the year 9999") from None


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class Shape(BaseModel):
    """A part of the API: fields that it does not know are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True
    )


class OnceSchedule(Shape):
    """At one instant, or in some time; registration turns ``in`` into ``at``."""

    kind: Literal["once"] = "once"
    at: Instant | None = None
    in_: Duration | None = Field(default=None, alias="in")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.at is None) == (self.in_ is None):
            raise ValueError("give either 'at' (an instant with its offset) or 'in' (a duration)")
        return self


Expression = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
#: One expression or several; what was written as a text stays one.
Expressions = Annotated[
    Annotated[Expression, Label("[text]")]
    | Annotated[tuple[Expression, ...], Field(min_length=1, max_length=20), Label("[list]")],
    Discriminator(lambda given: "[list]" if isinstance(given, list | tuple) else "[text]"),
]
ZoneName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


def _span(text: str) -> str:
    read_span(text)
    return text


def read_span(text: str) -> tuple[date, date]:
    """The first and the last day of ``2026-12-24`` or ``2026-12-27/2026-12-31``; raise ValueError."""
    first, _, last = text.partition("/")
    try:
        span = date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError:
        example = "write a day as 2026-12-24, or days as 2026-12-27/2026-12-31"
        raise ValueError(f"is not a day or a span of days; {example}") from None
    if span[1] < span[0]:
        raise ValueError("the span ends before it begins; write its first day first")
    return span


#: A day (ISO 8601), or the first and the last day of several: ``2026-12-27/2026-12-31``.
DaySpan = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d\d-\d\d(/\d{4}-\d\d-\d\d)?$"),
    AfterValidator(_span),
]
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
Weekday = Annotated[
    Literal["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    BeforeValidator(lambda given: given.upper() if isinstance(given, str) else given),
]


class Exclusion(Shape):
    """Days on which nothing is due, as the schedule's zone counts them."""

    dates: Annotated[tuple[DaySpan, ...], Field(max_length=1000)] = ()
    weekdays: Annotated[tuple[Weekday, ...], Field(max_length=7)] = ()
    calendars: Annotated[tuple[Slug, ...], Field(max_length=10)] = ()
    #: The days of ``calendars`` as registration found them. Clients neither send nor see them.
    calendar_days: SkipJsonSchema[tuple[str, ...] | None] = None


class Recurring(Shape):
    """What a schedule with many due times may have besides."""

    kind: Literal["cron", "interval"]
    timezone: ZoneName = "UTC"
    starts_at: Instant | None = None  # nothing is due before it,
    ends_at: Instant | None = None  # nor at it or after it
    #: At most so many due times, counted from ``starts_at`` (registration sets it by default).
    max_runs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    #: Each due time is moved later by less than this, as the task's id and the time decide.
    jitter: Annotated[Duration, Field(le=timedelta(days=7))] | None = None
    exclude: Exclusion | None = None


class CronSchedule(Recurring):
    """At the times of cron expressions, read in a time zone (crontab(5), Debian's)."""

    kind: Literal["cron"] = "cron"
    cron: Expressions
    #: What the clocks leave out or double: as cron(8) has it; never, and once; or run twice.
    dst: Literal["cron", "skip", "both"] = "cron"

    @property
    def expressions(self) -> tuple[str, ...]:
        return (self.cron,) if isinstance(self.cron, str) else self.cron


class IntervalSchedule(Recurring):
    """Every so long, counted from ``anchor``; registration sets it to its own time by default.

    ``timezone`` says what a day is for ``exclude``, and nothing else.
    """

    kind: Literal["interval"] = "interval"
    every: Duration
    anchor: Instant | None = None


Schedule = Annotated[OnceSchedule | CronSchedule | IntervalSchedule, Field(discriminator="kind")]


class HttpAction(Shape):
    """An HTTP request; its run succeeds when the status is one of ``expect``."""

    kind: Literal["http"] = "http"
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    url: Annotated[str, StringConstraints(min_length=1, max_length=2048, strip_whitespace=True)]
    headers: dict[str, str] = {}
    body: JsonValue = None
    expect: Annotated[
        str, StringConstraints(pattern=r"^[1-5](\d\d|xx)(\s*,\s*[1-5](\d\d|xx))*$", max_length=200)
    ] = "2xx"


class ShellAction(Shape):
    """A process: ``command`` is its argv, or ``script`` is what ``/bin/sh -c`` gets."""

    kind: Literal["shell"] = "shell"
    command: list[Annotated[str, StringConstraints(max_length=32_768)]] | None = None
    script: Annotated[str, StringConstraints(min_length=1)] | None = None
    env: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}
    cwd: str | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if bool(self.command) == bool(self.script):
            raise ValueError("give either 'command' (a list: program and arguments) or 'script'")
        return self


class PythonAction(Shape):
    """A Python function that the operator has allowed."""

    kind: Literal["python"] = "python"
    handler: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    arguments: dict[str, JsonValue] = {}


class WorkflowAction(Shape):
    """Any Temporal workflow, followed to its end."""

    kind: Literal["workflow"] = "workflow"
    type: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    queue: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    arguments: list[JsonValue] = []


Action = Annotated[
    HttpAction | ShellAction | PythonAction | WorkflowAction, Field(discriminator="kind")
]


class OverlapPolicy(StrEnum):
    """What happens when a task is due while its previous run goes on."""

    SKIP = "skip"  # the occurrence does not run; the log says so
    QUEUE_ONE = "queue_one"  # it runs afterwards; of several that wait, the first
    QUEUE_ALL = "queue_all"  # they run afterwards, one by one, up to ``overlap_limit`` of them
    CANCEL_RUNNING = "cancel_running"  # the previous run is cancelled, then it runs
    ALLOW = "allow"  # they run at once, up to ``overlap_limit`` of them


Keep = Literal["all", "latest", "none"]


class CatchUp(Shape):
    """What happens to occurrences whose time passed while nothing could run."""

    keep: Keep = "latest"
    within: Duration = timedelta(days=1)


#: How an attempt ended that must not be tried again: an HTTP status (``404``, ``4xx``) or an exit
#: code (``2``).
EndCode = Annotated[str, StringConstraints(pattern=r"^([1-5]xx|[0-9]{1,3})$")]


class Retry(Shape):
    """How often, and how soon, a run that failed is tried again."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 1
    backoff: DurationOrZero = timedelta(seconds=1)
    factor: Annotated[float, Field(ge=1, le=10)] = 2
    max_backoff: Duration = timedelta(minutes=1)
    within: Duration | None = None  # no attempt starts later than this after the first
    not_on: Annotated[list[EndCode], Field(max_length=50)] = []

    def delay(self, attempt: int) -> timedelta:
        """How long to wait after the failed attempt number ``attempt`` (1 is the first)."""
        longest = self.max_backoff.total_seconds()
        grown = self.backoff.total_seconds() * min(self.factor ** (attempt - 1), 1e9)
        return timedelta(seconds=min(grown, longest))


def _as_count(given: object) -> object:
    return int(given) if isinstance(given, bool) else given


class Policies(Shape):
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    overlap_limit: Annotated[int, Field(ge=1, le=1000)] = 100
    catch_up: CatchUp = CatchUp()
    retry: Retry = Retry()
    timeout: Annotated[Duration, Field(le=timedelta(days=7))] = timedelta(minutes=1)
    #: Of a whole run, with all its attempts and the waits between them.
    run_timeout: Annotated[Duration, Field(le=timedelta(days=30))] | None = None
    delivery: Literal["at_least_once", "at_most_once"] = "at_least_once"
    #: The task pauses itself after so many failures in a row; 0 (or false) is never, true is 1.
    pause_on_failure: Annotated[int, Field(ge=0, le=1000), BeforeValidator(_as_count)] = 0
    priority: Annotated[int, Field(ge=1, le=5)] = 3  # 1 is the most urgent
    #: Runs with the same key share the workers' slots fairly with those of other keys.
    fairness_key: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    #: Names of limits and how many runs may hold each at once, whichever tasks they are of.
    limits: Annotated[dict[Slug, Annotated[int, Field(ge=1, le=1000)]], Field(max_length=5)] = {}


class FollowUps(Shape):
    """Ids of the tasks that are run after a run of this one, by how it ended."""

    on_success: Annotated[list[Slug], Field(max_length=10)] = []
    on_failure: Annotated[list[Slug], Field(max_length=10)] = []  # failed or timed out


class TaskSpec(Shape):
    """All that a client says of a task but its id."""

    name: Name
    schedule: Schedule
    action: Action
    policies: Policies = Policies()
    follow_ups: FollowUps = FollowUps()
    tags: Annotated[list[Tag], Field(max_length=20)] = []
    queue: Slug = "default"


class TaskRegistration(TaskSpec):
    """A task as it is sent to be registered; without an ``id`` it gets one."""

    id: Slug | None = None

    def spec(self) -> TaskSpec:
        return TaskSpec(**{name: getattr(self, name) for name in TaskSpec.model_fields})


class TaskState(StrEnum):
    ACTIVE = "active"  # its occurrences run
    PAUSED = "paused"  # its occurrences are skipped until it is resumed
    FINISHED = "finished"  # no occurrence is left
    DELETED = "deleted"  # taken back by a client; its log stays


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Why a task is paused, and until when; without an instant until it is resumed."""

    reason: str | None = None
    until: datetime | None = None  # aware UTC
    since: datetime | None = None  # aware UTC
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A registered task as it is stored. All instants are aware UTC."""

    id: str
    spec: TaskSpec
    state: TaskState
    version: int  # raised by each change
    engine_version: int  # the version that its workflow has taken; 0 before the first
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    next_due_at: datetime | None
    last_run_at: datetime | None
    last_status: RunStatus | None
    run_count: int
    failure_count: int
    pause: Pause | None = None  # of a paused task
    catch_up: CatchUp | None = None  # asked for with the last resuming
    let_finish: bool = False  # of a deleted task: a run that goes on comes to its end
    in_hand: bool = False  # whether next_due_at has come and its run has a row already

    @property
    def in_step(self) -> bool:
        """Whether the engine has taken the last change."""
        return self.engine_version >= self.version


#: What is stored and sent to the engine, but neither taken from clients nor shown to them.
_HIDDEN: dict[str, Any] = {"exclude": {"calendar_days"}}


def as_json(model: BaseModel) -> dict[str, Any]:
    """The JSON that the API shows for ``model``, under the names that clients write."""
    return model.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude={**_HIDDEN, "schedule": _HIDDEN}
    )


def as_stored(model: BaseModel) -> dict[str, Any]:
    """The same with all that ``model`` is made of, to be read again."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
