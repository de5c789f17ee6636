"""The form of a task: from what a browser sends to a TaskRegistration, and from a task back.

Fields are named after their place: ``once.at``, ``cron.cron``, ``http.url``,
``policies.retry.attempts``. The fields of every kind are sent; those of the chosen one count.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from onthedot import duration
from onthedot.errors import FieldError
from onthedot.schedule import zones
from onthedot.task import HttpAction, PythonAction, ShellAction, TaskRegistration, TaskSpec, as_json
from web.shape_errors import field_errors, unstorable

SCHEDULE_KINDS = ("once", "cron", "interval")
ACTION_KINDS = ("http", "shell", "python", "workflow")
#: Policies with a field of the same name; one that is left empty has its default.
_POLICY_FIELDS = (
    "overlap",
    "overlap_limit",
    "catch_up.keep",
    "catch_up.within",
    "retry.attempts",
    "retry.backoff",
    "retry.factor",
    "retry.max_backoff",
    "retry.within",
    "timeout",
    "run_timeout",
    "delivery",
    "pause_on_failure",
    "priority",
    "fairness_key",
)
#: Those that may be empty and mean something then.
_OPTIONAL = ("retry.within", "run_timeout", "pause_on_failure", "fairness_key")

EMPTY: dict[str, str] = {
    "name": "",
    "id": "",
    "tags": "",
    "queue": "default",
    "schedule.kind": "once",
    "schedule.more": "",
    "once.by": "at",
    "once.at": "",
    "once.exact": "",
    "once.timezone": "UTC",
    "once.in": "",
    "cron.cron": "",
    "cron.timezone": "UTC",
    "interval.every": "",
    "interval.anchor": "",
    "action.kind": "http",
    "http.method": "GET",
    "http.url": "",
    "http.headers": "",
    "http.body": "",
    "http.body_format": "text",
    "http.expect": "2xx",
    "shell.by": "command",
    "shell.command": "",
    "shell.script": "",
    "shell.env": "",
    "shell.cwd": "",
    "python.handler": "",
    "python.arguments": "{}",
    "workflow.type": "",
    "workflow.queue": "default",
    "workflow.arguments": "[]",
    "policies.overlap": "skip",
    "policies.overlap_limit": "100",
    "policies.catch_up.keep": "latest",
    "policies.catch_up.within": "1d",
    "policies.retry.attempts": "1",
    "policies.retry.backoff": "1s",
    "policies.retry.factor": "2",
    "policies.retry.max_backoff": "1m",
    "policies.retry.within": "",
    "policies.retry.not_on": "",
    "policies.timeout": "1m",
    "policies.run_timeout": "",
    "policies.delivery": "at_least_once",
    "policies.pause_on_failure": "",
    "policies.priority": "3",
    "policies.fairness_key": "",
    "policies.limits": "",
    "follow_ups.on_success": "",
    "follow_ups.on_failure": "",
    "version": "",
}


@dataclass(slots=True, kw_only=True)
class TaskForm:
    """The values of a form as they were typed, and what is wrong with them, by field."""

    values: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    other_errors: list[str] = field(default_factory=list)  # those that belong to no field

    @classmethod
    def empty(cls, timezone: str) -> "TaskForm":
        """A new task's form, its zones set to ``timezone``."""
        return cls(values={**EMPTY, "once.timezone": timezone, "cron.timezone": timezone})

    @classmethod
    def sent(cls, data: Mapping[str, Any]) -> "TaskForm":
        """The form that a browser sent; what is missing has its default, but for checkboxes."""
        given = {name: str(data.get(name, default)) for name, default in EMPTY.items()}
        return cls(values={name: text.replace("\r\n", "\n") for name, text in given.items()})

    @classmethod
    def of(cls, spec: TaskSpec, *, task_id: str, version: int, timezone: str) -> "TaskForm":
        """The form that gives ``spec`` back when it is sent unchanged; instants in ``timezone``."""
        form = cls.empty(timezone)
        form.values |= {
            "name": spec.name,
            "id": task_id,
            "tags": ", ".join(spec.tags),
            "queue": spec.queue,
            "version": str(version),
            "schedule.kind": spec.schedule.kind,
            "action.kind": spec.action.kind,
        }
        form.values |= _schedule_values(spec, timezone)
        form.values |= _action_values(spec)
        form.values |= _policy_values(spec)
        return form

    @property
    def is_valid(self) -> bool:
        return not self.errors and not self.other_errors

    def registration(self) -> TaskRegistration | None:
        """What the form asks for, or None with ``errors`` filled in."""
        sent = {
            "name": self.values["name"],
            "schedule": self.schedule(),
            "action": self._action(),
            "policies": self._policies(),
            "follow_ups": {
                name: _listed(self.values[f"follow_ups.{name}"])
                for name in ("on_success", "on_failure")
            },
            "tags": _listed(self.values["tags"]),
            "queue": self.values["queue"].strip(),
            "id": self.values["id"].strip() or None,
        }
        self.refuse(*unstorable(sent))
        try:
            registration = TaskRegistration.model_validate(sent)
        except ValidationError as error:
            self.refuse(*field_errors(error.errors(include_url=False)))
            return None
        return registration if self.is_valid else None

    def schedule(self) -> dict[str, Any]:
        """The schedule as the API would be sent it; what cannot be read is put into ``errors``."""
        shown = self._schedule()
        more = self._read("schedule.more", lambda text: _json(text or "{}"))
        # What the form carries without showing it is of the kind that the task has had.
        is_of_it = isinstance(more, dict) and more.get("kind") == shown["kind"]
        return more | shown if is_of_it else shown

    def _schedule(self) -> dict[str, Any]:
        match self.values["schedule.kind"]:
            case "once" if self.values["once.by"] == "in":
                return {"kind": "once", "in": self.values["once.in"].strip()}
            case "once":
                return {"kind": "once", "at": self._read("once.at", self._instant)}
            case "interval":
                anchor = self.values["interval.anchor"]
                every = self.values["interval.every"].strip()
                return {"kind": "interval", "every": every, "anchor": anchor or None}
            case kind:
                several = [one.strip() for one in self.values["cron.cron"].split(";")]
                timezone = self.values["cron.timezone"].strip()
                cron = several if len(several) > 1 else several[0]
                return {"kind": kind, "cron": cron, "timezone": timezone}

    def refuse(self, *problems: FieldError) -> None:
        """Put what is wrong beside the fields where it was typed."""
        for problem in problems:
            text = told(problem)
            name = self._field_at(problem.field.split("."))
            if problem.field == "action" and self.errors:
                continue  # its own fields have told already
            if name is None:
                self.other_errors.append(f"{problem.field}: {text}")
            else:
                self.errors.setdefault(name, text)

    def _field_at(self, path: list[str]) -> str | None:
        """The form's field for a place in the definition, such as ``schedule.cron``."""
        if path[0] in ("schedule", "action"):
            kind = self.values[f"{path[0]}.kind"]
            if path[1:] in ([], ["kind"]):
                return _WHOLE_KIND.get(kind, f"{path[0]}.kind")
            path = [kind, *path[1:]]
        while path:
            if (name := ".".join(path)) in EMPTY:
                return name
            path = path[:-1]
        return None

    def _read(self, name: str, read: Callable[[str], Any]) -> Any:
        """``read`` of a field; what it raises goes into ``errors``, and None comes back."""
        try:
            return read(self.values[name])
        except ValueError as error:
            self.errors[name] = str(error)
            return None

    def _instant(self, text: str) -> datetime:
        zone_name = self.values["once.timezone"].strip()
        if zone_name not in zones.names():
            self.errors["once.timezone"] = (
                "No such time zone. Use a name such as Europe/Berlin or UTC."
            )
            zone_name = "UTC"
        exact = self.values["once.exact"]
        moment = read_local(text, zones.zone(zone_name))
        if exact and _same_to_the_second(datetime.fromisoformat(exact), moment):
            return datetime.fromisoformat(exact)
        return moment

    def _action(self) -> dict[str, Any]:
        values = self.values
        match values["action.kind"]:
            case "http":
                plain = {
                    name: values[f"http.{name}"].strip() for name in ("method", "url", "expect")
                }
                headers = self._read("http.headers", lambda text: _pairs(text, ":", "Name: value"))
                body = self._read("http.body", self._body)
                return {"kind": "http", **plain, "headers": headers or {}, "body": body}
            case "shell":
                return self._shell()
            case "python":
                arguments = self._read("python.arguments", lambda text: _json(text or "{}"))
                handler = values["python.handler"].strip()
                return {"kind": "python", "handler": handler, "arguments": arguments}
            case kind:
                arguments = self._read("workflow.arguments", lambda text: _json(text or "[]"))
                plain = {name: values[f"workflow.{name}"].strip() for name in ("type", "queue")}
                return {"kind": kind, **plain, "arguments": arguments}

    def _shell(self) -> dict[str, Any]:
        env = self._read("shell.env", lambda text: _pairs(text, "=", "NAME=value"))
        action = {
            "kind": "shell",
            "env": env or {},
            "cwd": self.values["shell.cwd"].strip() or None,
        }
        if self.values["shell.by"] == "script":
            return {**action, "script": self._read("shell.script", _script)}
        return {**action, "command": self._read("shell.command", _argv)}

    def _body(self, text: str) -> Any:
        if not text.strip():
            return None
        return _json(text) if self.values["http.body_format"] == "json" else text

    def _policies(self) -> dict[str, Any]:
        limits = self._read("policies.limits", _limits)
        policies: dict[str, Any] = {
            "retry": {"not_on": _listed(self.values["policies.retry.not_on"])},
            "limits": limits or {},
        }
        for name in _POLICY_FIELDS:
            text = self.values[f"policies.{name}"].strip()
            if text or name not in _OPTIONAL:
                group, _, inner = name.rpartition(".")
                place = policies.setdefault(group, {}) if group else policies
                place[inner] = text
        return policies


def read_local(text: str, zone: ZoneInfo) -> datetime:
    """The UTC instant at which a clock in ``zone`` shows ``text`` (``2026-12-01T09:00``).

    Of a time that comes twice it is the first; raise ValueError for one that does not come.
    """
    if not text.strip():
        raise ValueError("Give a date and a time.")
    try:
        local = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("Not a date and time. Write it as 2026-12-01T09:00:00.") from None
    if local.tzinfo is not None:
        return local.astimezone(UTC)
    try:
        moment = local.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        raise ValueError("Not a time that can be reached. Give a year up to 9998.") from None
    if moment.astimezone(zone).replace(tzinfo=None) != local:
        raise ValueError(f"This time does not exist in {zone.key}: clocks jump over it that day.")
    return moment


def _listed(text: str) -> list[str]:
    """What commas divide."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _limits(text: str) -> dict[str, str]:
    limits = {}
    for item in text.replace(",", "\n").splitlines():
        name, found, most = item.partition(":")
        if item.strip() and not (found and name.strip() and most.strip()):
            raise ValueError(f"Cannot read {item.strip()!r}. Write crm-api: 2, divided by commas.")
        if item.strip():
            limits[name.strip()] = most.strip()
    return limits


def _same_to_the_second(exact: datetime, shown: datetime) -> bool:
    return exact.replace(microsecond=0) == shown.replace(microsecond=0)


def _script(text: str) -> str:
    if not text.strip():
        raise ValueError("This is needed. Write what /bin/sh shall run.")
    return text


def _argv(text: str) -> list[str]:
    if not text.strip():
        raise ValueError("This is needed. Give the full path of a program, and its arguments.")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{str(error).capitalize()}. Close every quotation mark.") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"Not JSON: {error}.") from None


def _pairs(text: str, divider: str, example: str) -> Any:
    if text.lstrip().startswith("{"):
        return _json(text)
    pairs = {}
    for line in filter(str.strip, text.splitlines()):
        name, found, value = line.partition(divider)
        if not found or not name.strip():
            raise ValueError(f"Cannot read {line.strip()!r}. Write {example}, one a line.")
        pairs[name.strip()] = value.strip() if divider == ":" else value
    return pairs


#: Where an error about a whole schedule or action is shown.
_WHOLE_KIND = {"once": "once.at"}


def told(problem: FieldError) -> str:
    """What is wrong with a field and what would do, for the one who typed into it."""
    return _sentences(_what_is_wrong(problem), problem.remedy)


def _what_is_wrong(problem: FieldError) -> str:
    if problem.value is None or (isinstance(problem.value, str) and not problem.value.strip()):
        return "This is needed"
    verb = problem.problem.partition(" ")[0]
    return f"This {problem.problem}" if verb in ("is", "has", "was") else problem.problem


def _sentences(*parts: str) -> str:
    """``parts`` as sentences: each begins with a capital and ends with a full stop."""
    texts = (part.strip().rstrip(".") for part in parts)
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in texts if text)


def _schedule_values(spec: TaskSpec, timezone: str) -> dict[str, str]:
    schedule = as_json(spec.schedule)
    match schedule.pop("kind"):
        case "once" if "at" in schedule:
            at = datetime.fromisoformat(schedule["at"])
            local = at.astimezone(zones.zone(timezone)).replace(tzinfo=None)
            return {"once.at": local.isoformat(timespec="seconds"), "once.exact": schedule["at"]}
        case kind:
            if isinstance(schedule.get("cron"), list):
                schedule["cron"] = "; ".join(schedule["cron"])
            shown = {name for name in schedule if f"{kind}.{name}" in EMPTY}
            values = {f"{kind}.{name}": str(schedule.pop(name)) for name in shown}
            return {**values, "schedule.more": json.dumps({"kind": kind, **schedule})}


def _action_values(spec: TaskSpec) -> dict[str, str]:
    action = spec.action
    values = {f"{action.kind}.{name}": value for name, value in as_json(action).items()}
    match action:
        case HttpAction():
            is_text = isinstance(action.body, str) or action.body is None
            values["http.headers"] = _lines(action.headers, ": ")
            values["http.body_format"] = "text" if is_text else "json"
            values["http.body"] = (
                (action.body or "") if is_text else json.dumps(action.body, indent=2)
            )
        case ShellAction():
            values["shell.by"] = "script" if action.script else "command"
            values["shell.command"] = shlex.join(action.command or [])
            values["shell.env"] = _lines(action.env, "=")
        case PythonAction():
            values["python.arguments"] = json.dumps(action.arguments, indent=2)
        case _:
            values["workflow.arguments"] = json.dumps(action.arguments, indent=2)
    return {name: str(value) for name, value in values.items() if name in EMPTY}


def _lines(pairs: Mapping[str, str], divider: str) -> str:
    if any("\n" in value for value in pairs.values()):
        return json.dumps(pairs, indent=2)
    return "\n".join(f"{name}{divider}{value}" for name, value in pairs.items())


def _policy_values(spec: TaskSpec) -> dict[str, str]:
    policies = spec.policies
    return {
        "policies.overlap": policies.overlap.value,
        "policies.catch_up.keep": policies.catch_up.keep,
        "policies.catch_up.within": duration.write(policies.catch_up.within),
        "policies.retry.attempts": str(policies.retry.attempts),
        "policies.retry.backoff": duration.write(policies.retry.backoff),
        "policies.retry.factor": f"{policies.retry.factor:g}",
        "policies.retry.max_backoff": duration.write(policies.retry.max_backoff),
        "policies.retry.within": _optional(policies.retry.within),
        "policies.retry.not_on": ", ".join(policies.retry.not_on),
        "policies.timeout": duration.write(policies.timeout),
        "policies.run_timeout": _optional(policies.run_timeout),
        "policies.delivery": policies.delivery,
        "policies.pause_on_failure": str(policies.pause_on_failure or ""),
        "policies.priority": str(policies.priority),
        "policies.fairness_key": policies.fairness_key or "",
        "policies.limits": ", ".join(f"{name}: {most}" for name, most in policies.limits.items()),
        "policies.overlap_limit": str(policies.overlap_limit),
        "follow_ups.on_success": ", ".join(spec.follow_ups.on_success),
        "follow_ups.on_failure": ", ".join(spec.follow_ups.on_failure),
    }


def _optional(span: timedelta | None) -> str:
    return duration.write(span) if span else ""
