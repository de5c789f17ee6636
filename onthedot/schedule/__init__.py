"""Schedules: due times, and what there is to say of a schedule. Pure functions, time is an argument.

fields.py       the fields of a cron expression
month.py        the days of a month that they name
cron.py         reading expressions, stepping through wall-clock times
zones.py        time zones, and where their clocks change
exclusion.py    days that are left out
nominal.py      the times that expressions and intervals name
times.py        due times: those that are wanted, moved by jitter; the lead before them
difference.py   what a change of a schedule does to its due times
checks.py       what is wrong with a schedule
advice.py       what people may not expect of it
description.py  a schedule in words
"""

from onthedot.schedule.advice import ScheduleWarning, warnings
from onthedot.schedule.checks import check
from onthedot.schedule.description import describe
from onthedot.schedule.difference import Difference, difference
from onthedot.schedule.times import adopt, due_times, lead, next_due, resolve

__all__ = [
    "Difference",
    "ScheduleWarning",
    "adopt",
    "check",
    "describe",
    "difference",
    "due_times",
    "lead",
    "next_due",
    "resolve",
    "warnings",
]
