"""How much may wait for its turn in a task's state, which is its input when it continues as new."""

import json

from activities.messages import RunOrder
from workflows.history import MIB

#: Bytes, of the 2 MiB that the engine lets an input have: a task that needs more cannot go on.
MOST_WAITING = MIB
FULL = f"runs of {MOST_WAITING // 1024} KiB wait already, which is all that there is room for"
_BARE = 220  # an order's fields without what they say


def size_of(order: RunOrder) -> int:
    """About how many bytes an order takes, and no fewer."""
    told = (one for one in (order.reason, order.arguments, order.outcome) if one)
    written = (json.dumps(one, ensure_ascii=False) for one in told)
    return _BARE + len(order.run_id) + sum(len(one.encode(errors="replace")) for one in written)
