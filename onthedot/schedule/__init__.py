"""Schedules: due times, and what there is to say of a schedule. Pure functions, time is an argument.

cron.py         reading cron expressions, stepping through wall-clock times
zones.py        time zones, and where their clocks change
times.py        due times, and the lead before them
checks.py       what is wrong with a schedule
advice.py       what people may not expect of it
description.py  a schedule in words
"""

from onthedot.schedule.advice import ScheduleWarning, warnings
from onthedot.schedule.checks import check
from onthedot.schedule.description import describe
from onthedot.schedule.times import due_times, lead, next_due, resolve

__all__ = [
    "ScheduleWarning",
    "check",
    "describe",
    "due_times",
    "lead",
    "next_due",
    "resolve",
    "warnings",
]
