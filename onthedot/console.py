"""What `onthedot up` shows: steps as they are done, then what the children say."""

import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_COLOURS = (36, 35, 34, 32, 33, 31)  # ANSI: cyan, magenta, blue, green, yellow, red
_CLEAR_LINE = "\r\x1b[K"


class Console:
    """Lines for a person. Only a terminal gets colours (see https://no-color.org).

    A thread does the writing: a terminal that was paused (Ctrl-S) must not hold up those who
    speak. When it is far behind, lines are left out and counted.
    """

    def __init__(self, stream: TextIO = sys.stdout, *, held: int = 5_000) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._colourful = self._is_terminal and "NO_COLOR" not in os.environ
        self._colours: dict[str, int] = {}
        self._step = ""  # what goes on, on the last line of a terminal
        self._lines: queue.Queue[tuple[str | None, str]] = queue.Queue(held)
        self._left_out = 0
        self._writer = threading.Thread(target=self._write_all, name="console", daemon=True)
        self._writer.start()

    def say(self, text: str = "") -> None:
        self._put(text)

    def relay(self, name: str, text: str) -> None:
        """Show a line that the child ``name`` said."""
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        self._put(f"{self._painted(f'{name:>10}', colour)} {text}")

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show that ``what`` is going on, and afterwards how long it took."""
        begun = time.monotonic()
        self._step = f"  ... {what}" if self._is_terminal else ""
        self._put(None)
        ending = f"  {self._painted('no ', 31)} {what}"
        try:
            yield
            took = time.monotonic() - begun
            ending = f"  {self._painted('ok ', 32)} {what} ({took:.1f} s)"
        finally:
            self._step = ""
            self._put(ending)

    def close(self, within: float = 2) -> None:
        """Wait up to ``within`` seconds until all is written."""
        deadline = time.monotonic() + within
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)

    def _painted(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colourful else text

    def _put(self, line: str | None) -> None:
        try:
            self._lines.put_nowait((line, self._step))
        except queue.Full:
            self._left_out += 1

    def _write_all(self) -> None:
        clear = _CLEAR_LINE if self._is_terminal else ""
        while True:
            line, step = self._lines.get()
            left_out, self._left_out = self._left_out, 0
            if left_out:
                self._write(f"{clear}({left_out} lines were left out here)\n")
            self._write(clear + ("" if line is None else line + "\n") + step)
            self._lines.task_done()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads any more: that must not stop the stack
        except UnicodeEncodeError:
            self._stream.write(text.encode("ascii", "replace").decode("ascii"))
