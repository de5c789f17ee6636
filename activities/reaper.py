"""Ends the processes of a worker that was killed.

A worker starts this file as a script before its first process, and tells it through a pipe of the
process groups that it starts (``+123``) and of those that have ended (``-123``). When the pipe
closes, however the worker went, the groups that are left are killed: also grandchildren, which a
parent-death signal would not reach. Only the standard library is imported.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading


class Reaper:
    """The worker's end of the pipe. It may be told from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()

    def watch(self, group: int) -> None:
        """Kill the process group ``group`` when this process ends without ``forget``."""
        with self._lock:
            self._groups.add(group)
            self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """The group has ended."""
        with self._lock:
            self._groups.discard(group)
            self._tell(f"-{group}\n")

    def start(self) -> None:
        """Start the process that watches, unless it runs."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.close()  # it was killed
        self._process = subprocess.Popen(  # noqa: S603  this very file
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,  # it is to outlive what ends the worker, such as Ctrl-C
        )
        for group in self._groups:
            self._tell(f"+{group}\n")

    def close(self) -> None:
        """End the process that watches; it kills what is left."""
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
                self._process.wait()
                self._process = None

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                os.write(self._process.stdin.fileno(), line.encode())


def _wait_for_the_end() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        if line.startswith("+"):
            groups.add(int(line))
        else:
            groups.discard(-int(line))
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    _wait_for_the_end()
