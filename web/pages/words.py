"""How instants, durations, schedules and actions read on a page.

Instants come in as aware UTC; a zone appears here and nowhere deeper.
"""

import shlex
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from onthedot import duration, schedule
from onthedot.run import Run
from onthedot.task import (
    Action,
    HttpAction,
    OverlapPolicy,
    Policies,
    PythonAction,
    Schedule,
    ShellAction,
    TaskSpec,
    WorkflowAction,
)

#: Names of the statuses, states and triggers, as people say them.
_SPOKEN = {"timed_out": "timed out", "catch_up": "catch-up", "follow_up": "follow-up"}

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def spoken(value: str) -> str:
    """A status, a state or a trigger in words."""
    return _SPOKEN.get(value, value)


def stamp(moment: datetime) -> str:
    """``moment`` for a ``datetime`` attribute: UTC with ``Z`` and microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def clock(moment: datetime, zone: ZoneInfo, precision: str = "seconds") -> str:
    """``moment`` on the wall clock of ``zone``: ``2026-11-23 12:47:49``; or to milliseconds."""
    return moment.astimezone(zone).replace(tzinfo=None).isoformat(" ", precision)


def offset(moment: datetime, zone: ZoneInfo) -> str:
    """How far ``zone`` is from UTC at ``moment``: ``UTC``, ``+01:00``."""
    text = moment.astimezone(zone).strftime("%z")
    return "UTC" if text == "+0000" else f"{text[:3]}:{text[3:5]}"


def relative(moment: datetime, now: datetime) -> str:
    """``in 12 s``, ``3 m 5 s ago``, ``in 2 d 4 h``; the page's script counts on from there by the same rule."""
    seconds = (moment - now).total_seconds()
    away = abs(seconds)
    if away < 1:
        return "now"
    number, (size, unit) = next(
        (position, step) for position, step in enumerate(_STEPS) if away >= step[0]
    )
    count, rest = divmod(int(away), size)
    text = f"{count} {unit}"
    if count < 10 and size > 1:
        smaller, smaller_unit = _STEPS[number + 1]
        text += f" {rest // smaller} {smaller_unit}"
    return f"in {text}" if seconds > 0 else f"{text} ago"


def span(length: timedelta | float | None) -> str:
    """A length of time, given as a timedelta or in milliseconds, to three digits or so."""
    if length is None:
        return "-"
    if isinstance(length, timedelta):
        length = length / timedelta(milliseconds=1)
    if abs(length) < 10:
        return f"{length:.1f} ms"
    if abs(length) < 1000:
        return f"{length:.0f} ms"
    if abs(length) < 10_000:
        return f"{length / 1000:.2f} s"
    if abs(length) < 60_000:
        return f"{length / 1000:.1f} s"
    return duration.write(timedelta(seconds=round(length / 1000)))


def took(run: Run, now: datetime) -> timedelta | None:
    """How long ``run`` took, or has been going on at ``now``; None when it has not started."""
    if run.started_at is None:
        return None
    return max((run.finished_at or now) - run.started_at, timedelta())


def size(count: int) -> str:
    """A number of bytes in words."""
    return f"{count} bytes" if count < 1024 else f"{count / 1024:.1f} KiB"


def action_summary(action: Action) -> str:
    """What ``action`` does, on one line."""
    match action:
        case HttpAction():
            return f"{action.method} {action.url}"
        case ShellAction(command=list() as argv):
            return shlex.join(argv)
        case ShellAction():
            return next(iter((action.script or "").strip().splitlines()), "")
        case PythonAction():
            return action.handler
        case WorkflowAction():
            return f"{action.type} on {action.queue}"


def policy_words(spec: TaskSpec) -> list[tuple[str, str]]:
    """What the policies of a task come to: those that everybody asks for, and those it has set."""
    policies, usual = spec.policies, Policies()
    return [
        ("Timeout", _timeout_words(policies)),
        ("Attempts", _retry_words(policies)),
        ("Overlap", _OVERLAP[policies.overlap].format(policies.overlap_limit)),
        ("Missed", _CATCH_UP[policies.catch_up.keep].format(span(policies.catch_up.within))),
        *(
            (name, text)
            for name, value, unset, text in (
                ("Delivery", policies.delivery, usual.delivery, "at most once"),
                ("Pauses after", policies.pause_on_failure, 0, _failures(policies)),
                ("Priority", policies.priority, usual.priority, f"{policies.priority} of 1 to 5"),
                ("Fairness", policies.fairness_key, None, policies.fairness_key or ""),
            )
            if value != unset
        ),
    ]


_OVERLAP = {
    OverlapPolicy.SKIP: "skipped while its previous run goes on",
    OverlapPolicy.QUEUE_ONE: "one waits for its previous run",
    OverlapPolicy.QUEUE_ALL: "up to {} wait for its previous run",
    OverlapPolicy.CANCEL_RUNNING: "cancels its previous run",
    OverlapPolicy.ALLOW: "up to {} run at once",
}
_CATCH_UP = {
    "all": "all are run, if no older than {}",
    "latest": "the latest is run, if no older than {}",
    "none": "none is run",
}


def _timeout_words(policies: Policies) -> str:
    whole = policies.run_timeout
    return f"{span(policies.timeout)} an attempt" + (f", {span(whole)} in all" if whole else "")


def _retry_words(policies: Policies) -> str:
    retry = policies.retry
    if retry.attempts == 1:
        return "1"
    wait = f"{retry.attempts}, with waits from {span(retry.backoff)} to {span(retry.max_backoff)}"
    within = f", none later than {span(retry.within)}" if retry.within else ""
    return wait + within + (f", none after {', '.join(retry.not_on)}" if retry.not_on else "")


def _failures(policies: Policies) -> str:
    number = policies.pause_on_failure
    return "a failure" if number == 1 else f"{number} failures in a row"


@lru_cache(maxsize=4096)
def describe(when: Schedule, task_id: str) -> str:
    """A task's schedule as a phrase with a capital."""
    text = schedule.describe(when, task_id)
    return text[0].upper() + text[1:]
