import json
import logging
import sys
from typing import Any

import pytest

from onthedot import engine, logs, temporal_server
from onthedot.logs import JsonLines, Text


@pytest.fixture
def record() -> logging.LogRecord:
    try:
        raise ValueError("no such zone")
    except ValueError:
        trouble = sys.exc_info()
    made = logging.LogRecord("onthedot.x", logging.WARNING, "x.py", 1, "run %s", ("a\nb",), trouble)
    made.created = 1_700_000_000.25
    made.run_id = "r.1"
    return made


def test_json_is_one_line_with_all_that_was_given(record: logging.LogRecord) -> None:
    line = JsonLines("worker").format(record)
    assert "\n" not in line
    said = json.loads(line)
    assert said["time"] == "2023-11-14T22:13:20.250000Z"
    assert said["level"] == "WARNING"
    assert said["process"] == "worker"
    assert said["message"] == "run a\nb"
    assert said["run_id"] == "r.1"
    assert "ValueError: no such zone" in said["error"]


def test_what_was_given_cannot_replace_the_message(record: logging.LogRecord) -> None:
    record.level = "forged"
    assert json.loads(JsonLines("worker").format(record))["level"] == "WARNING"


def test_text_begins_with_the_time_in_utc(record: logging.LogRecord) -> None:
    text = Text().format(record)
    assert text.startswith("22:13:20.250 WARNING onthedot.x: run a")
    assert text.endswith("ValueError: no such zone")


def test_the_embedded_temporal_knows_the_engines_search_attributes() -> None:
    assert engine.SEARCH_ATTRIBUTES == temporal_server.SEARCH_ATTRIBUTES


def said(record: logging.LogRecord) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(JsonLines("worker").format(record))
    return line


def test_a_line_told_within_a_run_has_the_ids_of_the_run(record: logging.LogRecord) -> None:
    del record.run_id  # type: ignore[attr-defined]
    with logs.about(task_id="t", run_id="r"), logs.about(attempt=2):
        inside = said(record)
    assert (inside["task_id"], inside["run_id"], inside["attempt"]) == ("t", "r", 2)
    assert "task_id" not in said(record)


def test_what_a_line_says_itself_goes_before_what_it_is_told_within(
    record: logging.LogRecord,
) -> None:
    with logs.about(run_id="another"):
        assert said(record)["run_id"] == "r.1"


def test_of_what_the_sdk_adds_only_the_workflow_is_kept(record: logging.LogRecord) -> None:
    record.temporal_workflow = {"workflow_id": "task/t", "attempt": 1, "task_queue": "onthedot"}
    record.temporal_log = object()
    line = said(record)
    assert line["workflow_id"] == "task/t"
    assert not [name for name in line if name.startswith("temporal") or name == "attempt"]
