"""Settings, read from the environment: each is ``ONTHEDOT_`` and its name in capitals.

A wrong one is refused at start with its name, its value and what would be right.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from onthedot import duration
from onthedot.errors import FieldError, InvalidSettings

PREFIX = "ONTHEDOT_"
#: No settings: what a command that a task runs is told of its run (``onthedot`` may be that command).
RUN_VARIABLES = frozenset(
    PREFIX + name for name in ("RUN_ID", "TASK_ID", "DUE_AT", "ATTEMPT", "OUTCOME")
)


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("give a text that is not empty")
    return value.strip()


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch(r"\d{1,9}", value) or not least <= int(value) <= most:
            raise ValueError(f"give a whole number from {least} to {most}")
        return int(value)

    return read


def _switch(value: str) -> bool:
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if value.lower() not in words:
        raise ValueError("give on or off")
    return words[value.lower()]


def _choice(*allowed: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"give one of {', '.join(allowed)}")
        return value

    return read


def _names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _networks(value: str) -> tuple[str, ...]:
    for network in _names(value):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError(
                "give networks such as 127.0.0.0/8, ::1/128, divided by commas"
            ) from None
    return _names(value)


def _postgres_url(value: str) -> str:
    if urlsplit(value).scheme not in ("postgres", "postgresql"):
        raise ValueError("give a URL such as postgresql://user:password@host:5432/onthedot")
    return value


def _web_url(value: str) -> str:
    try:
        url = urlsplit(value)
        is_whole = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:  # of a port that is none, or half a bracket
        is_whole = False
    if not is_whole or re.search(r"\s", value):
        raise ValueError("give a URL such as https://onthedot.example.org")
    return value


def _address(value: str) -> str:
    match = re.fullmatch(r"(?:\[[0-9a-fA-F:]+\]|[^:\s]+):(\d{1,5})", value)
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise ValueError("give host:port, such as 127.0.0.1:7233")
    return value


def _path(value: str) -> Path:
    try:
        return Path(_text(value)).expanduser().absolute()
    except RuntimeError as error:  # ~somebody, who is not here
        raise ValueError(f"give a path; {error}") from None


def _span(value: str) -> timedelta:
    return duration.parse(value)


def _setting(default: Any, read: Callable[[str], Any], meaning: str) -> Any:
    return field(default=default, metadata={"read": read, "meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that an operator can set. ``Settings.from_environment()`` reads it."""

    # fmt: off
    host: str = _setting("127.0.0.1", _text, "Where the web app listens.")
    port: int = _setting(8080, _whole(1, 65535), "The port of the web app.")
    data_dir: Path = _setting(Path(".onthedot").absolute(), _path, "Where the embedded stack keeps its data and the admin's key.")
    database_url: str | None = _setting(None, _postgres_url, "An external Postgres; without it `onthedot up` runs its own.")
    database_pool: int = _setting(8, _whole(1, 200), "The most connections to Postgres in the pool of one process.")
    postgres_port: int = _setting(5433, _whole(1, 65535), "The port of the embedded Postgres.")
    temporal_address: str | None = _setting(None, _address, "An external Temporal; without it `onthedot up` runs its own.")
    temporal_namespace: str = _setting("default", _text, "The Temporal namespace.")
    temporal_port: int = _setting(7233, _whole(1, 65535), "The port of the embedded Temporal.")
    temporal_ui_port: int = _setting(8233, _whole(1, 65535), "The port of the embedded Temporal's web UI.")
    temporal_api_key: str | None = _setting(None, _text, "An API key for an external Temporal that wants one (it turns TLS on).")
    workers: int | None = _setting(None, _whole(1, 256), "How many workers `onthedot up` runs; by default one a core.")
    worker_slots: int = _setting(5000, _whole(1, 100_000), "The most runs of each of its queues that one worker holds at once, those that wait for their instant included.")
    worker_threads: int = _setting(32, _whole(1, 10_000), "The most Python handlers that are not async which one worker runs at once for each of its queues.")
    workflow_cache: int = _setting(3000, _whole(0, 1_000_000), "How many tasks' workflows one worker keeps in memory.")
    shutdown_grace: timedelta = _setting(timedelta(seconds=30), _span, "How long a worker that stops lets its runs go on.")
    handlers: tuple[str, ...] = _setting((), _names, "The Python handlers that tasks may name: module:function, or module:* for all of a module's, divided by commas; without it `onthedot up` allows onthedot.examples:*.")
    shell: bool = _setting(False, _switch, "Whether tasks may run commands; `onthedot up` turns it on.")
    http_allow: tuple[str, ...] = _setting((), _networks, "Networks that HTTP tasks may reach although they are private; without it `onthedot up` allows loopback.")
    retention: timedelta = _setting(timedelta(days=400), _span, "How long the log is kept (whole months).")
    log_level: str = _setting("INFO", _choice("DEBUG", "INFO", "WARNING", "ERROR"), "How much the processes tell.")
    log_format: str = _setting("text", _choice("text", "json"), "How the processes tell it.")
    metrics_host: str = _setting("127.0.0.1", _text, "Where a worker listens for Prometheus, when ONTHEDOT_METRICS_PORT is set.")
    metrics_port: int | None = _setting(None, _whole(1, 65535), "The port on which a worker answers GET /metrics (the web app does so on its own port); `onthedot up` gives each of its workers a free one.")
    secure_cookies: bool = _setting(False, _switch, "Whether the session cookie is sent over HTTPS only; turn it on behind TLS.")
    public_url: str | None = _setting(None, _web_url, "The URL under which people reach the web app, when it is not http://host:port.")
    temporal_ui_url: str | None = _setting(None, _web_url, "Where the Temporal UI is; pages link to it.")
    # fmt: on

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Settings from ``environment`` (by default the process's); raise InvalidSettings."""
        environment = os.environ if environment is None else environment
        known = {PREFIX + one.name.upper(): one for one in fields(cls)}
        given: dict[str, Any] = {}
        wrong: list[FieldError] = []
        for variable, value in sorted(environment.items()):
            if not variable.startswith(PREFIX) or variable in RUN_VARIABLES:
                continue
            setting = known.get(variable)
            if setting is None:
                wrong.append(
                    FieldError(variable, value, "no such setting", _nearest(variable, known))
                )
                continue
            if value == "":
                continue  # compose files hand over an unset variable as an empty one
            try:
                given[setting.name] = setting.metadata["read"](value)
            except ValueError as error:
                shown = masked(setting.name, value)
                wrong.append(FieldError(variable, shown, "not accepted", str(error)))
        if wrong:
            raise InvalidSettings(*wrong)
        return cls(**given)

    def to_environment(self) -> dict[str, str]:
        """The variables that make ``from_environment`` give these settings again."""
        return {
            PREFIX + one.name.upper(): _write(value)
            for one in fields(self)
            if (value := getattr(self, one.name)) is not None
        }

    @property
    def url(self) -> str:
        """Where people reach the web app."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def temporal(self) -> str:
        """The address of the Temporal frontend."""
        return self.temporal_address or f"127.0.0.1:{self.temporal_port}"


def masked(name: str, value: str) -> str:
    """The value of a setting as it may be shown: without the secret that it is or carries."""
    if name == "database_url":
        return re.sub(r"(?<=:)[^:@/]+(?=@)", "***", value)
    return "***" if name == "temporal_api_key" else value


def _nearest(variable: str, known: Mapping[str, Any]) -> str:
    import difflib

    close = difflib.get_close_matches(variable, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"


def _write(value: Any) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case timedelta():
            return duration.write(value)
        case tuple():
            return ",".join(value)
        case _:
            return str(value)
