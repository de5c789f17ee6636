"""A worker that is told to stop."""

import asyncio
import signal
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from onthedot.settings import Settings
from onthedot.task import TaskRegistration
from tests import services
from tests.running import office, worker_process

GRACE = 6.0


async def test_all_its_queues_have_their_grace_at_the_same_time(
    database_url: str, temporal_server: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=database_url, temporal_address=temporal_server, shell=True)
    queues = [f"stops-{number}" for number in range(3)]
    arguments = ["--role", "executor", *(one for name in queues for one in ("--queue", name))]
    limited = replace(settings, shutdown_grace=timedelta(seconds=GRACE))
    with worker_process(settings, tmp_path / "sends.log", "--role", "scheduler"):
        async with office(settings) as at:
            with worker_process(limited, tmp_path / "stops.log", *arguments) as worker:
                for queue in queues:
                    sent = {
                        "id": queue,
                        "name": queue,
                        "schedule": {"kind": "once", "in": "1s"},
                        "action": {
                            "kind": "shell",
                            "script": f"touch {tmp_path / queue}; sleep 600",
                        },
                        "queue": queue,
                    }
                    await at.registration.register(TaskRegistration.model_validate(sent), by="me")
                for queue in queues:
                    await services.assert_eventually((tmp_path / queue).exists, within=60)
                worker.send_signal(signal.SIGTERM)
                told_at = time.monotonic()
                assert await asyncio.to_thread(worker.wait, 60) == 0
    assert GRACE - 0.5 < time.monotonic() - told_at < 2 * GRACE
