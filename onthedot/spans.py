"""The part of ``onthedot.tracing`` that needs OpenTelemetry; imported only when it is on.

A trace begins with a request to the web app and goes on through the registration, the Update or
the start of the workflow, to the attempt and the server that it calls. A task may run for years:
what happens more than ten minutes after the request has a trace of its own, which links to that of
the request. When that was goes along as W3C baggage.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from opentelemetry import baggage, context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanKind, TraceFlags, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from temporalio import activity
from temporalio.contrib.opentelemetry import (
    TracingInterceptor,
    TracingWorkflowInboundInterceptor,
)
from temporalio.contrib.opentelemetry._context import attached_context
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    HandleUpdateInput,
    WorkflowInterceptorClassInput,
)

_SINCE = "onthedot-since"  # the baggage: seconds since the epoch
_JOINED_FOR = 600.0  # seconds
_LINK = context.create_key("onthedot-link")
_W3C = TraceContextTextMapPropagator()


class Spans:
    """Makes spans, and sends them."""

    def __init__(self, process: str) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME") or f"onthedot-{process}"
        resource = Resource.create({SERVICE_NAME: name, "service.version": version("onthedot")})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("onthedot", version("onthedot"))

    def close(self) -> None:
        self._provider.shutdown()

    def interceptor(self) -> TracingInterceptor:
        return interceptor(self._tracer)

    @contextmanager
    def server(
        self, name: str, headers: Mapping[str, str], attributes: dict[str, Any]
    ) -> Iterator[object]:
        parent = baggage.set_baggage(_SINCE, str(int(time.time())), _W3C.extract(headers))
        token = context.attach(parent)
        try:
            with self._tracer.start_as_current_span(
                name, kind=SpanKind.SERVER, attributes=_plain(attributes)
            ) as span:
                yield span
        finally:
            context.detach(token)

    def internal(self, name: str, attributes: dict[str, Any]) -> Any:
        return self._tracer.start_as_current_span(name, attributes=_plain(attributes))

    def client(self, name: str, attributes: dict[str, Any]) -> Any:
        return self._tracer.start_as_current_span(
            name, kind=SpanKind.CLIENT, attributes=_plain(attributes)
        )

    def describe(self, attributes: dict[str, Any]) -> None:
        span = trace.get_current_span()
        if name := attributes.pop("name", None):
            span.update_name(name)
        span.set_attributes(_plain(attributes))

    def happened(self, name: str) -> None:
        trace.get_current_span().add_event(name)

    def outgoing(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier

    def ids(self) -> dict[str, str]:
        said = trace.get_current_span().get_span_context()
        if not said.is_valid:
            return {}
        return {
            "trace_id": trace.format_trace_id(said.trace_id),
            "span_id": trace.format_span_id(said.span_id),
        }


def interceptor(tracer: Tracer) -> TracingInterceptor:
    """What a Temporal client, worker or replayer is given, so that its spans come from ``tracer``."""
    return _Interceptor(tracer)


class _Interceptor(TracingInterceptor):
    """The SDK's, but for what happens long after the request."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - the SDK's name
        return super().intercept_activity(_AddLink(next))

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002
    ) -> type[TracingWorkflowInboundInterceptor]:
        super().workflow_interceptor_class(input)
        return _WorkflowInbound

    def _context_from_headers(self, headers: Any) -> Context | None:
        found = super()._context_from_headers(headers)
        if found is None or _is_fresh(found):
            return found
        said = trace.get_current_span(found).get_span_context()
        if activity.info().is_local:  # planning and recording: of no interest without the request
            dropped = trace.SpanContext(said.trace_id, said.span_id, True, TraceFlags(0))
            return trace.set_span_in_context(NonRecordingSpan(dropped), Context())
        return context.set_value(_LINK, said, Context())

    def _completed_workflow_span(self, params: Any) -> Any:
        if not _is_fresh(self.text_map_propagator.extract(params.context)):
            return (
                params.context
            )  # no span in the workflow; the activity still hears of the request
        return super()._completed_workflow_span(params)


class _WorkflowInbound(TracingWorkflowInboundInterceptor):
    """What an Update starts belongs to the trace of its request, not to that of the task's start."""

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:  # noqa: A002
        header = input.headers.get(self.header_key)
        if header is None:
            return await super().handle_update_handler(input)
        (carrier,) = self.payload_converter.from_payloads([header])
        # the SDK's own: a handler may be evicted while it waits, and end in another context
        with attached_context(self._set_on_context(self.text_map_propagator.extract(carrier))):
            self._completed_span(f"HandleUpdate:{input.update}", kind=SpanKind.SERVER)
            return await self.next.handle_update_handler(input)


class _AddLink(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        if isinstance(said := context.get_value(_LINK), trace.SpanContext):
            trace.get_current_span().add_link(said)
        return await super().execute_activity(input)


def _is_fresh(found: Context) -> bool:
    """Whether the request that it comes from was made within the last minutes."""
    since = baggage.get_baggage(_SINCE, found)
    return isinstance(since, str) and since.isdigit() and time.time() - int(since) < _JOINED_FOR


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name if "." in name else f"onthedot.{name}": value
        if isinstance(value, bool | int | float)
        else str(value)
        for name, value in attributes.items()
        if value is not None
    }
