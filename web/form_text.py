"""What a form has as text: JSON, lists, versions, and times on a clock of the one who types."""

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from onthedot.errors import VersionMismatch


def pretty(value: Any) -> str:
    """``value`` as JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def write_local(moment: datetime, zone: ZoneInfo) -> str:
    """What a clock in ``zone`` shows at ``moment`` (aware), to the second.

    At the ends of the calendar, where there may be no such time, it is what UTC shows.
    """
    try:
        local = moment.astimezone(zone)
    except OverflowError:
        local = moment.astimezone(UTC)
    return local.replace(tzinfo=None).isoformat(timespec="seconds")


def read_local(text: str, zone: ZoneInfo, known: datetime | None = None) -> datetime:
    """The UTC instant at which a clock in ``zone`` shows ``text`` (``2026-12-01T09:00``).

    Of a time that comes twice it is the first, and it is a whole second; but where the clock shows
    ``text`` at ``known`` it is that, which nobody could type. Raise ValueError for a time that does
    not come.
    """
    if not text.strip():
        raise ValueError("Give a date and a time.")
    try:
        local = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("Not a date and time. Write it as 2026-12-01T09:00:00.") from None
    try:
        if known is not None and local.isoformat(timespec="seconds") == write_local(known, zone):
            return known
        if local.tzinfo is not None:
            return local.astimezone(UTC)
        moment = local.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        raise ValueError("Not a time that can be reached. Give a year from 2 to 9998.") from None
    if moment.astimezone(zone).replace(tzinfo=None) != local:
        raise ValueError(f"This time does not exist in {zone.key}: clocks jump over it that day.")
    return moment


def read_version(text: str) -> int:
    """The version that was edited; raise VersionMismatch for a form without one."""
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise VersionMismatch
    return int(text)


def listed(text: str) -> list[str]:
    """What commas divide."""
    return [item.strip() for item in text.split(",") if item.strip()]
