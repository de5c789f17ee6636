"""Python handlers, sync and async, those that hang and those that misbehave."""

import asyncio
import functools
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from datetime import date, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities import python
from activities.action import now
from onthedot.handlers import RunCancelled, RunContext
from onthedot.run import RunStatus
from tests.attempts import Bench, bench, order

release = threading.Event()
hung: list[None] = []
caught: list[BaseException] = []
colour: ContextVar[str] = ContextVar("colour", default="none")


def greet(name: str, context: RunContext) -> str:
    context.print("hello", name)
    context.logger.warning("run %s, attempt %s", context.run_id, context.attempt)
    return f"{name} in {threading.current_thread().name}"


async def greet_async(name: str, context: RunContext) -> str:
    context.print("hello", name)
    return f"{name} in {threading.current_thread().name}"


def take(day: date, count: int = 1, **rest: float) -> list[str]:
    return [type(day).__name__, str(day + timedelta(days=count)), str(rest)]


def fail() -> None:
    raise LookupError("no such report")


def leave() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def stop_iteration() -> None:
    raise StopIteration


async def cancel_itself() -> None:
    raise asyncio.CancelledError


def hang() -> None:
    hung.append(None)
    release.wait(60)


def hello() -> str:
    return "hello"


def heed(context: RunContext) -> None:
    try:
        while True:
            context.heartbeat()
            time.sleep(0.01)
    except RunCancelled as error:
        caught.append(error)
        raise


async def hang_async() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError as error:
        caught.append(error)
        raise


def return_much() -> list[str]:
    return ["x" * 100] * 1000


def return_odd() -> dict[str, Any]:
    return {
        "nul": "a\0b",
        "lone": "\ud800",
        "nan": float("nan"),
        "object": object,
        "bytes": b"\xff",
    }


def return_nested() -> list[Any]:
    return functools.reduce(lambda inner, _: [inner], range(500), [])


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def return_unshowable() -> Unshowable:
    return Unshowable()


def return_awaitable() -> Awaitable[str]:
    return greet_async(
        "later", RunContext(run_id="", task_id="", due_at=None, attempt=1, write=print)
    )  # type: ignore[arg-type]


def see_colour() -> str:
    return colour.get()


@pytest.fixture
async def executing() -> AsyncIterator[Bench]:
    release.clear()
    hung.clear()
    caught.clear()
    async with bench(handlers=(f"{__name__}:*",), worker_threads=4) as made:
        yield made
    release.set()


def handler(name: str) -> str:
    return f"{__name__}:{name}"


@pytest.mark.parametrize(("name", "thread"), [("greet", "handler"), ("greet_async", "MainThread")])
async def test_a_function_is_called_where_it_belongs(
    executing: Bench, name: str, thread: str
) -> None:
    wanted = order("python", handler=handler(name), arguments={"name": "Ada"}, number=2)
    outcome = await executing.execute(wanted)

    assert outcome.status is RunStatus.SUCCEEDED, outcome.error
    assert outcome.result == {"returned": f"Ada in {thread}"}
    assert outcome.output.text.startswith("hello Ada\n")


async def test_a_logger_writes_into_the_output(executing: Bench) -> None:
    wanted = order("python", handler=handler("greet"), arguments={"name": "Ada"}, number=2)
    outcome = await executing.execute(wanted)
    assert f"WARNING run {wanted.run_id}, attempt 2\n" in outcome.output.text


async def test_arguments_are_converted_by_their_hints(executing: Bench) -> None:
    arguments = {"day": "2026-02-28", "count": 2, "more": 1}
    outcome = await executing.execute(order("python", handler=handler("take"), arguments=arguments))
    assert outcome.result == {"returned": ["date", "2026-03-02", "{'more': 1.0}"]}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"day": "soon"}, {"day": "2026-02-28", "count": "x"}, {"day": "2026-02-28", "more": "x"}],
)
async def test_arguments_that_do_not_fit_fail_without_a_call(
    executing: Bench, arguments: dict[str, Any]
) -> None:
    outcome = await executing.execute(order("python", handler=handler("take"), arguments=arguments))
    assert outcome.status is RunStatus.FAILED
    assert not outcome.may_retry
    assert outcome.error is not None
    assert "action.arguments." in outcome.error


async def test_what_a_function_raises_is_the_error_and_its_traceback_the_output(
    executing: Bench,
) -> None:
    outcome = await executing.execute(order("python", handler=handler("fail")))

    assert outcome.status is RunStatus.FAILED
    assert outcome.error == "LookupError: no such report"
    assert 'raise LookupError("no such report")' in outcome.output.text
    assert "activities/python.py" not in outcome.output.text


@pytest.mark.parametrize("name", ["leave", "interrupt", "stop_iteration", "cancel_itself"])
async def test_no_exception_of_a_function_hurts_the_worker(executing: Bench, name: str) -> None:
    outcome = await executing.execute(order("python", handler=handler(name)))
    assert outcome.status is RunStatus.FAILED
    assert outcome.error
    assert outcome.may_retry


async def test_a_function_that_hangs_times_out_and_is_said_to_go_on(
    executing: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python, "_NOTICE", 0.1)
    outcome = await executing.execute(order("python", handler=handler("hang"), timeout=0.2))
    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.error is not None
    assert "goes on in its thread" in outcome.error


async def test_functions_that_hang_keep_no_thread_from_the_others(
    executing: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python, "_NOTICE", 0.1)
    hanging = order("python", handler=handler("hang"), timeout=0.2)
    await asyncio.gather(*(executing.execute(hanging) for _ in range(4)))
    outcome = await executing.execute(order("python", handler=handler("see_colour"), timeout=5))
    assert outcome.status is RunStatus.SUCCEEDED


async def test_the_timeout_counts_from_when_a_function_gets_its_thread(
    executing: Bench, assert_eventually: Callable[..., Any]
) -> None:
    hanging = [executing.start(order("python", handler=handler("hang"))) for _ in range(4)]
    await assert_eventually(lambda: len(hung) == 4)
    waiting = executing.start(order("python", handler=handler("hello"), timeout=0.5))
    await asyncio.sleep(1)  # longer than its timeout
    assert not waiting.done()
    released_at = now()
    release.set()
    outcome, *_ = await asyncio.gather(waiting, *hanging)
    assert outcome.status is RunStatus.SUCCEEDED, outcome.error
    assert outcome.started_at is not None and outcome.started_at >= released_at


async def test_what_finds_no_thread_for_long_goes_to_another_worker_unclaimed(
    executing: Bench,
    monkeypatch: pytest.MonkeyPatch,
    assert_eventually: Callable[..., Any],
) -> None:
    hanging = [executing.start(order("python", handler=handler("hang"))) for _ in range(4)]
    await assert_eventually(lambda: len(hung) == 4)
    monkeypatch.setattr(python, "_THREAD_WITHIN", 0.1)
    with pytest.raises(ApplicationError) as raised:
        await executing.execute(order("python", handler=handler("hello"), delivery="at_most_once"))
    assert raised.value.type == "HandedBack"
    assert not executing.log.claimed
    release.set()
    assert {one.status for one in await asyncio.gather(*hanging)} == {RunStatus.SUCCEEDED}


async def test_there_is_an_end_to_functions_that_hang(
    executing: Bench,
    monkeypatch: pytest.MonkeyPatch,
    assert_eventually: Callable[..., Any],
) -> None:
    monkeypatch.setattr(python, "_NOTICE", 0.01)
    hanging = order("python", handler=handler("hang"), timeout=0.05)
    for _ in range(5):
        await asyncio.gather(*(executing.execute(hanging) for _ in range(4)))
    outcome = await executing.execute(order("python", handler=handler("see_colour")))
    assert outcome.status is RunStatus.FAILED
    assert outcome.error is not None
    assert "still go on in this worker" in outcome.error

    release.set()

    async def works_again() -> bool:
        found = await executing.execute(order("python", handler=handler("see_colour")))
        return found.status is RunStatus.SUCCEEDED

    await assert_eventually(works_again)


async def test_a_function_may_notice_that_it_is_cancelled(executing: Bench) -> None:
    outcome = await executing.execute(order("python", handler=handler("heed"), timeout=0.2))

    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.error == "took longer than its timeout of 200ms"
    assert len(caught) == 1


async def test_an_async_function_is_cancelled(executing: Bench) -> None:
    outcome = await executing.execute(order("python", handler=handler("hang_async"), timeout=0.2))

    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.error == "took longer than its timeout of 200ms"
    assert len(caught) == 1


async def test_what_a_function_returns_is_kept_within_bounds(executing: Bench) -> None:
    outcome = await executing.execute(order("python", handler=handler("return_much")))

    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.result is not None
    assert outcome.result["returned_cut"] is True
    assert len(outcome.result["returned"]) < 4_200


async def test_what_no_database_can_hold_is_made_plain(executing: Bench) -> None:
    outcome = await executing.execute(order("python", handler=handler("return_odd")))

    assert outcome.result is not None
    returned = outcome.result["returned"]
    assert returned["nul"] == "ab"
    assert returned["lone"] == "?"
    assert returned["nan"] == "nan"


@pytest.mark.parametrize("name", ["return_nested", "return_unshowable"])
async def test_a_return_value_that_is_no_json_is_described(executing: Bench, name: str) -> None:
    outcome = await executing.execute(order("python", handler=handler(name)))
    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.result


async def test_a_function_may_return_something_to_await(executing: Bench) -> None:
    outcome = await executing.execute(order("python", handler=handler("return_awaitable")))
    assert outcome.result == {"returned": "later in MainThread"}


async def test_context_variables_reach_the_thread(executing: Bench) -> None:
    token = colour.set("red")
    try:
        outcome = await executing.execute(order("python", handler=handler("see_colour")))
    finally:
        colour.reset(token)
    assert outcome.result == {"returned": "red"}


async def test_a_handler_that_is_not_allowed_is_not_even_imported(executing: Bench) -> None:
    assert "antigravity" not in sys.modules
    outcome = await executing.execute(order("python", handler="antigravity:fly"))

    assert outcome.status is RunStatus.FAILED
    assert not outcome.may_retry
    assert outcome.error is not None
    assert "not allowed" in outcome.error
    assert "antigravity" not in sys.modules


async def test_the_examples_run() -> None:
    async with bench(handlers=("onthedot.examples:*",)) as executing:
        hello = await executing.execute(order("python", handler="onthedot.examples:hello"))
        noop = await executing.execute(order("python", handler="onthedot.examples:noop"))
        words = await executing.execute(
            order("python", handler="onthedot.examples:count_words", arguments={"text": "a b a"})
        )
    assert hello.result == {"returned": "Hello, world!"}
    assert noop.status is RunStatus.SUCCEEDED
    assert noop.result is None
    assert words.result == {"returned": {"a": 2, "b": 1}}
