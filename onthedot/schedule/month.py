"""The days of a month that the day fields of a cron expression name.

They depend on nothing but the month's shape: the weekday it begins with, and its length.
"""

from collections.abc import Iterable
from typing import NamedTuple

from onthedot.schedule.fields import Field


class Month(NamedTuple):
    """The shape of a month; days are 1 to ``length``, weekdays 0 (Sunday) to 6."""

    begins: int  # the weekday of its first day
    length: int

    @property
    def days(self) -> range:
        return range(1, self.length + 1)

    def weekday(self, day: int) -> int:
        return (self.begins + day - 1) % 7


def days_of_month(field: Field, month: Month) -> set[int]:
    """The days that a field of days of the month names."""
    found = {day for day in field.values if day <= month.length}
    return found.union(*(_special_day(special, month) for special in field.special))


def days_of_week(field: Field, month: Month) -> set[int]:
    """The days that a field of days of the week names."""
    found = {day for day in month.days if month.weekday(day) in field.values}
    return found.union(*(_special_weekday(special, month) for special in field.special))


def _special_day(special: str, month: Month) -> Iterable[int]:
    if special == "LW":
        return (_nearest_workday(month.length, month),)
    if special.endswith("W"):
        day = int(special[:-1])
        return (_nearest_workday(day, month),) if day <= month.length else ()
    day = month.length - int(special[2:] or 0)  # L, L-3
    return (day,) if day >= 1 else ()


def _nearest_workday(day: int, month: Month) -> int:
    """The day from Monday to Friday that is nearest to ``day``, never in another month."""
    match month.weekday(day):
        case 6:  # Saturday
            return day - 1 if day > 1 else day + 2
        case 0:  # Sunday
            return day + 1 if day < month.length else day - 2
        case _:
            return day


def _special_weekday(special: str, month: Month) -> Iterable[int]:
    weekday, nth = special.split("#")
    days = [day for day in month.days if month.weekday(day) == int(weekday)]
    return days[-1:] if nth == "L" else days[int(nth) - 1 : int(nth)]
