"""Handlers to try things out with: allow them with ``ONTHEDOT_HANDLERS=onthedot.examples:*``."""

from collections import Counter

from onthedot.handlers import RunContext


async def noop() -> None:
    """Do nothing; async, so that it costs no thread."""


def hello(context: RunContext, name: str = "world") -> str:
    """Greet, and say how late the greeting is."""
    context.print(f"Hello, {name}! This was due at {context.due_at.isoformat()}.")
    return f"Hello, {name}!"


def count_words(text: str, most: int = 5) -> dict[str, int]:
    """The commonest words of ``text`` and how often they come."""
    return dict(Counter(text.lower().split()).most_common(most))
