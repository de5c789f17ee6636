"""How every page looks: the frame around it, and the words and times that templates ask for."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import jinja2
from fastapi import Request
from starlette.responses import Response

from onthedot.engine import workflow_id
from onthedot.errors import OnthedotError
from onthedot.schedule import zones
from onthedot.settings import Settings
from web import rendering
from web.api.answers import next_due_at
from web.form_text import pretty
from web.forms import sentences
from web.pages import words
from web.problems import problem_of
from web.security import SESSION_COOKIE

ZONE_COOKIE = "onthedot_zone"

#: What was done, told on the page that follows: ``?done=paused``.
NOTICES = {
    "registered": ("good", "The task is registered."),
    "changed": ("good", "The changes are saved."),
    "paused": ("good", "The task is paused."),
    "resumed": ("good", "The task is active again."),
    "deleted": ("good", "The task is deleted. Its runs stay in the log."),
    "restored": ("good", "The version is in force again."),
    "cancelled": ("good", "The run is being cancelled."),
    "calendar_registered": ("good", "The calendar is registered. Tasks can name it now."),
    "calendar_changed": ("good", "The calendar is saved, and its tasks follow it."),
    "calendar_deleted": ("good", "The calendar is deleted."),
}


def viewer_zone(request: Request) -> ZoneInfo:
    """The zone in which the viewer wants to see times; UTC until one is chosen."""
    name = request.cookies.get(ZONE_COOKIE, "UTC")
    return zones.zone(name if name in zones.names() else "UTC")


def frame(request: Request) -> dict[str, Any]:
    """What every template may name."""
    settings = request.app.state.services.settings
    tone, text = NOTICES.get(request.query_params.get("done", ""), (None, None))
    return {
        "now": datetime.now(UTC),
        "zone": viewer_zone(request),
        "here": here(request),
        "signed_in": SESSION_COOKIE in request.cookies,
        "notice": {"tone": tone, "text": text} if text else None,
        "temporal_ui": settings.temporal_ui_url,
    }


def here(request: Request) -> str:
    """The path and query of the page that is being looked at, without what was just done."""
    query = request.query_params.multi_items()
    kept = [f"{quote(name)}={quote(value)}" for name, value in query if name != "done" and value]
    return request.url.path + ("?" + "&".join(kept) if kept else "")


def done(path: str, what: str) -> str:
    """``path``, where the next page tells what was done (one of NOTICES)."""
    return f"{path}?done={what}"


def temporal_workflow(settings: Settings, task_id: str) -> str | None:
    """Where the Temporal UI shows the task's workflow, if there is a Temporal UI."""
    if settings.temporal_ui_url is None:
        return None
    base, namespace = (
        settings.temporal_ui_url.rstrip("/"),
        quote(settings.temporal_namespace, safe=""),
    )
    return f"{base}/namespaces/{namespace}/workflows/{quote(workflow_id(task_id), safe='')}"


def show(request: Request, page: str, *, status: int = 200, **context: Any) -> Response:
    """``page``.html, or for an HTMX request that does not ask for history its fragment alone."""
    name = f"fragments/{page}.html" if is_fragment(request) else f"{page}.html"
    return rendering.page(request, name, status, **context)


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of a page that is open already."""
    headers = request.headers
    return "hx-request" in headers and "hx-history-restore-request" not in headers


def dress(templates: Any) -> None:
    """Give the templates their filters, and defaults for what only some pages set."""
    environment: jinja2.Environment = templates.env
    environment.undefined = jinja2.StrictUndefined
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters.update(
        action_summary=words.action_summary,
        byte_count=lambda text: len(text.encode()),
        clock=words.clock,
        next_due=lambda task: next_due_at(task) or task.next_due_at,
        offset=words.offset,
        policy_words=words.policy_words,
        pretty=pretty,
        relative=words.relative,
        size=words.size,
        span=words.span,
        spoken=words.spoken,
        stamp=words.stamp,
    )
    environment.globals.update(describe=words.describe, section=None, stream=None, took=words.took)
    templates.context_processors.append(frame)


def not_now(errors: list[str], error: OnthedotError) -> int:
    """Say among a form's ``errors`` that it is to be sent again; the status of the answer."""
    errors.append(sentences(str(error), "Send it again"))
    return problem_of(error).status
