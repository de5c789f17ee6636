"""The SDK's core in this process: where its log lines and its metrics go."""

import logging
import socket

from temporalio import activity, workflow
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

_TRIES = 5


def prepare(*, metrics: bool = False) -> str | None:
    """Prepare the core, before anything connects to the engine.

    Its lines come out as all others do. With ``metrics`` it answers at the URL that is returned,
    on loopback: ``onthedot.metrics_server`` shows them beside our own.
    """
    workflow.logger.workflow_info_on_message = False  # JSON has the ids in fields
    activity.logger.activity_info_on_message = False
    if not metrics:
        Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=_logging())))
        return None
    for tries_left in reversed(range(_TRIES)):
        address = f"127.0.0.1:{_free_port()}"
        try:
            Runtime.set_default(Runtime(telemetry=_with_metrics(address)))
        except (RuntimeError, ValueError):  # another process was quicker to take the port
            if not tries_left:
                raise
        else:
            return f"http://{address}/metrics"
    raise AssertionError("unreachable")


def _logging() -> LoggingConfig:
    forwarding = LogForwardingConfig(
        logger=logging.getLogger("temporalio.core"), prepend_target_on_message=False
    )
    levels = TelemetryFilter(core_level="WARN", other_level="ERROR")
    return LoggingConfig(filter=levels, forwarding=forwarding)


def _with_metrics(address: str) -> TelemetryConfig:
    shown = PrometheusConfig(
        bind_address=address,
        counters_total_suffix=True,
        unit_suffix=True,
        durations_as_seconds=True,
    )
    return TelemetryConfig(logging=_logging(), metrics=shown)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
