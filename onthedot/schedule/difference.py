"""What a change of a schedule does to the due times of its task."""

from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from onthedot.schedule.times import due_times
from onthedot.task import Schedule


@dataclass(frozen=True, slots=True)
class Difference:
    """The due times (aware UTC, in order) that go and that come, up to ``until``.

    ``until`` is None where all due times of both schedules were compared.
    """

    removed: list[datetime]
    added: list[datetime]
    until: datetime | None


def difference(
    before: Schedule, after: Schedule, task_id: str, since: datetime, count: int
) -> Difference:
    """Compare the next ``count`` due times of two schedules after ``since`` (aware).

    They are compared over the same span: where the one of the two that is due more often ends.
    """
    old, new = (list(islice(due_times(one, task_id, since), count + 1)) for one in (before, after))
    ends = [found[count - 1] for found in (old, new) if len(found) > count]
    until = min(ends, default=None)
    kept = set(old) & set(new)
    removed, added = (
        [due for due in found if due not in kept and (until is None or due <= until)]
        for found in (old, new)
    )
    return Difference(removed, added, until)
