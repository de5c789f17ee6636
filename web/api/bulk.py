"""Many tasks at once: registered by a list, or chosen by a filter and controlled."""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import Field, JsonValue, ValidationError
from starlette.responses import Response

from onthedot.bulk import MOST_REGISTERED, Bulk, Result, Work
from onthedot.errors import FieldError, InvalidInput
from onthedot.idempotency import fingerprint
from onthedot.registration import Registration
from onthedot.run import Run
from onthedot.task import CatchUp, Instant, OverlapPolicy, Shape, Task, TaskRegistration, TaskState
from web.api import examples
from web.api.answers import Answer, respond
from web.api.requests import IdempotencyKey, Reason, TaskChoice
from web.problems import problem_of
from web.security import Admin
from web.services import Given, Services
from web.shape_errors import field_errors

router = APIRouter(tags=["many tasks"])


class BulkRequest(Shape):
    """Which tasks, by ``filter`` or by the query; and how many they are."""

    filter: TaskChoice = TaskChoice()
    count: Annotated[
        int | None, Field(ge=0, description="How many tasks that is; else nothing is changed.")
    ] = None
    dry_run: Annotated[bool, Field(description="Count them, and change nothing.")] = False
    reason: Reason | None = None


class BulkPause(BulkRequest):
    until: Instant | None = None


class BulkResume(BulkRequest):
    catch_up: CatchUp | None = None


class BulkDelete(BulkRequest):
    let_run_finish: bool = False


class BulkTrigger(BulkRequest):
    arguments: dict[str, JsonValue] | None = None
    overlap: OverlapPolicy | None = None


class BatchRequest(Shape):
    """Tasks as ``POST /tasks`` takes them; each is judged by itself."""

    tasks: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_REGISTERED)]


class BulkCount(Answer):
    """What the filter finds now, with the ids of some."""

    count: int
    sample: list[str]


class ItemAnswer(Answer):
    """What became of one task: its status by itself, and either the task's state or a problem."""

    id: str | None
    status: int
    state: TaskState | None = None
    version: int | None = None
    run_id: str | None = None
    problem: dict[str, JsonValue] | None = None


class BulkAnswer(Answer):
    """``done`` items have a status below 400."""

    count: int
    done: int
    items: list[ItemAnswer]


_COUNTED: dict[int | str, dict[str, Any]] = {200: {"model": BulkAnswer | BulkCount}}
Chosen = Annotated[TaskChoice, Query()]


@router.post("/tasks:batch", response_model=BulkAnswer)
async def register_many(
    request: Request,
    services: Given,
    caller: Admin,
    sent: Annotated[BatchRequest, Body(openapi_examples=examples.BATCHES)],
    key: IdempotencyKey = None,
) -> Response:
    """Register up to 1000 tasks. Each has its own answer, in the order of the request."""

    async def register(registration: Registration, item: tuple[int, dict[str, Any]]) -> Task:
        position, given = item
        try:
            one = TaskRegistration.model_validate(given)
        except ValidationError as error:
            raise InvalidInput(*field_errors(error.errors())) from None
        own = None if key is None else f"{key} / {position}"
        return await registration.register(one, by=caller.name, key=own)

    def name(item: tuple[int, dict[str, Any]]) -> str:
        return str(item[1].get("id") or "")

    bulk = Bulk(services.pool, services.registration)
    results = await bulk.register(list(enumerate(sent.tasks)), name, register)
    return _answer(request, results, 201)


@router.post("/tasks:pause", response_model=None, responses=_COUNTED)
async def pause_many(
    request: Request,
    services: Given,
    caller: Admin,
    query: Chosen,
    sent: Annotated[BulkPause, Body(openapi_examples=examples.BULK_PAUSES)] = BulkPause(),  # noqa: B008 - frozen
    key: IdempotencyKey = None,
) -> Response:
    """Pause all tasks that a filter finds."""

    async def pause(at: Registration, task_id: str, key: str | None) -> Task:
        return await at.pause(
            task_id, by=caller.name, key=key, reason=sent.reason, until=sent.until
        )

    return await _bulk(request, services, query, sent, key, pause)


@router.post("/tasks:resume", response_model=None, responses=_COUNTED)
async def resume_many(
    request: Request,
    services: Given,
    caller: Admin,
    query: Chosen,
    sent: Annotated[BulkResume, Body(openapi_examples=examples.BULK)] = BulkResume(),  # noqa: B008 - frozen
    key: IdempotencyKey = None,
) -> Response:
    """Resume all tasks that a filter finds."""

    async def resume(at: Registration, task_id: str, key: str | None) -> Task:
        return await at.resume(
            task_id, by=caller.name, key=key, reason=sent.reason, catch_up=sent.catch_up
        )

    return await _bulk(request, services, query, sent, key, resume)


@router.post("/tasks:delete", response_model=None, responses=_COUNTED)
async def delete_many(
    request: Request,
    services: Given,
    caller: Admin,
    query: Chosen,
    sent: Annotated[BulkDelete, Body(openapi_examples=examples.BULK)] = BulkDelete(),  # noqa: B008 - frozen
    key: IdempotencyKey = None,
) -> Response:
    """Delete all tasks that a filter finds."""

    async def delete(at: Registration, task_id: str, key: str | None) -> Task:
        return await at.delete(
            task_id,
            by=caller.name,
            key=key,
            reason=sent.reason,
            let_finish=sent.let_run_finish,
        )

    return await _bulk(request, services, query, sent, key, delete)


@router.post("/tasks:trigger", response_model=None, responses=_COUNTED)
async def trigger_many(
    request: Request,
    services: Given,
    caller: Admin,
    query: Chosen,
    sent: Annotated[BulkTrigger, Body(openapi_examples=examples.BULK)] = BulkTrigger(),  # noqa: B008 - frozen
    key: IdempotencyKey = None,
) -> Response:
    """Run all tasks that a filter finds, now. It wants an Idempotency-Key: what is sent again must
    not run them again.
    """
    if key is None and not sent.dry_run:
        remedy = "Send a text of your own with it, and the same one when you send it again."
        raise InvalidInput(FieldError("Idempotency-Key", None, "is missing", remedy))

    async def trigger(at: Registration, task_id: str, key: str | None) -> Run:
        return await at.trigger(
            task_id,
            by=caller.name,
            key=key,
            arguments=sent.arguments,
            reason=sent.reason,
            overlap=sent.overlap,
        )

    return await _bulk(request, services, query, sent, key, trigger)


async def _bulk(
    request: Request,
    services: Services,
    query: TaskChoice,
    sent: BulkRequest,
    key: str | None,
    work: Work[Any],
) -> Response:
    bulk, wanted = Bulk(services.pool, services.registration), _choice(query, sent.filter).wanted()
    if sent.dry_run:
        found = await bulk.select(wanted)
        return respond({"count": found.count, "sample": found.sample})
    what = [request.url.path, query.model_dump(mode="json"), sent.model_dump(mode="json")]
    results = await bulk.each(wanted, sent.count, work, key=key, print_=fingerprint("bulk", what))
    return _answer(request, results, 200)


def _choice(query: TaskChoice, body: TaskChoice) -> TaskChoice:
    """What both say together; raise InvalidInput where they say two things of one field."""
    in_query, in_body = (one.model_dump(exclude_defaults=True) for one in (query, body))
    for name in in_query.keys() & in_body.keys():
        if in_query[name] != in_body[name]:
            problem = f"is {in_query[name]!r} in the query"
            remedy = "Send the filter in the body or in the query."
            raise InvalidInput(FieldError(f"filter.{name}", in_body[name], problem, remedy))
    return TaskChoice.model_validate(in_query | in_body)


def _answer(request: Request, results: Iterable[Result[Any]], made: int) -> Response:
    items = [_item(request, one, made) for one in results]
    done = sum(item["status"] < 400 for item in items)
    return respond({"count": len(items), "done": done, "items": items})


def _item(request: Request, result: Result[Any], made: int) -> dict[str, Any]:
    match result.answer:
        case Task() as task:
            status = made if task.in_step else 202
            return {"id": task.id, "status": status, "state": task.state, "version": task.version}
        case Run() as run:
            return {"id": run.task_id, "status": 202, "run_id": run.run_id}
    assert result.error is not None
    problem = problem_of(result.error)
    return {
        "id": result.item or None,
        "status": problem.status,
        "problem": problem.as_json(request.url.path),
    }
