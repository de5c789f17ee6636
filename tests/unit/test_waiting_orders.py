"""What may wait in a task's state is counted in bytes of its input."""

from datetime import UTC, datetime
from typing import Any

import pytest

from activities.messages import RunOrder
from onthedot.engine import DATA_CONVERTER
from onthedot.run import Trigger, requested_run_id
from onthedot.task import OverlapPolicy
from workflows.waiting_orders import size_of

DUE = datetime(2026, 12, 1, 8, 30, 0, 123456, tzinfo=UTC)


def order(**fields: Any) -> RunOrder:
    run_id = requested_run_id("t" * 100, DUE, "asked")
    return RunOrder(run_id=run_id, trigger=Trigger.BACKFILL, due_at=DUE, **fields)


@pytest.mark.parametrize(
    "one",
    [
        order(),
        order(at_once=100, overlap=OverlapPolicy.CANCEL_RUNNING),
        order(reason="\N{GRINNING FACE}ü\n\x01" * 100),
        order(arguments={"ä": [{"\\": '"'}] * 50}, outcome={"error": None, "output": "ß\t"}),
    ],
)
async def test_an_order_takes_no_more_than_it_is_counted_as(one: RunOrder) -> None:
    (payload,) = await DATA_CONVERTER.encode([[one] * 100])
    assert len(payload.data) / 100 <= size_of(one) <= 1.3 * len(payload.data) / 100
