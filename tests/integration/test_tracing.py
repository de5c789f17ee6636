"""A trace leads from the request to the run, across all processes; without an endpoint there is none."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from onthedot import spans, tracing
from onthedot.settings import Settings
from tests import otlp, services
from tests.integration.web_client import KEY, let_in
from tests.otlp import Collector, Span


@dataclass
class Target:
    """The server that tasks call, with the headers that came."""

    url: str
    heard: list[Any]


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    port = services.free_port()
    made = Target(f"http://127.0.0.1:{port}/", [])

    async def hear(request: web.Request) -> web.Response:
        made.heard.append(request.headers)
        return web.Response(text="done")

    app = web.Application()
    app.router.add_post("/", hear)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with otlp.collecting() as made:
        yield made


@pytest.fixture
def traced(
    database_url: str, own_temporal: str, collector: Collector, tmp_path: Path
) -> Iterator[str]:
    """The URL of a web app that has a worker; both send their traces."""
    settings = Settings(
        database_url=database_url,
        temporal_address=own_temporal,
        http_allow=("127.0.0.0/8",),
        port=services.free_port(),
        log_format="json",
    )
    environment = {
        **os.environ,
        **settings.to_environment(),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with ExitStack() as running:
        for command in ("worker", "web"):
            ours = [sys.executable, "-m", "onthedot", command]
            log = tmp_path / f"{command}.log"
            running.enter_context(services.running(ours, log, environment=environment))
        yield settings.url


async def post(url: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Any:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}", **headers}) as session,
        session.post(url, json=body) as answer,
    ):
        assert answer.status in (201, 202), await answer.text()
        return await answer.json()


async def is_ready(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url + "/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def test_a_trace_leads_from_the_request_to_the_called_server(
    traced: str, collector: Collector, target: Target, database_url: str
) -> None:
    await let_in(database_url)
    await services.assert_eventually(lambda: is_ready(traced), within=30)
    action = {"kind": "http", "method": "POST", "url": target.url}
    once = {"name": "x", "schedule": {"kind": "once", "in": "2s"}, "action": action}
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    task = await post(traced + "/api/v1/tasks", once, {"traceparent": parent})
    await services.assert_eventually(lambda: target.heard, within=20)

    def attempt() -> list[Span]:
        found = collector.named("RunActivity:attempt")
        return found if found and len(collector.ancestors(found[0])) == 5 else []

    (run,) = await services.assert_eventually(attempt, within=10)
    names = [span.name for span in collector.ancestors(run)]
    assert names == [
        "RunActivity:attempt",
        "StartActivity:attempt",
        "StartWorkflow:Task",
        "registration register",
        "POST /api/v1/tasks",
    ]
    root = collector.ancestors(run)[-1]
    assert (root.trace_id, root.parent_id, root.service) == ("ab" * 16, "cd" * 8, "onthedot-web")
    assert run.trace_id == root.trace_id
    assert run.service == "onthedot-worker"
    assert run.attributes["onthedot.task_id"] == task["id"]

    (call,) = await services.assert_eventually(lambda: collector.named("POST"), within=10)
    assert call.parent_id == run.span_id
    assert call.attributes["http.response.status_code"] == "200"
    (heard,) = target.heard
    assert heard["traceparent"] == f"00-{root.trace_id}-{call.span_id}-01"
    assert "baggage" not in heard
    await services.assert_eventually(lambda: collector.named("log flush"), within=10)
    (workflow,) = await services.assert_eventually(
        lambda: collector.named("RunWorkflow:Task"), within=10
    )
    assert workflow.trace_id == root.trace_id


async def test_a_run_on_request_belongs_to_the_trace_of_its_request(
    traced: str, collector: Collector, target: Target, database_url: str
) -> None:
    await let_in(database_url)
    await services.assert_eventually(lambda: is_ready(traced), within=30)
    action = {"kind": "http", "method": "POST", "url": target.url}
    later = {"name": "x", "schedule": {"kind": "once", "in": "1h"}, "action": action}
    task = await post(traced + "/api/v1/tasks", later, {})
    parent = f"00-{'ef' * 16}-{'cd' * 8}-01"
    await post(f"{traced}/api/v1/tasks/{task['id']}/trigger", {}, {"traceparent": parent})
    await services.assert_eventually(lambda: target.heard, within=20)
    assert target.heard[0]["traceparent"].split("-")[1] == "ef" * 16


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


async def execute(exporter: InMemorySpanExporter, since: int, *, local: bool = False) -> None:
    """An activity whose request was made at ``since``."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    interceptor = spans.interceptor(provider.get_tracer("test"))
    parent = trace.SpanContext(0xAB, 0xCD, True, trace.TraceFlags(1))
    within = trace.set_span_in_context(trace.NonRecordingSpan(parent))
    carrier: dict[str, str] = {}
    propagator = TracingInterceptor().text_map_propagator
    propagator.inject(carrier, baggage.set_baggage("onthedot-since", str(since), within))
    headers = {interceptor.header_key: interceptor.payload_converter.to_payload(carrier)}

    class Last(ActivityInboundInterceptor):
        def __init__(self) -> None:
            pass

        async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
            return None

    async def work() -> None:
        asked = ExecuteActivityInput(fn=work, args=[], executor=None, headers=headers)
        await interceptor.intercept_activity(Last()).execute_activity(asked)

    environment = ActivityEnvironment()
    environment.info = type(environment.info)(**{**vars(environment.info), "is_local": local})
    await environment.run(work)


async def test_what_happens_long_after_the_request_has_a_trace_of_its_own_that_links_to_it(
    exporter: InMemorySpanExporter,
) -> None:
    await execute(exporter, since=1)
    (span,) = exporter.get_finished_spans()
    assert span.parent is None
    assert [link.context.trace_id for link in span.links] == [0xAB]


async def test_what_happens_soon_after_the_request_belongs_to_its_trace(
    exporter: InMemorySpanExporter,
) -> None:
    await execute(exporter, since=int(time.time()))
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None and span.parent.span_id == 0xCD
    assert not span.links


async def test_planning_and_recording_long_after_the_request_leave_no_trace(
    exporter: InMemorySpanExporter,
) -> None:
    await execute(exporter, since=1, local=True)
    assert not exporter.get_finished_spans()


def test_without_an_endpoint_nothing_is_loaded_and_nothing_is_told() -> None:
    script = (
        "import sys; from onthedot import tracing; tracing.configure('web')\n"
        "with tracing.span('x'): assert tracing.outgoing() == {} == tracing.ids()\n"
        "assert tracing.interceptors() == []\n"
        "assert not [one for one in sys.modules if one.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_base_install_warns_that_the_extra_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "onthedot.spans", None)
    tracing.configure("web")
    assert "install onthedot[tracing]" in caplog.text
    assert tracing.outgoing() == {}
