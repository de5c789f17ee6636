"""Runs that are too many for one workflow task: in what order the SDK tells of what has happened."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest

from workflows import batches
from workflows.batches import MOST_AT_ONCE, Batches


class Engine:
    """Workflow tasks as the SDK has them: what was asked first, then the timers that have fired."""

    def __init__(self) -> None:
        self.length = 3
        self.timers: list[asyncio.Event] = []
        self._waiting: list[tuple[Callable[[], bool], asyncio.Event]] = []

    def info(self) -> SimpleNamespace:
        return SimpleNamespace(get_current_history_length=lambda: self.length)

    async def sleep(self, _: timedelta, summary: str) -> None:
        self.timers.append(asyncio.Event())
        await self.timers[-1].wait()

    async def wait_condition(self, check: Callable[[], bool]) -> None:
        self._waiting.append((check, asyncio.Event()))
        await self._waiting[-1][1].wait()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        came_true = [one for one in self._waiting if one[0]()]
        self._waiting = [one for one in self._waiting if one not in came_true]
        for _, event in came_true:
            event.set()
        for _ in range(5):
            await asyncio.sleep(0)

    async def task(self, *, asked: bool) -> None:
        """The next workflow task; with ``asked`` an Update has come before its timers."""
        self.length += 5
        fired, self.timers = self.timers, []
        if asked:
            await self.settle()
        for timer in fired:
            timer.set()
        await self.settle()


@pytest.mark.parametrize("asked", [False, True])
async def test_nobody_is_left_behind(monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    engine, turnstile, sent = Engine(), Batches(), []
    for name in ("info", "sleep", "wait_condition"):
        monkeypatch.setattr(batches.workflow, name, getattr(engine, name))
    monkeypatch.setattr(batches.workflow, "patched", lambda _: True)

    async def send(number: int) -> None:
        await turnstile.pass_through()
        sent.append(number)

    sending = [asyncio.create_task(send(number)) for number in range(5 * MOST_AT_ONCE)]
    await engine.settle()
    for batch in range(1, 6):
        assert len(sent) == batch * MOST_AT_ONCE
        assert len(engine.timers) == (1 if batch < 5 else 0)
        await engine.task(asked=asked)
    assert sent == sorted(sent) and all(one.done() for one in sending)
