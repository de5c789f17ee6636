"""The peers' own programs, each set up as its documentation recommends.

They run in an environment of their own (see bench.peer), which has neither our package nor what it
depends on. Each is run as ``python -m bench.peers.NAME ROLE``. The role ``clerk`` reads works from
its input, one a line, as bench.plan.Work writes them, and answers with the seconds that it took to
register one.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def cron_fields(start: int, every: int) -> tuple[str, str]:
    """The seconds and the minutes of what is due at ``start`` (Unix) and every so many seconds.

    They are fewer than a minute, or whole minutes.
    """
    if every < 60:
        return f"{start % every}-59/{every}", "*"
    minutes = every // 60
    return str(start % 60), f"{start // 60 % minutes}-59/{minutes}"


def clerk(register: Callable[[dict[str, Any]], None]) -> None:
    """Register works until the input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.monotonic()
        register(json.loads(line))
        print(time.monotonic() - begun, flush=True)
