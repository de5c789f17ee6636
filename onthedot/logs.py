"""What the processes tell, on stderr: a line a record, as text or as JSON.

In JSON what a line is about has fields of its own: ``task_id``, ``run_id``, ``attempt``,
``workflow_id``, and ``trace_id`` where traces are on. Lines of a handler's author have them, too.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from onthedot import tracing
from onthedot.settings import Settings

# What each record has by itself; anything else was given by `extra=`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Under these the SDK gives what it knows of a workflow, of an activity, and its core's own record.
_SDK = ("temporal_workflow", "temporal_activity", "temporal_log")
_SDK_NAMES = {"workflow_id": "workflow_id", "workflow_type": "workflow_type"}

_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default={})  # noqa: B039 - not changed


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Lines that are told within the block are about this run, task or workflow."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def configure(settings: Settings, process: str) -> None:
    """Send all logging to stderr in the format that ``settings`` ask for.

    ``process`` names the kind of this process: ``web``, ``worker``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process) if settings.log_format == "json" else Text())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for chatty in ("uvicorn", "temporalio.worker._worker"):
        logging.getLogger(chatty).setLevel("WARNING")


class Text(logging.Formatter):
    """``12:00:00.123 WARNING onthedot.worker: message``, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        moment = _moment(record).strftime("%H:%M:%S.%f")[:-3]
        said = f"{moment} {record.levelname} {record.name}: {record.getMessage()}"
        return "\n".join([said, *_trouble(self, record)])


class JsonLines(logging.Formatter):
    """One JSON object a record; what was given by ``extra=`` is beside the message."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": _moment(record).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "process": self._process,
            "pid": os.getpid(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        given = {**_about.get(), **tracing.ids(), **_given(record)}
        trouble = {"error": "\n".join(lines)} if (lines := _trouble(self, record)) else {}
        return json.dumps({**given, **said, **trouble}, default=str, ensure_ascii=False)


def _given(record: logging.LogRecord) -> dict[str, Any]:
    """What came by ``extra=``; of what the SDK adds only what says what the line is about."""
    given = {name: value for name, value in vars(record).items() if name not in _OWN}
    for name in _SDK:
        said = given.pop(name, None)
        if isinstance(said, Mapping):
            given |= {ours: said[one] for one, ours in _SDK_NAMES.items() if said.get(one)}
    return given


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _trouble(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    lines = [formatter.formatException(record.exc_info)] if record.exc_info else []
    return lines + ([formatter.formatStack(record.stack_info)] if record.stack_info else [])
