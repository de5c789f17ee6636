"""REST under /api/v1: JSON in, JSON out, problems for what went wrong."""

from fastapi import APIRouter, Depends

from web.api import bulk, calendars, control, limits, runs, schedules, stats, tasks, versions
from web.api.requests import no_unknown_query, storable_body
from web.security import require

router = APIRouter(
    prefix="/api/v1",
    dependencies=[
        Depends(require("admin")),
        Depends(no_unknown_query),
        Depends(storable_body),
    ],
)
router.include_router(tasks.router)
router.include_router(control.router)
router.include_router(versions.router)
router.include_router(bulk.router)
router.include_router(runs.router)
router.include_router(limits.router)
router.include_router(schedules.router)
router.include_router(calendars.router)
router.include_router(stats.router)
