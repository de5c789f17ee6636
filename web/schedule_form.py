"""The part of a task's form that is its schedule: from what was typed, and back."""

import json
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from onthedot import duration
from onthedot.schedule import zones
from onthedot.task import CronSchedule, IntervalSchedule, OnceSchedule, TaskSpec, as_json
from web.form_text import listed, read_local, write_local

EMPTY: dict[str, str] = {
    "schedule.kind": "once",
    "once.by": "at",
    "once.at": "",
    "once.exact": "",
    "once.timezone": "UTC",
    "once.in": "",
    "cron.cron": "",
    "cron.timezone": "UTC",
    "cron.dst": "cron",
    "interval.every": "",
    "interval.anchor": "",
    "interval.timezone": "UTC",
    # of cron and interval alike
    "recurring.starts_at": "",
    "recurring.ends_at": "",
    "recurring.exact": "{}",
    "recurring.max_runs": "",
    "recurring.jitter": "",
    "recurring.exclude.dates": "",
    "recurring.exclude.weekdays": "",
    "recurring.exclude.calendars": "",
}


class ScheduleForm:
    """The schedule's fields of a form; what cannot be read is put into ``errors``."""

    def __init__(self, values: MutableMapping[str, str], errors: dict[str, str]) -> None:
        self._values, self._errors = values, errors

    def schedule(self) -> dict[str, Any]:
        """The schedule as the API would be sent it."""
        match self._text("schedule.kind"):
            case "once" if self._text("once.by") == "in":
                return {"kind": "once", "in": self._text("once.in")}
            case "once":
                return {"kind": "once", "at": self._once()}
            case "interval":
                anchor, every = self._text("interval.anchor"), self._text("interval.every")
                interval = {"kind": "interval", "every": every, "anchor": anchor or None}
                return interval | self._recurring(self._zone("interval.timezone"))
            case kind:
                several = [one.strip() for one in self._text("cron.cron").split(";")]
                cron = several if len(several) > 1 else several[0]
                shown = {"kind": kind, "cron": cron, "dst": self._text("cron.dst")}
                return shown | self._recurring(self._zone("cron.timezone"))

    def _recurring(self, zone: ZoneInfo) -> dict[str, Any]:
        exact = self._exact()
        exclude = {
            name: listed(self._text(f"recurring.exclude.{name}"))
            for name in ("dates", "weekdays", "calendars")
        }
        found: dict[str, Any] = {"timezone": self._text(f"{self._text('schedule.kind')}.timezone")}
        for name in ("starts_at", "ends_at"):
            if self._text(f"recurring.{name}"):
                found[name] = self._instant(f"recurring.{name}", zone, exact.get(name))
        for name in ("max_runs", "jitter"):
            if text := self._text(f"recurring.{name}"):
                found[name] = text
        if any(exclude.values()):
            found["exclude"] = exclude
        return found

    def _exact(self) -> dict[str, str]:
        try:
            found = json.loads(self._text("recurring.exact") or "{}")
        except ValueError:  # nobody types into this field
            return {}
        return found if isinstance(found, dict) else {}

    def _once(self) -> datetime | None:
        zone = self._zone("once.timezone")
        return self._instant("once.at", zone, self._text("once.exact"))

    def _zone(self, name: str) -> ZoneInfo:
        """The zone that was typed; in the place of one that there is not, which is told, UTC."""
        typed = self._text(name)
        if typed not in zones.names():
            self._errors[name] = "No such time zone. Use a name such as Europe/Berlin or UTC."
            return zones.zone("UTC")
        return zones.zone(typed)

    def _instant(self, name: str, zone: ZoneInfo, exact: str | None) -> datetime | None:
        """What was typed; where the clock shows that at ``exact``, that."""
        try:
            known = datetime.fromisoformat(exact) if exact else None
        except (ValueError, TypeError):  # nobody types into this field
            known = None
        if known is not None and known.tzinfo is None:
            known = None
        try:
            return read_local(self._values[name], zone, known)
        except ValueError as error:
            self._errors[name] = str(error)
            return None

    def _text(self, name: str) -> str:
        return self._values[name].strip()


def schedule_values(spec: TaskSpec, viewer: ZoneInfo) -> dict[str, str]:
    """The values that give the schedule back; a one-time instant is shown in ``viewer``'s zone."""
    match spec.schedule:
        case OnceSchedule(at=datetime() as at):
            exact = as_json(spec.schedule)["at"]
            return {"once.at": write_local(at, viewer), "once.exact": exact}
        case CronSchedule() as cron:
            values = {"cron.cron": "; ".join(cron.expressions), "cron.dst": cron.dst}
            return values | _recurring_values(cron)
        case IntervalSchedule() as interval:
            anchor = as_json(interval).get("anchor", "")
            values = {"interval.every": duration.write(interval.every), "interval.anchor": anchor}
            return values | _recurring_values(interval)
    return {}


def _recurring_values(schedule: CronSchedule | IntervalSchedule) -> dict[str, str]:
    shown, zone = as_json(schedule), zones.zone(schedule.timezone)
    instants = {"starts_at": schedule.starts_at, "ends_at": schedule.ends_at}
    exclude = shown.get("exclude", {})
    return {
        f"{schedule.kind}.timezone": schedule.timezone,
        **{f"recurring.{name}": write_local(at, zone) for name, at in instants.items() if at},
        "recurring.exact": json.dumps({name: shown[name] for name, at in instants.items() if at}),
        "recurring.max_runs": str(schedule.max_runs or ""),
        "recurring.jitter": duration.write(schedule.jitter) if schedule.jitter else "",
        **{f"recurring.exclude.{name}": ", ".join(value) for name, value in exclude.items()},
    }
