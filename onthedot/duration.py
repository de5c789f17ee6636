"""Durations as people write them: ``90s``, ``10m``, ``1h30m``, ``500ms``, or ISO 8601 (``PT10M``)."""

import re
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_MILLISECONDS = {
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_SHORT = re.compile(r"(\d+(?:\.\d+)?)(ms|[wdhms])")
_ISO = re.compile(
    r"P(?:(?P<w>\d+(?:\.\d+)?)W)?(?:(?P<d>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<m>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?"
)
_LONGEST = timedelta(days=36_500)


@lru_cache(
    maxsize=4096
)  # a task's definition has five, mostly the same ones, and is read all the time
def parse(text: str) -> timedelta:
    """The duration that ``text`` writes; raise ValueError with what would be right."""
    compact = text.strip().replace(" ", "")
    parts = _iso_parts(compact) if compact.upper().startswith("P") else _short_parts(compact)
    if not parts:
        raise ValueError("not a duration; write it as 90s, 10m, 1h30m, 1d or PT10M")
    try:
        duration = timedelta(
            milliseconds=sum(float(number) * _MILLISECONDS[unit] for number, unit in parts)
        )
    except (ValueError, OverflowError):
        duration = _LONGEST * 2
    if duration > _LONGEST:
        raise ValueError("longer than 100 years; write a shorter duration")
    return duration


@lru_cache(maxsize=4096)
def write(duration: timedelta) -> str:
    """The shortest text that ``parse`` reads back as ``duration`` (to the millisecond)."""
    rest = round(duration / timedelta(milliseconds=1))
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _MILLISECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _short_parts(text: str) -> list[tuple[str, str]]:
    parts = _SHORT.findall(text.lower())
    return parts if "".join(number + unit for number, unit in parts) == text.lower() else []


def _iso_parts(text: str) -> list[tuple[str, str]]:
    match = _ISO.fullmatch(text.upper())
    return [(number, unit) for unit, number in match.groupdict().items() if number] if match else []


def _read(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("a duration is written as text, such as 90s, 10m or 1h30m")
    return parse(value)


def _read_positive(value: Any) -> timedelta:
    duration = _read(value)
    if duration < timedelta(milliseconds=1):
        raise ValueError("must be longer than zero")
    return duration


_SCHEMA = WithJsonSchema({"type": "string", "examples": ["90s", "10m", "1h30m", "PT10M"]})

#: A duration longer than zero, read from and written as text.
Duration = Annotated[
    timedelta, BeforeValidator(_read_positive), PlainSerializer(write, return_type=str), _SCHEMA
]
#: The same, where zero is allowed.
DurationOrZero = Annotated[
    timedelta, BeforeValidator(_read), PlainSerializer(write, return_type=str), _SCHEMA
]
