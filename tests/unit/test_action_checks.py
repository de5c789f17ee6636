"""What is refused when a task is registered: each field named, nothing run."""

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from activities.checks import check_action
from onthedot.errors import FieldError
from onthedot.settings import Settings
from onthedot.task import Action

OPEN = Settings(shell=True, handlers=("onthedot.examples:*", "json:dumps", "no.such.module:run"))
_ACTION: TypeAdapter[Action] = TypeAdapter(Action)


def check(
    action: dict[str, Any], settings: Settings = OPEN, queue: str = "default"
) -> list[FieldError]:
    return check_action(_ACTION.validate_python(action), settings, queue)


def fields(action: dict[str, Any], settings: Settings = OPEN, queue: str = "default") -> list[str]:
    return [one.field for one in check(action, settings, queue)]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "https://user:pw@example.com:8443/a?b=c#d",
        "http://bücher.example/",
        "http://[2606:4700::1111]/",
    ],
)
def test_a_url_is_accepted(url: str) -> None:
    assert check({"kind": "http", "url": url}) == []


@pytest.mark.parametrize(
    "url",
    ["example.com", "/path", "ftp://example.com", "file:///etc/passwd", "http://", "http:///x",
     "http://example.com:99999", "http://example.com:0/", "http://exa mple.com", "http://a\nb/",
     "http://[::1", "javascript:alert(1)", "http://127.0.0.1/", "http://169.254.169.254/latest",
     "http://[::ffff:10.0.0.1]/", "http:\\\\example.com"],
)  # fmt: skip
def test_what_is_no_url_to_a_public_place_is_refused(url: str) -> None:
    (wrong,) = check({"kind": "http", "url": url})
    assert wrong.field == "action.url"
    assert wrong.value == url
    assert wrong.remedy


def test_a_private_address_that_the_operator_allows_is_accepted() -> None:
    settings = Settings(http_allow=("127.0.0.0/8",))
    assert check({"kind": "http", "url": "http://127.0.0.1:9/"}, settings) == []


@pytest.mark.parametrize(
    "headers",
    [{"Bad Name": "x"}, {"": "x"}, {"X-Line": "a\r\nInjected: 1"}, {"X-Nul": "a\0"},
     {"Content-Length": "3"}, {"host": "other"}, {"Transfer-Encoding": "chunked"}],
)  # fmt: skip
def test_a_header_that_cannot_be_sent_is_refused(headers: dict[str, str]) -> None:
    (name,) = headers
    action = {"kind": "http", "url": "http://example.com", "headers": headers}
    assert fields(action) == [f"action.headers.{name}"]


def test_headers_that_say_different_things_are_refused() -> None:
    url = "http://example.com"
    twice = {"kind": "http", "url": url, "headers": {"accept": "a", "Accept": "b"}}
    assert fields(twice) == ["action.headers.accept"]
    users = {"kind": "http", "url": "http://me:pw@example.com", "headers": {"Authorization": "x"}}
    assert fields(users) == ["action.headers.authorization"]


def test_a_command_is_accepted_where_it_can_run(tmp_path: Path) -> None:
    action = {"kind": "shell", "command": ["/bin/echo", "hi"], "cwd": str(tmp_path)}
    assert check(action) == []
    assert check({"kind": "shell", "script": "echo hi"}) == []


@pytest.mark.parametrize(
    ("action", "field"),
    [
        ({"command": ["echo"]}, "action.command"),
        ({"command": ["./echo"]}, "action.command"),
        ({"command": ["/no/such/program"]}, "action.command"),
        ({"command": ["/etc"]}, "action.command"),
        ({"command": ["/etc/passwd"]}, "action.command"),
        ({"command": ["/bin/echo", "a\0"]}, "action.command.1"),
        ({"script": "echo \0"}, "action.script"),
        ({"script": " \n\t"}, "action.script"),
        ({"script": "echo", "cwd": "here"}, "action.cwd"),
        ({"script": "echo", "cwd": "/no/such/folder"}, "action.cwd"),
        ({"script": "echo", "env": {"ONTHEDOT_RUN_ID": "x"}}, "action.env.ONTHEDOT_RUN_ID"),
        ({"script": "echo", "env": {"A": "\0"}}, "action.env.A"),
    ],
)
def test_a_command_that_cannot_run_is_refused(action: dict[str, Any], field: str) -> None:
    assert fields({"kind": "shell", **action}) == [field]


def test_commands_are_refused_where_they_are_turned_off() -> None:
    (wrong,) = check({"kind": "shell", "command": ["/bin/echo"]}, Settings())
    assert wrong.field == "action.kind"
    assert "ONTHEDOT_SHELL" in wrong.remedy


def test_workers_elsewhere_may_have_other_programs_and_handlers() -> None:
    assert check({"kind": "shell", "command": ["/no/such/program"]}, queue="reports") == []
    assert check({"kind": "python", "handler": "no.such.module:run"}, queue="reports") == []
    assert fields({"kind": "shell", "command": ["echo"]}, queue="reports") == ["action.command"]
    assert fields({"kind": "python", "handler": "os:system"}, queue="reports") == ["action.handler"]
    assert fields({"kind": "shell", "script": "x"}, Settings(), "reports") == ["action.kind"]


@pytest.mark.parametrize(
    "handler",
    ["os:system", "no.such.module:run", "onthedot.examples:missing", "onthedot.examples:Counter",
     "onthedot.examples:RunContext", "onthedot.examples:_private"],
)  # fmt: skip
def test_a_handler_that_may_not_or_cannot_run_is_refused(handler: str) -> None:
    (wrong,) = check({"kind": "python", "handler": handler})
    assert wrong.field == "action.handler"
    assert wrong.value == handler


def test_a_handler_that_is_not_allowed_is_not_imported() -> None:
    assert fields({"kind": "python", "handler": "antigravity:fly"}) == ["action.handler"]
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "text"),
        ({"text": 3}, "text"),
        ({"text": "a", "most": "many"}, "most"),
        ({"text": "a", "other": 1}, "other"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], field: str) -> None:
    action = {"kind": "python", "handler": "onthedot.examples:count_words", "arguments": arguments}
    (wrong,) = check(action)
    assert wrong.field == f"action.arguments.{field}"
    assert "count_words(text: str, most: int = 5)" in wrong.remedy


def test_the_context_is_not_the_clients_to_give() -> None:
    arguments = {"context": {}}
    action = {"kind": "python", "handler": "onthedot.examples:hello", "arguments": arguments}
    assert fields(action) == ["action.arguments.context"]


def test_arguments_that_fit_are_accepted() -> None:
    for handler, arguments in (("hello", {"name": "Ada"}), ("hello", {}), ("noop", {})):
        action = {
            "kind": "python",
            "handler": f"onthedot.examples:{handler}",
            "arguments": arguments,
        }
        assert check(action) == []


def test_a_workflow_is_accepted() -> None:
    assert check({"kind": "workflow", "type": "Invoice", "queue": "billing"}) == []
