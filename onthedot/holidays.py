"""Calendars: named lists of days that several tasks leave out. The models are the API's shapes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from onthedot.task import DaySpan, Shape, Slug

Title = Annotated[str, StringConstraints(max_length=200, strip_whitespace=True)]


class CalendarDay(Shape):
    """A day, or several in a row (``2026-12-27/2026-12-31``), and what it is for people."""

    date: DaySpan
    title: Title = ""


class CalendarDefinition(Shape):
    """All that is said of a calendar but its name."""

    title: Title = ""
    days: Annotated[tuple[CalendarDay, ...], Field(max_length=1000)]


class CalendarRegistration(CalendarDefinition):
    """A calendar as it is sent to be registered."""

    name: Slug

    def definition(self) -> CalendarDefinition:
        return CalendarDefinition(title=self.title, days=self.days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """A calendar as it is stored. All instants are aware UTC."""

    name: str
    title: str
    days: tuple[CalendarDay, ...]
    version: int  # raised by each change
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
