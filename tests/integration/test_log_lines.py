"""With ONTHEDOT_LOG_FORMAT=json each line of each process is one object: uvicorn's and the SDK's too."""

import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onthedot.logs import JsonLines
from onthedot.settings import Settings
from tests import services
from tests.attempts import bench, order
from tests.running import worker_process


def lines(log: Path) -> list[dict[str, Any]]:
    """All lines but one that is being written."""
    whole, _, _ = log.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


@pytest.fixture
def engine() -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of an engine, and what stops it."""
    with services.temporary_folder() as folder, ExitStack() as running:
        yield running.enter_context(services.running_temporal(folder)).address, running.close


async def test_a_worker_whose_engine_goes_away_tells_it_in_json(
    database_url: str, engine: tuple[str, Callable[[], None]], tmp_path: Path
) -> None:
    address, stop = engine
    log = tmp_path / "worker.log"
    settings = Settings(database_url=database_url, temporal_address=address, log_format="json")
    with worker_process(settings, log):
        told = "role all, queues default"
        await services.assert_eventually(
            lambda: any(told in line["message"] for line in lines(log)), within=30
        )
        stop()
        await services.assert_eventually(
            lambda: any(line["logger"].startswith("temporalio.core") for line in lines(log)),
            within=60,
        )
    assert {line["process"] for line in lines(log)} == {"worker"}


async def test_a_web_app_that_cannot_listen_tells_it_in_json(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "web.log"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(
            database_url=database_url, port=taken.getsockname()[1], log_format="json"
        )
        command = [sys.executable, "-m", "onthedot", "web"]
        environment = os.environ | settings.to_environment()
        with services.running(command, log, environment=environment) as web:
            assert web.wait(30) != 0
    assert [line for line in lines(log) if line["logger"] == "uvicorn.error"]


async def test_a_web_app_whose_database_is_away_tells_it_in_json(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    away = f"postgresql://127.0.0.1:{services.free_port()}/x"
    settings = Settings(database_url=away, port=services.free_port(), log_format="json")
    command = [sys.executable, "-m", "onthedot", "web"]
    environment = os.environ | settings.to_environment()
    with services.running(command, log, environment=environment):
        await services.assert_eventually(
            lambda: any("not listening for changes" in line["message"] for line in lines(log)),
            within=30,
        )
    assert {line["process"] for line in lines(log)} == {"web"}


heard: list[str] = []


class Hear(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        heard.append(JsonLines("worker").format(record))


def speak() -> None:
    logging.getLogger("reports").warning("it is late")


async def speak_softly() -> None:
    speak()


@pytest.fixture
async def hearing() -> AsyncIterator[None]:
    handler = Hear()
    heard.clear()
    logging.getLogger("reports").addHandler(handler)
    yield
    logging.getLogger("reports").removeHandler(handler)


@pytest.mark.parametrize("name", ["speak", "speak_softly"])
async def test_a_line_of_a_handler_has_the_ids_of_its_run(hearing: None, name: str) -> None:
    """In a thread as well."""
    asked = replace(order("python", handler=f"{__name__}:{name}"), number=2)
    async with bench(handlers=(f"{__name__}:*",)) as executing:
        await executing.execute(asked)
    (line,) = map(json.loads, heard)
    assert line["message"] == "it is late"
    assert (line["task_id"], line["run_id"]) == (asked.task_id, asked.run_id)
    assert line["attempt"] == 2
    assert line["workflow_id"]
