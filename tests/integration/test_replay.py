"""Histories of all branches of the workflows, replayed: what runs somewhere must go on running."""

import contextlib
import json
import time

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.sdk.trace import TracerProvider
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from onthedot import spans
from onthedot.engine import DATA_CONVERTER
from tests.histories.record import BRANCHES, CONTINUED, FOLDER, LARGEST, short
from workflows.runner import WORKFLOWS, workflow_runner

_WHAT_TO_DO = """\
The workflow does something else now than when {name} was recorded: {error}
Once this ships, every task with such a history is suspended: it neither runs nor hears of changes
until the code does again what it did. Mend it in one of these ways:
- keep the order of the commands (timers, activities, upserts) as it was;
- put the change behind workflow.patched(), so that open tasks go on by the old way;
- when nothing has been released that such a task could be open with, record the histories anew:
  python -m tests.histories.record"""


def _events(name: str) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(
        (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    )
    return found


async def _replay(
    name: str, events: dict[str, list[dict[str, object]]], *, traced: bool = False
) -> Exception | None:
    tracer = TracerProvider().get_tracer("replay")
    replayer = Replayer(
        workflows=WORKFLOWS,
        workflow_runner=workflow_runner(),
        data_converter=DATA_CONVERTER,
        interceptors=[spans.interceptor(tracer)] if traced else [],
    )
    history = WorkflowHistory.from_json(f"replay/{name}", events)
    with short() if name in CONTINUED else contextlib.nullcontext():
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    return result.replay_failure


def _fail(name: str, error: Exception) -> None:
    pytest.fail(_WHAT_TO_DO.format(name=name, error=error), pytrace=False)


@pytest.mark.parametrize("name", BRANCHES)
async def test_a_recorded_history_replays(name: str, caplog: pytest.LogCaptureFixture) -> None:
    if error := await _replay(name, _events(name)):
        _fail(name, error)
    # a coroutine of the workflow that dies does not fail the replay, it only says so
    died = [one.getMessage() for one in caplog.records if "never retrieved" in one.getMessage()]
    assert not died, died


@pytest.mark.parametrize("name", BRANCHES)
async def test_a_recorded_history_replays_when_traces_are_on(name: str) -> None:
    if error := await _replay(name, _events(name), traced=True):
        _fail(name, error)


@pytest.mark.parametrize("traced", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("since", [time.time(), 1], ids=["fresh", "old"])
@pytest.mark.parametrize("name", ["once", "cron", "triggered", "overlap_queue_one"])
async def test_a_history_of_a_traced_request_replays_with_traces_on_and_off(
    name: str, since: float, traced: bool
) -> None:
    """The headers in which the trace goes along change no command."""
    events = _events(name)
    carrier = {
        "traceparent": f"00-{'12' * 16}-{'34' * 8}-01",
        "baggage": f"onthedot-since={int(since)}",
    }
    payload = DATA_CONVERTER.payload_converter.to_payload(carrier)
    header = {"fields": {"_tracer-data": MessageToDict(payload)}}
    events["events"][0]["workflowExecutionStartedEventAttributes"]["header"] = header  # type: ignore[index]
    if error := await _replay(name, events, traced=traced):
        _fail(name, error)


def test_each_branch_has_its_history_and_each_history_its_branch() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(BRANCHES)


@pytest.mark.parametrize("name", BRANCHES)
def test_a_history_is_small_and_tells_nothing_of_the_machine(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert len(text) <= LARGEST
    identities = {
        value["identity"]
        for event in _events(name)["events"]
        for value in event.values()
        if isinstance(value, dict) and value.get("identity")
    }
    assert identities <= {"recorder", "history-service", "temporal-system"}, identities
    assert str(FOLDER.parents[1]) not in text
    assert "stackTrace" not in text


async def test_a_history_of_other_commands_is_refused() -> None:
    """The first local activity was another one, as if the code had planned by another name."""
    events = _events("interval")
    text = json.dumps(events)
    for event in events["events"]:
        if event["eventType"] == "EVENT_TYPE_ACTIVITY_TASK_SCHEDULED":
            event["eventType"] = "EVENT_TYPE_TIMER_STARTED"
            attributes = event.pop("activityTaskScheduledEventAttributes")
            assert isinstance(attributes, dict)
            event["timerStartedEventAttributes"] = {
                "timerId": "99",
                "startToFireTimeout": "5s",
                "workflowTaskCompletedEventId": attributes["workflowTaskCompletedEventId"],
            }
            break
    assert json.dumps(events) != text
    assert await _replay("interval", events) is not None


async def test_the_history_of_another_workflow_is_refused() -> None:
    events = _events("interval")
    events["events"][0]["workflowExecutionStartedEventAttributes"]["workflowType"]["name"] = (  # type: ignore[index]
        "Upkeep"
    )
    assert await _replay("interval", events) is not None


async def test_a_history_of_another_length_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lowering LONG_HISTORY is such a change, too: open tasks would continue where they did not."""
    monkeypatch.setattr("workflows.history.LONG_HISTORY", 5)
    assert await _replay("interval", _events("interval")) is not None
