"""A collector of traces for tests: OTLP over HTTP, in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests import services


@dataclass(frozen=True)
class Span:
    """A span that was received."""

    service: str
    name: str
    span_id: str
    trace_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: tuple[str, ...]  # ids of traces


@dataclass
class Collector:
    url: str
    spans: list[Span] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for of_resource in sent.resource_spans:
            service = _attributes(of_resource.resource.attributes)["service.name"]
            for of_scope in of_resource.scope_spans:
                self.spans += [_span(service, one) for one in of_scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def ancestors(self, span: Span) -> list[Span]:
        """The span and all above it, up to the root or to one that has not come yet."""
        by_id = {one.span_id: one for one in self.spans}
        found = [span]
        while parent := by_id.get(found[-1].parent_id):
            found.append(parent)
        return found


def _span(service: str, sent: Any) -> Span:
    return Span(
        service=service,
        name=sent.name,
        span_id=sent.span_id.hex(),
        trace_id=sent.trace_id.hex(),
        parent_id=sent.parent_span_id.hex(),
        attributes=_attributes(sent.attributes),
        links=tuple(link.trace_id.hex() for link in sent.links),
    )


def _attributes(sent: Any) -> dict[str, Any]:
    return {one.key: next(iter(MessageToDict(one.value).values())) for one in sent}


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that listens until the block is left."""
    port = services.free_port()
    collector = Collector(f"http://127.0.0.1:{port}")
    app = web.Application()
    app.router.add_post("/v1/traces", collector.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield collector
    finally:
        await runner.cleanup()
