"""Requests as the OpenAPI document shows them. Tests send each of them."""

from typing import Any

from fastapi.openapi.models import Example


def _example(summary: str, value: dict[str, Any]) -> Example:
    return Example(summary=summary, value=value)


TASKS: dict[str, Example] = {
    "cron": _example(
        "Each night, an HTTP request",
        {
            "id": "nightly-report",
            "name": "Nightly report",
            "schedule": {"kind": "cron", "cron": "0 2 * * *", "timezone": "Europe/Berlin"},
            "action": {"kind": "http", "method": "POST", "url": "https://example.org/report"},
            "policies": {"retry": {"attempts": 3, "backoff": "1s"}, "timeout": "30s"},
            "tags": ["billing"],
        },
    ),
    "once": _example(
        "Once in ten minutes, a command",
        {
            "name": "Back up once",
            "schedule": {"kind": "once", "in": "10m"},
            "action": {"kind": "shell", "command": ["/bin/echo", "backed up"]},
        },
    ),
    "interval": _example(
        "Every 90 seconds, a Python function",
        {
            "name": "Poll",
            "schedule": {"kind": "interval", "every": "90s"},
            "action": {
                "kind": "python",
                "handler": "reports.daily:send",
                "arguments": {"to": "me"},
            },
        },
    ),
    "chain": _example(
        "Limited, and followed by another task",
        {
            "id": "export-orders",
            "name": "Export the orders",
            "schedule": {"kind": "cron", "cron": "0 * * * *"},
            "action": {"kind": "http", "method": "POST", "url": "https://example.org/export"},
            "policies": {"limits": {"crm-api": 2}},
            "follow_ups": {"on_success": ["nightly-report"], "on_failure": ["alert"]},
        },
    ),
}

PATCHES: dict[str, Example] = {
    "timeout": _example("Another timeout", {"policies": {"timeout": "2m"}}),
    "schedule": _example(
        "A schedule of another kind", {"schedule": {"kind": "interval", "every": "5m"}}
    ),
}

TRIGGERS: dict[str, Example] = {
    "plain": _example("As it is", {}),
    "arguments": _example(
        "With other arguments", {"arguments": {"to": "you"}, "reason": "asked for by support"}
    ),
    "overlap": _example("Beside a run that goes on", {"overlap": "allow"}),
}

BACKFILLS: dict[str, Example] = {
    "day": _example("A day", {"start": "2026-11-01T00:00:00Z", "end": "2026-11-02T00:00:00Z"}),
    "look": _example(
        "Which due times of a week failed",
        {
            "start": "2026-11-01T00:00:00Z",
            "end": "2026-11-08T00:00:00Z",
            "which": "failed",
            "dry_run": True,
        },
    ),
    "five": _example(
        "What is missing, five at a time, the newest first",
        {
            "start": "2026-11-01T00:00:00Z",
            "end": "2026-11-08T00:00:00Z",
            "which": "missing",
            "order": "newest_first",
            "at_once": 5,
        },
    ),
}

PAUSES: dict[str, Example] = {
    "plain": _example("Until it is resumed", {}),
    "until": _example(
        "Over a migration", {"reason": "database migration", "until": "2126-12-01T06:00:00Z"}
    ),
}

RESUMES: dict[str, Example] = {
    "plain": _example("What was due meanwhile stays skipped", {}),
    "look": _example(
        "How many runs would that start?",
        {"catch_up": {"keep": "all", "within": "1d"}, "dry_run": True},
    ),
    "catch_up": _example(
        "Run what was due in the last day", {"catch_up": {"keep": "all", "within": "1d"}}
    ),
}

RESTORES: dict[str, Example] = {
    "plain": _example("Back to that version", {}),
    "reason": _example("And why", {"reason": "the new timeout was too short"}),
}

BULK: dict[str, Example] = {
    "look": _example("How many are they?", {"filter": {"tag": "billing"}, "dry_run": True}),
    "all": _example("All of them", {"filter": {"tag": "billing"}, "count": 12}),
}

BULK_PAUSES: dict[str, Example] = {
    **BULK,
    "reason": _example(
        "With a reason",
        {"filter": {"queue": "reports"}, "count": 3, "reason": "database migration"},
    ),
}

BATCHES: dict[str, Example] = {
    "two": _example("Two tasks", {"tasks": [TASKS[name]["value"] for name in ("cron", "once")]}),
}

_HOLIDAYS = {
    "title": "Holidays in Germany",
    "days": [
        {"date": "2026-12-25", "title": "Christmas"},
        {"date": "2026-12-27/2026-12-31", "title": "Between the years"},
    ],
}

CALENDARS: dict[str, Example] = {
    "holidays": _example("Holidays", {"name": "de-holidays", **_HOLIDAYS}),
}

CALENDAR_CHANGES: dict[str, Example] = {
    "days": _example("Other days", {"days": [{"date": "2026-12-24", "title": "Christmas Eve"}]}),
}

PREVIEWS: dict[str, Example] = {
    "cron": _example(
        "Workdays at nine in New York",
        {
            "schedule": {"kind": "cron", "cron": "0 9 * * MON-FRI", "timezone": "America/New_York"},
            "count": 3,
        },
    ),
    "more": _example(
        "Twice a day but for weekends, ten times, each up to five minutes later",
        {
            "schedule": {
                "kind": "cron",
                "cron": ["0 9 * * *", "30 14 * * *"],
                "timezone": "Europe/Berlin",
                "max_runs": 10,
                "jitter": "5m",
                "exclude": {"dates": ["2026-12-24/2026-12-26"], "weekdays": ["SAT", "SUN"]},
            },
            "count": 10,
        },
    ),
}
