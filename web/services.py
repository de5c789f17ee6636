"""What the routes work with, made once a process in ``web.app`` and kept on ``app.state``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from onthedot.database.pool import Pool
from onthedot.engine import Engine
from onthedot.registration import Registration
from onthedot.settings import Settings

if TYPE_CHECKING:
    from web.events import Events
    from web.metrics import Figures
    from web.security import Access


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All that a route may use. None of it needs to be up: each call says so when it is not.

    Read with ``async with connection(services.pool) as conn`` (from ``onthedot.database.pool``)
    and the functions of ``onthedot.database.lists``, ``.tasks`` and ``.runs``; change through
    ``services.registration``. They raise ``onthedot.errors``, which ``web.problems`` answers, so
    a route catches only what it shows itself (a form shows InvalidInput beside its fields).
    """

    settings: Settings
    pool: Pool
    engine: Engine
    registration: Registration
    access: "Access"
    events: "Events"
    figures: "Figures"


async def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


#: A route's parameter: ``async def show(services: Given) -> Response``.
Given = Annotated[Services, Depends(services)]
