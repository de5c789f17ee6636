"""Traces, by OpenTelemetry. Off, and without cost, unless ``configure`` finds where to send them.

The standard variables say where and how: OTEL_EXPORTER_OTLP_ENDPOINT (or ..._TRACES_ENDPOINT),
OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER. The libraries come with the
extra ``onthedot[tracing]``, and are not imported before they are needed.
"""

import contextlib
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onthedot.spans import Spans

logger = logging.getLogger(__name__)

_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_spans: "Spans | None" = None


def configure(process: str) -> None:
    """Turn tracing on where the environment names an endpoint; ``process``: ``web``, ``worker``."""
    global _spans
    if not any(os.environ.get(name) for name in _VARIABLES):
        return
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from onthedot.spans import Spans
    except ImportError as error:
        logger.warning("no traces are sent: %s; install onthedot[tracing]", error)
        return
    _spans = Spans(process)
    logger.info("traces are sent to %s", next(filter(None, map(os.environ.get, _VARIABLES))))


def close() -> None:
    """Send what is left to send, for some seconds at most."""
    global _spans
    if _spans is not None:
        _spans.close()
        _spans = None


def span(name: str, **attributes: Any) -> contextlib.AbstractContextManager[object]:
    """A span around a block, below the one that is open."""
    return _OFF if _spans is None else _spans.internal(name, attributes)


def request(
    name: str, headers: Mapping[str, str], **attributes: Any
) -> contextlib.AbstractContextManager[object]:
    """The span of a request that came with ``headers``, which may name its parent (W3C)."""
    return _OFF if _spans is None else _spans.server(name, headers, attributes)


def call(name: str, **attributes: Any) -> contextlib.AbstractContextManager[object]:
    """The span of a call to another server; within it ``outgoing`` gives what it is told."""
    return _OFF if _spans is None else _spans.client(name, attributes)


def describe(**attributes: Any) -> None:
    """Say more about the span that is open; ``name`` gives it another name."""
    if _spans is not None:
        _spans.describe(attributes)


def happened(name: str) -> None:
    """Something happened within the span that is open."""
    if _spans is not None:
        _spans.happened(name)


def outgoing() -> dict[str, str]:
    """The headers (``traceparent``) by which another server continues the open span's trace."""
    return {} if _spans is None else _spans.outgoing()


def ids() -> dict[str, str]:
    """``trace_id`` and ``span_id`` of the open span, for log lines."""
    return {} if _spans is None else _spans.ids()


def interceptors() -> list[Any]:
    """What a Temporal client is given, so that its calls, workflows and activities are traced."""
    return [] if _spans is None else [_spans.interceptor()]


_OFF = contextlib.nullcontext()
