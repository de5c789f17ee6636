"""Real processes of a whole stack are killed without a word, and nothing is lost."""

import asyncio
import contextlib
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from onthedot.run import RunStatus
from tests import services
from tests.integration.test_stack import Running, settings_in, up
from tests.services import assert_eventually

NOOP = {"kind": "python", "handler": "onthedot.examples:noop"}
EVERY = timedelta(seconds=2)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with services.temporary_folder() as made:
        yield made


@pytest.fixture(scope="module")
async def stack(folder: Path) -> AsyncIterator[Running]:
    place = folder / "shared"
    place.mkdir()
    async with _up(settings_in(place, ONTHEDOT_WORKERS="2"), place / "said") as running:
        yield running


@asynccontextmanager
async def _up(environment: dict[str, str], said: Path) -> AsyncIterator[Running]:
    with up(environment, said) as running:
        await assert_eventually(running.is_up, within=60)
        yield running


async def _register(stack: Running, task_id: str, **task: Any) -> None:
    sent = json.dumps({"id": task_id, "name": task_id, "action": NOOP, **task})
    key = (stack.folder / "api-key").read_text(encoding="ascii").strip()
    request = urllib.request.Request(
        f"{stack.url}/api/v1/tasks",
        data=sent.encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )

    def ask() -> int:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)

    assert await asyncio.to_thread(ask) == 201


async def _select(stack: Running, query: str, *values: object) -> list[dict[str, Any]]:
    """Rows of the stack's Postgres; AssertionError while it does not answer."""
    written = (stack.folder / "running.env").read_text(encoding="utf-8")
    url = dict(line.split("=", 1) for line in written.splitlines())["ONTHEDOT_DATABASE_URL"]
    try:
        connecting = psycopg.AsyncConnection.connect(url, row_factory=dict_row, connect_timeout=5)
        async with await connecting as conn:
            return await (await conn.execute(query.encode(), values)).fetchall()
    except psycopg.OperationalError as error:
        raise AssertionError(f"Postgres does not answer: {error}") from None


async def _rows(stack: Running, task_id: str) -> list[dict[str, Any]]:
    query = """SELECT run_id, due_at, status, reason, attempt_count, started_at
               FROM runs WHERE task_id = %s ORDER BY due_at, run_id"""
    return await _select(stack, query, task_id)


async def _has_final_rows(
    stack: Running, task_id: str, *, after: datetime, count: int
) -> list[dict[str, Any]]:
    """The task's rows, once ``count`` of those due after ``after`` and all before are final."""

    async def has_them() -> list[dict[str, Any]]:
        rows = await _rows(stack, task_id)
        final = [row for row in rows if RunStatus(row["status"]).is_final]
        late = [row for row in final if row["due_at"] > after]
        assert len(late) >= count, f"{task_id}: {len(late)} of {count} after {after}: {rows[-5:]}"
        return [row for row in rows if row["due_at"] <= late[count - 1]["due_at"]]

    rows: list[dict[str, Any]] = await assert_eventually(has_them, within=40, every=0.2)
    return rows


def _assert_each_occurrence_has_one_row(rows: Sequence[dict[str, Any]]) -> None:
    assert len(rows) > 1
    between = [later["due_at"] - earlier["due_at"] for earlier, later in pairwise(rows)]
    assert set(between) == {EVERY}, rows
    assert all(RunStatus(row["status"]).is_final for row in rows), rows


def _workers(stack: Running) -> list[int]:
    found = []
    for pid in services.children_of(stack.process.pid):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"onthedot" in line and b"worker" in line:
                found.append(pid)
    return found


async def test_a_run_whose_worker_is_killed_is_run_again_and_ends_in_one_row(
    stack: Running, folder: Path
) -> None:
    starts = folder / "starts"
    # the first try would go on for long after its worker has gone
    script = f"echo $PPID >> {starts}; test $(wc -l < {starts}) -gt 1 || sleep 60"
    action = {"kind": "shell", "script": script}
    await _register(stack, "killed", schedule={"kind": "once", "in": "2s"}, action=action)

    def started_by() -> list[int]:
        try:
            return [int(line) for line in starts.read_text(encoding="ascii").split()]
        except FileNotFoundError:
            return []

    await assert_eventually(started_by, within=20)
    # the worker, whether or not another process of its own stands between
    before = _workers(stack)
    victims = [pid for pid in before if started_by()[0] in (pid, *services.children_of(pid))]
    assert len(victims) == 1, (before, started_by())
    os.kill(victims[0], signal.SIGKILL)
    rows = await _has_final_rows(stack, "killed", after=datetime.min.replace(tzinfo=UTC), count=1)
    said = "its worker was lost, and it was started again"
    assert [(row["status"], row["reason"]) for row in rows] == [("succeeded", said)]
    assert len(started_by()) == 2


async def test_a_stack_killed_whole_comes_back_with_its_tasks_and_its_log(folder: Path) -> None:
    place = folder / "whole"
    place.mkdir()
    environment = settings_in(place)
    async with _up(environment, place / "first") as running:
        await _register(running, "done", schedule={"kind": "once", "in": "1s"})
        for keep in ("all", "latest"):
            # what is due while the others are caught up with is not to be left out
            policies = {"catch_up": {"keep": keep}, "overlap": "queue_all"}
            every = {"kind": "interval", "every": "2s"}
            await _register(running, keep, schedule=every, policies=policies)
        ever = datetime.min.replace(tzinfo=UTC)
        before = {
            name: await _has_final_rows(running, name, after=ever, count=count)
            for name, count in (("done", 1), ("all", 2), ("latest", 2))
        }
        tasks = await _select(running, "SELECT id, spec, version FROM tasks ORDER BY id")
        family = services.children_of(running.process.pid)
        running.process.kill()
        for pid in family:
            _kill(pid)
        running.process.wait()
        killed_at = datetime.now(UTC)
    await assert_eventually(lambda: not any(map(services.is_alive, family)), within=20)
    # until what came due since is too late simply to run, and is a matter of catch-up
    until = killed_at + timedelta(seconds=14)
    await asyncio.sleep((until - datetime.now(UTC)).total_seconds())
    async with _up(environment, place / "second") as running:
        back_at = datetime.now(UTC)
        assert await _select(running, "SELECT id, spec, version FROM tasks ORDER BY id") == tasks
        for name in ("all", "latest"):
            rows = await _has_final_rows(running, name, after=back_at, count=2)
            assert rows[: len(before[name])] == before[name]
            _assert_each_occurrence_has_one_row(rows)
            statuses = {row["status"] for row in rows}
            assert statuses == ({"succeeded"} if name == "all" else {"succeeded", "missed"}), rows
        assert await _rows(running, "done") == before["done"]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
