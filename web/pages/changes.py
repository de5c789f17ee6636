"""The changes of a task: its versions, what differs, back to one of them; and what was asked of it."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from onthedot.database import lists, tasks
from onthedot.database.pool import connection
from onthedot.task import as_json
from onthedot.versions import What, differences
from web.form_text import pretty
from web.pages.control import to
from web.pages.look import done, show
from web.pages.query import Key, pages
from web.rendering import page
from web.security import Admin
from web.services import Given

router = APIRouter()

_PAGE = 30
_REQUESTS = 20

Number = Annotated[int, Path(ge=1, le=2**53)]


@router.get("/tasks/{task_id}/changes")
async def list_changes(
    request: Request, services: Given, caller: Admin, task_id: Key, cursor: str | None = None
) -> Response:
    async with connection(services.pool) as conn:
        task = await tasks.get_task(conn, task_id)
        versions = await lists.list_versions(conn, task_id, cursor=cursor, limit=_PAGE)
        asked = await lists.list_requests(conn, task_id, cursor=None, limit=_REQUESTS)
    return show(
        request,
        "task_changes",
        section="/tasks",
        stream=None if cursor else f"/events?task={task_id}",
        task=task,
        versions=versions.items,
        what_words=WHAT,
        asked=[] if cursor else asked.items,
        first_page=cursor is None,
        **pages(request, versions.next_cursor),
    )


@router.get("/tasks/{task_id}/changes/{number}")
async def show_change(
    request: Request, services: Given, caller: Admin, task_id: Key, number: Number
) -> Response:
    async with connection(services.pool) as conn:
        task = await tasks.get_task(conn, task_id)
        version = await tasks.get_version(conn, task_id, number)
        before = next(iter(await tasks.find_versions(conn, task_id, [number - 1])), None)
        now = next(iter(await tasks.find_versions(conn, task_id, [task.version])), None)
    return page(
        request,
        "task_change.html",
        section="/tasks",
        task=task,
        version=version,
        what_words=WHAT,
        before=before,
        changes=_shown(differences(before, version)) if before else [],
        since=_shown(differences(version, now)) if now and now.version != number else [],
        definition=pretty({"id": task.id, **as_json(version.spec)}),
    )


@router.post("/tasks/{task_id}/changes/{number}/restore")
async def restore_version(services: Given, caller: Admin, task_id: Key, number: Number) -> Response:
    await services.registration.restore(task_id, number, by=caller.name)
    return to(done(f"/tasks/{task_id}", "restored"))


#: What made a version, as a person says it.
WHAT = {
    What.REGISTERED: "registered",
    What.REVISED: "changed",
    What.PAUSED: "paused",
    What.RESUMED: "resumed",
    What.DELETED: "deleted",
    What.RESTORED: "went back",
}


def _shown(found: list[Any]) -> list[tuple[str, str, str]]:
    """Differences as texts: where, and the value before and after."""
    return [
        (one.pointer.strip("/").replace("/", "."), _value(one.old), _value(one.new))
        for one in found
    ]


def _value(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
