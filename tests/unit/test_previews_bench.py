"""The benchmark of previews measures schedules that are right."""

from datetime import UTC, datetime
from itertools import islice

from bench.previews import preview, requests


def test_the_schedules_that_are_measured_are_fine_and_due() -> None:
    for sent, task_id in islice(requests(share_of_more=True), 120):
        wrong, due, words, _ = preview(sent, task_id, datetime.now(UTC))
        assert wrong == []
        assert len(due) == 5, sent
        assert words
