"""The control: what the same herd costs as bare Temporal workflows, each a timer and an activity.

No lead, no log, no policies; the same dev server, as many worker processes, which are as the SDK
makes them. ``python -m bench.control ADDRESS`` is one of these.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import Worker

from bench import bare
from bench.figures import Kind, Measurement
from bench.plan import EVERY, Herd, free_port, on_trial, planned
from bench.processes import Family, Span, watch
from onthedot.launch import wrap
from onthedot.temporal_server import TemporalServer

_QUEUE = "control"
_AT_ONCE = 16  # workflows that are being started
_ROOT = Path(__file__).resolve().parents[1]
_START_WITHIN = 60.0


@dataclass(frozen=True)
class Control:
    """A dev server of its own, with its workers."""

    client: Client
    family: Family
    lags: Sequence[Path]  # where each worker writes

    async def measure(self, kind: Kind, round_: int, tasks: int) -> Measurement:
        """Start a herd of workflows and wait until all have fired."""
        trial = on_trial(kind, tasks)
        begun = time.monotonic()
        await self._start(trial)
        await self.family.rest({})  # a workflow is ready to fire only when it has set its timer
        herd = planned(kind, round_, tasks, trial.tasks / (time.monotonic() - begun - 1))
        registering = Span(self.family)
        rate = await self._start(herd)
        await self.family.rest({}, herd.idle_from - time.time())
        registered, _ = registering.used()
        watched = await watch(self.family, herd, lambda: self._have_all_fired(herd))
        lines = self._lines(herd)
        return Measurement(
            side="control",
            kind=kind,
            round=round_,
            tasks=tasks,
            due=herd.firings,
            registered_per_second=rate,
            registering=registered,
            idle=watched.idle,
            firing=watched.firing,
            firing_seconds=watched.seconds,
            memory=self.family.memory(),
            lags=[float(lag) for _, _, lag in lines],
            problems=_check(herd, lines),
        )

    async def _start(self, herd: Herd) -> float:
        """Start the workflows, ``_AT_ONCE`` at a time; how many a second."""
        order = bare.Herd(first=herd.first, every=EVERY, times=herd.firings)
        left = iter(herd.names)

        async def start_some() -> None:
            for name in left:
                await self.client.start_workflow(bare.Bare.run, order, id=name, task_queue=_QUEUE)

        begun = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            for _ in range(_AT_ONCE):
                clients.create_task(start_some())
        return herd.tasks / (time.monotonic() - begun)

    async def _have_all_fired(self, herd: Herd) -> bool:
        return len(self._lines(herd)) >= herd.tasks * herd.firings

    def _lines(self, herd: Herd) -> list[tuple[str, str, str]]:
        """Name, due time and lag of what has fired."""
        found = []
        for file in self.lags:
            for line in file.read_text(encoding="ascii").splitlines():
                name, due_at, lag = line.split()
                if name.startswith(herd.prefix):
                    found.append((name, due_at, lag))
        return found


def _check(herd: Herd, lines: Sequence[tuple[str, str, str]]) -> list[str]:
    found = Counter((name, due_at) for name, due_at, _ in lines)
    missing = herd.tasks * herd.firings - len(found)
    problems = [f"{missing} firings of the control are missing"] if missing else []
    again = found.total() - len(found)
    return problems + ([f"{again} firings of the control came again"] if again else [])


@asynccontextmanager
async def running(folder: Path, workers: int) -> AsyncIterator[Control]:
    """A fresh dev server and ``workers`` in ``folder``, until the block is left."""
    server = TemporalServer(folder / "temporal.db", free_port(), free_port())
    lags = [folder / f"lags-{number}" for number in range(workers)]
    async with AsyncExitStack() as children:
        engine = await children.enter_async_context(
            _child(server.command(), folder / "temporal.log")
        )
        deadline = time.monotonic() + _START_WITHIN
        while not await server.is_ready():
            if engine.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the control's Temporal did not start: {folder}")
        client = await Client.connect(server.address)
        started = [
            await children.enter_async_context(
                _child([sys.executable, "-P", "-m", "bench.control", server.address], lag)
            )
            for lag in lags
        ]
        pids = [child.pid for child in started]
        yield Control(client, Family({"engine": [engine.pid], "workers": pids}, alone={}), lags)


@asynccontextmanager
async def _child(command: Sequence[str], stdout: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """``command``, as long as the block lasts."""
    with stdout.open("wb") as said, stdout.with_suffix(".err").open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own programs, started at once
            wrap(command),
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, 15)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)


async def _work(address: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = await Client.connect(address)
    async with Worker(client, task_queue=_QUEUE, workflows=[bare.Bare], activities=[bare.note_lag]):
        await stop.wait()
    os._exit(0)  # the SDK's core can abort an interpreter that is wound up


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
