"""The work that every side does: note that it was called, or have an HTTP server note it.

Imported by the workers of all sides, also those in an environment of their own: standard library
only, and nothing of ours. A call is a line ``NAME TIME`` in a file of the process's own.
"""

import os
import time
import urllib.request
from collections import defaultdict
from pathlib import Path

FOLDER, URL = "BENCH_CALLS", "BENCH_URL"

_file: tuple[int, int] | None = None  # the process that opened it (workers may fork), the file


def note(name: str) -> None:
    """Write down that ``name`` was called now."""
    global _file
    called_at, pid = time.time(), os.getpid()
    if _file is None or _file[0] != pid:
        path = Path(os.environ[FOLDER]) / f"calls-{pid}"
        _file = (pid, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    os.write(_file[1], f"{name} {called_at:.6f}\n".encode())


def perform(name: str) -> None:
    """What a task does: nothing but the note; or, where there is a server, a call of it."""
    if url := os.environ.get(URL):
        urllib.request.urlopen(f"{url}/{name}", timeout=30).close()
    else:
        note(name)


async def called(name: str) -> None:
    """The note, for those whose functions are async."""
    note(name)


def read(folder: Path, prefix: str) -> dict[str, list[float]]:
    """When each name that begins with ``prefix`` was called (Unix time), sorted."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for file in folder.glob("calls-*"):
        for line in file.read_text(encoding="ascii").splitlines():
            if line.startswith(prefix) and line.count(" ") == 1:
                name, called_at = line.split()
                found[name].append(float(called_at))
    return {name: sorted(moments) for name, moments in found.items()}
