"""What is to be done: tasks, and when they are due."""

import contextlib
import json
import math
import random
import socket
import time
from dataclasses import asdict, dataclass
from typing import Literal

from onthedot.schedule import times

Kind = Literal["once", "recurring"]
Action = Literal["noop", "http"]

#: No run of Onthedot's is sent to a worker earlier than this before it is due, in seconds.
LONGEST_LEAD = times.LONGEST_LEAD.total_seconds()
#: The recurring herd: a minute, which every side can express, and how many firings are counted.
EVERY, FIRINGS = 60, 2
#: Larger ones recur every five minutes: two cores could not fire them in one.
LARGE, EVERY_LARGE = 2000, 300
#: Steady tasks recur every so many seconds: a tenth of them is due in each second.
STEADY_EVERY = 10
#: How long the processes are looked at before anything is due, in seconds.
IDLE = 3.0
_SETTLE, _MARGIN = 1.0, 2.0
_SLOWER = 1.3  # a herd may be registered slower than its first tasks were

#: Below those that Linux gives to outgoing connections.
_PORTS = range(20_000, 30_000)
_given: set[int] = set()


@dataclass(frozen=True, kw_only=True)
class Work:
    """``tasks`` that are due ``times`` times, ``every`` so many seconds from ``first`` (Unix) on.

    Those of one second are due together; ``seconds`` is how many seconds they are spread over.
    """

    label: str  # what their names begin with
    tasks: int
    first: int
    every: int | None = None  # None: once
    times: int = 1
    seconds: int = 1

    @property
    def names(self) -> list[str]:
        return [f"{self.label}-{number:05}" for number in range(self.tasks)]

    def starts(self) -> list[tuple[str, int]]:
        """Each name, and when it is due for the first time."""
        return [
            (name, self.first + number % self.seconds) for number, name in enumerate(self.names)
        ]

    def due(self, start: int) -> list[int]:
        """All due times that are counted of a task that is first due at ``start``."""
        return [start + number * (self.every or 0) for number in range(self.times)]

    @property
    def firings(self) -> int:
        return self.tasks * self.times

    @property
    def last(self) -> int:
        return self.first + self.seconds - 1 + (self.times - 1) * (self.every or 0)

    def text(self) -> str:
        """As one line of JSON, for a program that has not this class."""
        return json.dumps({**asdict(self), "starts": self.starts()})


def warm_up(tasks: int) -> Work:
    """A few one-time tasks that are due at once, before anything is measured."""
    number = min(200, max(16, tasks // 10))
    label = f"warm{time.time_ns() // 1_000_000}"  # one may be followed by another
    return Work(label=label, tasks=number, first=math.ceil(time.time()) + 5)


def herd(kind: Kind, tasks: int, rate: float, lead: float) -> Work:
    """Tasks that are due in the same second, registered from now on, about ``rate`` a second."""
    first = math.ceil(time.time() + tasks / rate * _SLOWER + _MARGIN + _SETTLE + IDLE + 0.5 + lead)
    if kind == "once":
        return Work(label="herd", tasks=tasks, first=first)
    every = EVERY if tasks <= LARGE else EVERY_LARGE
    return Work(label="herd", tasks=tasks, first=first, every=every, times=FIRINGS)


def steady(per_second: int, seconds: int, rate: float, lead: float) -> Work:
    """Recurring tasks of which so many are due in each second, for so many seconds."""
    tasks = per_second * STEADY_EVERY
    first = math.ceil(time.time() + tasks / rate * _SLOWER + _MARGIN + _SETTLE + IDLE + 0.5 + lead)
    return Work(
        label="steady",
        tasks=tasks,
        first=first,
        every=STEADY_EVERY,
        times=max(1, seconds // STEADY_EVERY),
        seconds=STEADY_EVERY,
    )


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that no outgoing connection is given.

    A process gets each only once: who asked for one may not listen yet.
    """
    # Not by the seed, which tests set: two processes would choose the same.
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    raise RuntimeError(f"no port from {_PORTS[0]} to {_PORTS[-1]} is free")
