"""When a herd is due: after all of it is registered, and the idle processes were looked at."""

import contextlib
import math
import random
import socket
import time
from dataclasses import dataclass

from bench.figures import Kind
from onthedot.schedule import times

#: No run is sent to a worker earlier than this before it is due, in seconds.
LONGEST_LEAD = times.LONGEST_LEAD.total_seconds()
#: The recurring herd: seconds from one firing to the next, and how many are counted.
EVERY, FIRINGS = 45, 2

_SETTLE, _IDLE, _MARGIN = 1.0, 3.0, 2.0
_SLOWER = 1.3  # the herd may be registered slower than its first tasks were

#: Below those that Linux gives to outgoing connections.
_PORTS = range(20_000, 30_000)


@dataclass(frozen=True, kw_only=True)
class Herd:
    """``tasks`` that are due together: first at ``first`` (Unix time), then every EVERY seconds."""

    kind: Kind
    round: int
    tasks: int
    first: float

    @property
    def firings(self) -> int:
        """How many of the due times are counted."""
        return FIRINGS if self.kind == "interval" else 1

    @property
    def due(self) -> list[float]:
        return [self.first + number * EVERY for number in range(self.firings)]

    @property
    def idle_from(self) -> float:
        return self.idle_until - _IDLE

    @property
    def idle_until(self) -> float:
        """When the first leads are about to begin."""
        return self.first - LONGEST_LEAD - 0.5

    @property
    def prefix(self) -> str:
        return f"{self.kind}-{self.round}-"

    @property
    def names(self) -> list[str]:
        return [f"{self.prefix}{number:05}" for number in range(self.tasks)]


def on_trial(kind: Kind, tasks: int) -> Herd:
    """A few of the same that are due when all is over, to see how fast they are registered."""
    return Herd(kind=kind, round=0, tasks=max(16, tasks // 10), first=time.time() + 7200)


def planned(kind: Kind, round_: int, tasks: int, rate: float) -> Herd:
    """A herd that is registered from now on, about ``rate`` tasks a second."""
    takes = tasks / rate * _SLOWER + _MARGIN + _SETTLE + _IDLE + 0.5 + LONGEST_LEAD
    return Herd(kind=kind, round=round_, tasks=tasks, first=float(math.ceil(time.time() + takes)))


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that no outgoing connection is given."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no port from {_PORTS[0]} to {_PORTS[-1]} is free")
