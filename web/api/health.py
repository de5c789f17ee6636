"""Liveness and readiness: for load balancers and `onthedot doctor`, hence without a key."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from onthedot.database.pool import connection
from onthedot.errors import DatabaseUnavailable
from web.api.answers import Answer, respond
from web.services import Given, Services

router = APIRouter(tags=["health"])

_WITHIN = 3.0  # seconds for Postgres to answer


class Check(Answer):
    ok: bool
    detail: str


class Readiness(Answer):
    ready: bool
    checks: dict[str, Check]


class Alive(Answer):
    status: str


@router.get("/healthz", response_model=Alive)
async def healthz() -> Response:
    """Whether this process is alive, whatever the others do."""
    return respond({"status": "alive"})


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(services: Given) -> Response:
    """Whether tasks can be registered and run: Postgres, Temporal, workers; 503 when one is away."""
    postgres, engine = await asyncio.gather(_postgres(services), _engine(services))
    checks = {"postgres": postgres, **engine}
    ready = all(check["ok"] for check in checks.values())
    return respond({"ready": ready, "checks": checks}, 200 if ready else 503)


async def _postgres(services: Services) -> dict[str, Any]:
    began = time.monotonic()
    try:
        async with connection(services.pool, within=_WITHIN) as conn:
            await conn.execute("SELECT 1 FROM tasks LIMIT 1")
    except DatabaseUnavailable as error:
        return {"ok": False, "detail": str(error)[:300]}
    return {"ok": True, "detail": f"Postgres answers in {(time.monotonic() - began) * 1000:.1f} ms"}


async def _engine(services: Services) -> dict[str, dict[str, Any]]:
    health = await services.engine.health()
    scheduling = sum(worker.schedules for worker in health.workers)
    executing = sum(worker.executes for worker in health.workers)
    said = f"{scheduling} schedule, {executing} execute"
    return {
        "temporal": {"ok": health.reachable, "detail": health.detail[:300]},
        "workers": {
            "ok": scheduling > 0 and executing > 0,
            "detail": said if health.reachable else "not known: Temporal does not answer",
        },
    }
