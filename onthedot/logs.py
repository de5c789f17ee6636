"""What the processes tell, on stderr: a line a record, as text or as JSON."""

import json
import logging
import os
import sys
from datetime import UTC, datetime

from onthedot.settings import Settings

# What each record has by itself; anything else was given by `extra=`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


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
        given = {name: value for name, value in vars(record).items() if name not in _OWN}
        trouble = {"error": "\n".join(lines)} if (lines := _trouble(self, record)) else {}
        return json.dumps({**given, **said, **trouble}, default=str, ensure_ascii=False)


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _trouble(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    lines = [formatter.formatException(record.exc_info)] if record.exc_info else []
    return lines + ([formatter.formatStack(record.stack_info)] if record.stack_info else [])
