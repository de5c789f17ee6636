"""What people type into a form: lists, and times on a clock of theirs."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


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
    try:
        if local.tzinfo is not None:
            return local.astimezone(UTC)
        moment = local.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        raise ValueError("Not a time that can be reached. Give a year from 2 to 9998.") from None
    if moment.astimezone(zone).replace(tzinfo=None) != local:
        raise ValueError(f"This time does not exist in {zone.key}: clocks jump over it that day.")
    return moment


def listed(text: str) -> list[str]:
    """What commas divide."""
    return [item.strip() for item in text.split(",") if item.strip()]
