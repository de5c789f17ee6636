"""What is wrong with the shape of a schedule is told by the field as the client wrote it."""

from typing import Any

import pytest
from pydantic import ValidationError

from onthedot.task import TaskSpec
from web.shape_errors import field_errors

CRON = {"kind": "cron", "cron": "0 6 * * *"}


@pytest.mark.parametrize(
    ("schedule", "field", "problem"),
    [
        ({**CRON, "cron": 5}, "schedule.cron", "is not a text"),
        ({**CRON, "cron": ["0 6 * * *", 5]}, "schedule.cron.1", "is not a text"),
        ({**CRON, "cron": []}, "schedule.cron", "has too few items"),
        ({**CRON, "cron": ["@daily"] * 21}, "schedule.cron", "has too many items"),
        ({**CRON, "dst": "no"}, "schedule.dst", "is not one of the choices"),
        ({**CRON, "max_runs": 0}, "schedule.max_runs", "is too small"),
        ({**CRON, "max_runs": 10_001}, "schedule.max_runs", "is too large"),
        ({**CRON, "jitter": "8d"}, "schedule.jitter", "is too large"),
        ({**CRON, "starts_at": "2026-12-01T09:00:00"}, "schedule.starts_at", "has no offset"),
        (
            {**CRON, "exclude": {"dates": ["24.12.2026"]}},
            "schedule.exclude.dates.0",
            "does not have the right form",
        ),
        (
            {**CRON, "exclude": {"dates": ["2026-12-24", "2026-02-30"]}},
            "schedule.exclude.dates.1",
            "is not a day",
        ),
        (
            {**CRON, "exclude": {"weekdays": ["MONDAY"]}},
            "schedule.exclude.weekdays.0",
            "is not one of the choices",
        ),
        ({**CRON, "exclude": {"days": []}}, "schedule.exclude.days", "is not known here"),
        (
            {"kind": "once", "in": "10m", "max_runs": 3},
            "schedule.max_runs",
            "is not known here",
        ),
    ],
)
def test_a_field_of_a_wrong_shape_is_named(
    schedule: dict[str, Any], field: str, problem: str
) -> None:
    sent = {"name": "x", "schedule": schedule, "action": {"kind": "http", "url": "http://x.y"}}
    with pytest.raises(ValidationError) as refused:
        TaskSpec.model_validate(sent)
    (error,) = field_errors(refused.value.errors())
    assert error.field == field
    assert problem in error.problem
    assert error.remedy


def test_weekdays_may_be_written_in_small_letters() -> None:
    sent = {**CRON, "exclude": {"weekdays": ["sat", "Sun"]}}
    action = {"kind": "http", "url": "http://x.y"}
    spec = TaskSpec.model_validate({"name": "x", "schedule": sent, "action": action})
    assert spec.schedule.exclude.weekdays == ("SAT", "SUN")  # type: ignore[union-attr]
