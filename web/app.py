"""The web app: what is where. ``uvicorn --factory web.app:create_app`` runs it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

import web.api.health
from onthedot.database.pool import open_pool
from onthedot.engine import Engine
from onthedot.registration import Registration
from onthedot.settings import Settings
from web import api, events, metrics, pages, problems, sign_in
from web.api import document
from web.guard import Guard
from web.head import Head
from web.measured import Measured
from web.metrics import Figures
from web.security import Access
from web.services import Services

_STATIC = Path(__file__).parent / "static"


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app. It starts and answers also while Postgres or Temporal are away."""
    settings = settings or Settings.from_environment()
    app = FastAPI(
        title="Onthedot",
        version=version("onthedot"),
        description=document.DESCRIPTION,
        lifespan=_lifespan(settings),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would name this server's own address, behind a proxy too
    )
    app.add_middleware(Head)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Measured)
    problems.add_handlers(app)

    app.include_router(web.api.health.router)
    app.include_router(metrics.router)
    app.include_router(api.router)
    app.include_router(document.router)
    app.include_router(events.router)
    app.include_router(sign_in.router)
    app.include_router(pages.router)
    app.mount("/static", StaticFiles(directory=_STATIC))
    return app


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = await open_pool(settings)
        engine = await Engine.connect(settings)
        live = events.Events(settings)
        registration = Registration(settings, pool, engine)
        app.state.services = Services(
            settings=settings,
            pool=pool,
            engine=engine,
            registration=registration,
            access=Access(pool),
            events=live,
            figures=Figures(pool),
        )
        live.start()
        with events.closed_by_signals(live):
            yield
        await live.stop()
        await registration.close()
        await pool.close()

    return lifespan
