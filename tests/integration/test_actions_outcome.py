"""What a run that follows another is told of it, by each kind of action."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from pydantic import BaseModel
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from onthedot.engine import DATA_CONVERTER
from onthedot.handlers import Handlers, RunContext
from tests import services
from tests.attempts import Bench, bench, order

OUTCOME = {
    "run_id": "first.20261201T010000000000Z",
    "task_id": "first",
    "status": "succeeded",
    "due_at": "2026-12-01T01:00:00Z",
    "started_at": "2026-12-01T01:00:00.001Z",
    "finished_at": "2026-12-01T01:00:03Z",
    "attempts": 1,
    "error": None,
    "result": {"exit_code": 0},
    "output": "42 rows, ünï\n",
}


class First(BaseModel):
    status: str
    output: str | None


def by_context(context: RunContext) -> Any:
    return context.outcome


def by_keyword(outcome: dict[str, Any] | None) -> Any:
    return outcome


def by_type(outcome: First) -> str:
    return f"{outcome.status}: {outcome.output}"


def by_default(outcome: str = "none") -> str:
    return outcome


@pytest.fixture
async def executing() -> AsyncIterator[Bench]:
    async with bench(shell=True, handlers=(f"{__name__}:*",), http_allow=("127.0.0.0/8",)) as made:
        yield made


async def returned(executing: Bench, handler: str, **given: Any) -> Any:
    ended = await executing.execute(order("python", handler=f"{__name__}:{handler}", **given))
    assert ended.status == "succeeded", ended.error
    return (ended.result or {}).get("returned")


async def test_a_handler_has_the_outcome_in_its_context_and_by_its_parameter(
    executing: Bench,
) -> None:
    assert await returned(executing, "by_context", outcome=OUTCOME) == OUTCOME
    assert await returned(executing, "by_keyword", outcome=OUTCOME) == OUTCOME
    assert await returned(executing, "by_type", outcome=OUTCOME) == "succeeded: 42 rows, ünï\n"


async def test_a_handler_of_a_run_that_follows_none_gets_none_or_its_default(
    executing: Bench,
) -> None:
    assert await returned(executing, "by_context") is None
    assert await returned(executing, "by_keyword") is None
    assert await returned(executing, "by_default") == "none"


async def test_an_argument_of_the_tasks_own_comes_before_the_outcome(executing: Bench) -> None:
    own = {"outcome": {"mine": 1}}
    assert await returned(executing, "by_keyword", outcome=OUTCOME, arguments=own) == {"mine": 1}


def test_a_handler_with_an_outcome_can_be_registered_without_one() -> None:
    handler = Handlers((f"{__name__}:*",)).load(f"{__name__}:by_type")
    assert handler.arguments({}) == {"outcome": None}


async def test_a_process_has_the_outcome_in_its_environment(executing: Bench) -> None:
    script = 'printf %s "$ONTHEDOT_OUTCOME"'
    ended = await executing.execute(order("shell", script=script, outcome=OUTCOME))
    assert json.loads(ended.output.text) == OUTCOME
    ended = await executing.execute(order("shell", script=script))
    assert ended.output.text == ""


async def called(executing: Bench, **given: Any) -> tuple[dict[str, str], str]:
    """The headers and the body that a server gets."""
    seen: list[tuple[dict[str, str], str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((dict(request.headers), await request.text()))
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", services.free_port())
        await site.start()
        ended = await executing.execute(order("http", url=site.name, **given))
        assert ended.status == "succeeded", ended.error
    finally:
        await runner.cleanup()
    return seen[0]


async def test_a_post_without_a_body_of_its_own_carries_the_outcome(executing: Bench) -> None:
    headers, body = await called(executing, method="POST", outcome=OUTCOME)
    assert json.loads(body) == OUTCOME
    assert headers["Content-Type"] == "application/json"
    assert headers["Onthedot-After"] == OUTCOME["run_id"]
    assert headers["Onthedot-After-Status"] == "succeeded"


async def test_a_request_with_a_body_or_without_room_for_one_names_the_run_alone(
    executing: Bench,
) -> None:
    headers, body = await called(executing, method="PUT", body={"a": 1}, outcome=OUTCOME)
    assert json.loads(body) == {"a": 1}
    assert headers["Onthedot-After"] == OUTCOME["run_id"]
    headers, body = await called(executing, method="GET", outcome=OUTCOME)
    assert body == ""
    assert headers["Onthedot-After"] == OUTCOME["run_id"]
    headers, _ = await called(executing, method="POST")
    assert "Onthedot-After" not in headers


@workflow.defn(name="Following")
class Following:
    @workflow.run
    async def run(self) -> Any:
        return workflow.memo_value("onthedot_outcome", None)


async def test_a_workflow_has_the_outcome_in_its_memo(temporal_server: str) -> None:
    client = await Client.connect(temporal_server, data_converter=DATA_CONVERTER)
    queue = f"following-{uuid4().hex}"
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[Following],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker, bench(client) as executing:
        told = await executing.execute(
            order("workflow", type="Following", queue=queue, outcome=OUTCOME)
        )
        untold = await executing.execute(order("workflow", type="Following", queue=queue))
    assert (told.result or {})["returned"] == OUTCOME
    assert "returned" not in (untold.result or {})
