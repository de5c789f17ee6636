"""The versions of a task: each change makes one, and they are kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from onthedot.task import TaskSpec, TaskState, as_json


class What(StrEnum):
    """What made a version."""

    REGISTERED = "registered"  # also once more, under the id of a deleted task
    REVISED = "revised"
    PAUSED = "paused"  # or its pause got another reason or end
    RESUMED = "resumed"
    DELETED = "deleted"
    RESTORED = "restored"  # an earlier one came back, by request or as later ones are lost


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskVersion:
    """A task as a change left it; who made the change, when (aware UTC) and why."""

    task_id: str
    version: int
    spec: TaskSpec
    state: TaskState
    what: What
    at: datetime
    by: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A value that differs, by its JSON Pointer (RFC 6901)."""

    pointer: str
    old: Any = None
    new: Any = None


def differences(old: TaskVersion, new: TaskVersion) -> list[Difference]:
    """What differs in the definition and the state; lists differ as a whole, absent is None."""
    return list(_differences(_document(old), _document(new), ""))


def _document(version: TaskVersion) -> dict[str, Any]:
    return {**as_json(version.spec), "state": version.state.value}


def _differences(old: Any, new: Any, pointer: str) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            escaped = name.replace("~", "~0").replace("/", "~1")
            yield from _differences(old.get(name), new.get(name), f"{pointer}/{escaped}")
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield Difference(pointer=pointer, old=old, new=new)
