"""Which occurrences have had their turn. None has two, however late a change of its task arrives."""

from datetime import datetime

from temporalio import workflow

from workflows.messages import KeepTask

MOST_KEPT = 200
_PATCH = "one turn for each occurrence"


def had_its_turn(state: KeepTask, due_at: datetime) -> bool:
    """Whether the occurrence ran, or has a row that says why it did not."""
    return due_at in state.had_turn and workflow.patched(_PATCH)


def take_turn(state: KeepTask, due_at: datetime) -> None:
    """Of an outage there may be more than are kept: then the latest are."""
    state.had_turn = sorted([*state.had_turn, due_at])[-MOST_KEPT:]


def give_turn_back(state: KeepTask, due_at: datetime) -> None:
    """Of a run that was called back in time."""
    if due_at in state.had_turn:
        state.had_turn.remove(due_at)
