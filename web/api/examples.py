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
}

BACKFILLS: dict[str, Example] = {
    "day": _example("A day", {"start": "2026-11-01T00:00:00Z", "end": "2026-11-02T00:00:00Z"}),
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
