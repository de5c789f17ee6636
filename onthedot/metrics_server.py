"""A worker's answer to Prometheus: its own metrics and those of the SDK's core, on one port."""

import asyncio
import logging

import aiohttp
from aiohttp import web
from prometheus_client.registry import Collector

from onthedot import metrics
from onthedot.errors import FieldError, InvalidSettings
from onthedot.settings import PREFIX, Settings

logger = logging.getLogger(__name__)

_CORE_ANSWERS_WITHIN = aiohttp.ClientTimeout(total=2)


class MetricsServer:
    """Answers ``GET /metrics``, and ``GET /healthz`` for a check of the container."""

    def __init__(self, settings: Settings, core_url: str | None, *more: Collector) -> None:
        """``core_url`` is where the SDK's core shows its own."""
        self._host, self._port = settings.metrics_host, settings.metrics_port
        self._core_url, self._more = core_url, more
        self._runner: web.AppRunner | None = None
        self._client: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Listen; raise InvalidSettings when the port is in use."""
        app = web.Application()
        app.add_routes([web.get("/metrics", self._metrics), web.get("/healthz", _healthz)])
        self._client = aiohttp.ClientSession(timeout=_CORE_ANSWERS_WITHIN)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self.close()
            problem = f"cannot listen on {self._host}:{self._port} ({error.strerror or error})"
            remedy = "end what listens there, or give each worker of a host a port of its own"
            raise InvalidSettings(
                FieldError(PREFIX + "METRICS_PORT", self._port, problem, remedy)
            ) from None
        logger.info("metrics at http://%s:%s/metrics", self._host, self._port)

    async def close(self) -> None:
        if self._runner:
            await self._runner.cleanup()
        if self._client:
            await self._client.close()

    async def _metrics(self, _: web.Request) -> web.Response:
        ours, core = await asyncio.gather(
            asyncio.to_thread(metrics.render, *self._more), self._core()
        )
        return web.Response(body=ours + core, headers={"Content-Type": metrics.MEDIA_TYPE})

    async def _core(self) -> bytes:
        if self._core_url is None or self._client is None:
            return b""
        try:
            async with self._client.get(self._core_url) as answer:
                return await answer.read() if answer.status == 200 else b""
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.warning("the SDK's own metrics are missing: %s", error)
            return b""


async def _healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})
