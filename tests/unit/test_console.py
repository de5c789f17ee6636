import io
import threading

import pytest

from onthedot.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Paused(io.StringIO):
    """A terminal that takes nothing until it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    def write(self, text: str) -> int:
        self.goes_on.wait(30)
        return super().write(text)


def test_a_file_gets_plain_lines() -> None:
    stream = io.StringIO()
    console = Console(stream)
    with console.step("Postgres"):
        console.relay("worker-1", "hello")
    console.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "  worker-1 hello"
    assert lines[1].startswith("  ok  Postgres (0.")
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_shows_the_step_that_goes_on_below_what_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    console = Console(stream)
    with console.step("Postgres"):
        console.relay("web", "hello")
    console.close()
    assert stream.getvalue().split("\r\x1b[K")[1:3] == [
        "  ... Postgres",
        "\x1b[36m       web\x1b[0m hello\n  ... Postgres",
    ]


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    console = Console(stream)
    console.relay("web", "hello")
    console.close()
    assert stream.getvalue() == "\r\x1b[K       web hello\n"


def test_a_step_that_goes_wrong_is_marked() -> None:
    stream = io.StringIO()
    console = Console(stream)
    with pytest.raises(RuntimeError), console.step("Temporal"):
        raise RuntimeError
    console.close()
    assert stream.getvalue() == "  no  Temporal\n"


def test_a_paused_terminal_holds_nobody_up_and_what_was_left_out_is_counted() -> None:
    stream = Paused()
    console = Console(stream, held=10)
    for number in range(100):
        console.say(f"line {number}")
    stream.goes_on.set()
    console.close(within=10)
    console.say("the last one")
    console.close(within=10)
    text = stream.getvalue()
    assert "lines were left out here)" in text
    assert text.endswith("the last one\n")
    assert text.count("line ") < 15


def test_a_reader_that_has_gone_stops_nothing() -> None:
    stream = io.StringIO()
    console = Console(stream)
    stream.close()
    console.say("into the void")
    console.say("again")
    console.close()
