"""The pages, rendered here and made live by HTMX; all of them work without it."""

from fastapi import APIRouter

from web import rendering
from web.pages import (
    calendars,
    changes,
    control,
    limits,
    look,
    many,
    overview,
    runs,
    task_form,
    tasks,
)

look.dress(rendering.templates)

router = APIRouter(include_in_schema=False)
router.include_router(overview.router)
router.include_router(task_form.router)  # before tasks: /tasks/new is no task's id
router.include_router(many.router)  # neither is /tasks/many
router.include_router(tasks.router)
router.include_router(control.router)
router.include_router(changes.router)
router.include_router(runs.router)
router.include_router(calendars.router)
router.include_router(limits.router)
