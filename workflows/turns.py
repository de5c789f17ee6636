"""Which occurrences have had their turn. None has two, however late a change of its task arrives."""

from datetime import datetime

from temporalio import workflow

from workflows import patches
from workflows.messages import KeepTask

MOST_KEPT = 200


def had_its_turn(state: KeepTask, due_at: datetime) -> bool:
    """Whether the occurrence ran, or has a row that says why it did not."""
    return due_at in state.had_turn and workflow.patched(patches.ONE_TURN)


def take_turn(state: KeepTask, due_at: datetime) -> None:
    """Remember that the occurrence had its turn; the latest ``MOST_KEPT`` are remembered."""
    state.had_turn = sorted([*state.had_turn, due_at])[-MOST_KEPT:]


def give_turn_back(state: KeepTask, due_at: datetime) -> None:
    """Let the occurrence run again: its run was called back in time."""
    if due_at in state.had_turn:
        state.had_turn.remove(due_at)
