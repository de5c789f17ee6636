"""How long a history is. The engine ends a workflow whose history has 51,200 events or 50 MiB."""

from temporalio import workflow

from workflows import patches

MIB = 1024 * 1024
#: Events and bytes after which a quiet moment is used to continue as new, and after which one is
#: made. A lower number breaks the replay of tasks that run.
LONG_HISTORY, TOO_LONG_HISTORY = 2_000, 20_000
LONG_IN_BYTES, TOO_LONG_IN_BYTES = 4 * MIB, 24 * MIB
#: The same after which queued runs wait for a new history: they could keep this one busy for ever.
FULL_HISTORY, FULL_IN_BYTES = 10_000, 12 * MIB


def is_long() -> bool:
    return _is_longer_than(LONG_HISTORY, LONG_IN_BYTES)


def is_full() -> bool:
    return _is_longer_than(FULL_HISTORY, FULL_IN_BYTES)


def is_too_long() -> bool:
    return _is_longer_than(TOO_LONG_HISTORY, TOO_LONG_IN_BYTES)


def _is_longer_than(events: int, size: int) -> bool:
    info = workflow.info()
    if info.get_current_history_length() > events:
        return True
    return info.get_current_history_size() > size and workflow.patched(patches.IN_BYTES)
