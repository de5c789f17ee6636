"""How long a history is. The engine ends a workflow whose history has 51,200 events or 50 MiB."""

from temporalio import workflow

MIB = 1024 * 1024
_IN_BYTES = "a history is too long by its bytes, too"


def is_longer_than(events: int, size: int) -> bool:
    """Whether the history has more than ``events``, or ``size`` bytes."""
    info = workflow.info()
    if info.get_current_history_length() > events:
        return True
    return info.get_current_history_size() > size and workflow.patched(_IN_BYTES)
