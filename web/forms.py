"""The form of a task: from what a browser sends to a TaskRegistration, and from a task back.

Fields are named after their place: ``once.at``, ``cron.cron``, ``http.url``,
``policies.retry.attempts``. The fields of every kind are sent; those of the chosen one count.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from onthedot import duration
from onthedot.errors import FieldError
from onthedot.schedule import zones
from onthedot.task import HttpAction, PythonAction, ShellAction, TaskRegistration, TaskSpec, as_json
from web import schedule_form
from web.form_text import listed, pretty
from web.schedule_form import ScheduleForm, schedule_values
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
    **schedule_form.EMPTY,
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
        named = {f"{kind}.timezone": timezone for kind in SCHEDULE_KINDS}
        return cls(values=EMPTY | named)

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
        form.values |= schedule_values(spec, zones.zone(timezone))
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
                name: listed(self.values[f"follow_ups.{name}"])
                for name in ("on_success", "on_failure")
            },
            "tags": listed(self.values["tags"]),
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
        return ScheduleForm(self.values, self.errors).schedule()

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
        for length in range(len(path), 0, -1):
            for name in (".".join(path[:length]), ".".join(["recurring", *path[1:length]])):
                if name in EMPTY:
                    return name
        return None

    def _read(self, name: str, read: Callable[[str], Any]) -> Any:
        """``read`` of a field; what it raises goes into ``errors``, and None comes back."""
        try:
            return read(self.values[name])
        except ValueError as error:
            self.errors[name] = str(error)
            return None

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
                arguments = self._read("python.arguments", lambda text: read_json(text or "{}"))
                handler = values["python.handler"].strip()
                return {"kind": "python", "handler": handler, "arguments": arguments}
            case kind:
                arguments = self._read("workflow.arguments", lambda text: read_json(text or "[]"))
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
        return read_json(text) if self.values["http.body_format"] == "json" else text

    def _policies(self) -> dict[str, Any]:
        limits = self._read("policies.limits", _limits)
        policies: dict[str, Any] = {
            "retry": {"not_on": listed(self.values["policies.retry.not_on"])},
            "limits": limits or {},
        }
        for name in _POLICY_FIELDS:
            text = self.values[f"policies.{name}"].strip()
            if text or name not in _OPTIONAL:
                group, _, inner = name.rpartition(".")
                place = policies.setdefault(group, {}) if group else policies
                place[inner] = text
        return policies


def _limits(text: str) -> dict[str, str]:
    limits = {}
    for item in text.replace(",", "\n").splitlines():
        name, found, most = item.partition(":")
        if item.strip() and not (found and name.strip() and most.strip()):
            raise ValueError(f"Cannot read {item.strip()!r}. Write crm-api: 2, divided by commas.")
        if item.strip():
            limits[name.strip()] = most.strip()
    return limits


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


def read_json(text: str) -> Any:
    """What the JSON of a field says; raise ValueError, in words, where it cannot be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("Objects and lists are nested too deep.") from None
    except ValueError as error:
        raise ValueError(f"Not JSON: {error}.") from None


def _pairs(text: str, divider: str, example: str) -> Any:
    if text.lstrip().startswith("{"):
        return read_json(text)
    pairs = {}
    for line in filter(str.strip, text.split("\n")):
        name, found, value = line.partition(divider)
        if not found or not name.strip():
            raise ValueError(f"Cannot read {line.strip()!r}. Write {example}, one a line.")
        pairs[name.strip()] = value.strip() if divider == ":" else value
    return pairs


#: Where an error about a whole schedule or action is shown.
_WHOLE_KIND = {"once": "once.at"}


def told(problem: FieldError) -> str:
    """What is wrong with a field and what would do, for the one who typed into it."""
    return sentences(_what_is_wrong(problem), problem.remedy)


def _what_is_wrong(problem: FieldError) -> str:
    if problem.value is None or (isinstance(problem.value, str) and not problem.value.strip()):
        return "This is needed"
    verb = problem.problem.partition(" ")[0]
    return f"This {problem.problem}" if verb in ("is", "has", "was") else problem.problem


def sentences(*parts: str) -> str:
    """``parts`` as sentences: each begins with a capital and ends with a full stop."""
    texts = (part.strip().rstrip(".") for part in parts)
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in texts if text)


def _action_values(spec: TaskSpec) -> dict[str, str]:
    action = spec.action
    values = {f"{action.kind}.{name}": value for name, value in as_json(action).items()}
    match action:
        case HttpAction():
            # a form sends each line end as one newline
            is_text = action.body is None or (
                isinstance(action.body, str) and "\r" not in action.body
            )
            values["http.headers"] = _lines(action.headers, ": ")
            values["http.body_format"] = "text" if is_text else "json"
            values["http.body"] = (action.body or "") if is_text else pretty(action.body)
        case ShellAction():
            values["shell.by"] = "script" if action.script else "command"
            values["shell.command"] = shlex.join(action.command or [])
            values["shell.env"] = _lines(action.env, "=")
        case PythonAction():
            values["python.arguments"] = pretty(action.arguments)
        case _:
            values["workflow.arguments"] = pretty(action.arguments)
    return {name: str(value) for name, value in values.items() if name in EMPTY}


def _lines(pairs: Mapping[str, str], divider: str) -> str:
    if any("\n" in value or "\r" in value or value != value.strip() for value in pairs.values()):
        return pretty(dict(pairs))
    return "\n".join(f"{name}{divider}{value}" for name, value in pairs.items())


def _policy_values(spec: TaskSpec) -> dict[str, str]:
    policies = spec.policies
    return {
        "policies.overlap": policies.overlap.value,
        "policies.catch_up.keep": policies.catch_up.keep,
        "policies.catch_up.within": duration.write(policies.catch_up.within),
        "policies.retry.attempts": str(policies.retry.attempts),
        "policies.retry.backoff": duration.write(policies.retry.backoff),
        "policies.retry.factor": str(policies.retry.factor).removesuffix(".0"),
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
