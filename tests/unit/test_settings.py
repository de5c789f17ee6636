import subprocess
import sys
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from onthedot.errors import InvalidSettings
from onthedot.settings import PREFIX, RUN_VARIABLES, Settings
from onthedot.stack import with_local_defaults


def _refusal(**environment: str) -> str:
    with pytest.raises(InvalidSettings) as refused:
        Settings.from_environment(environment)
    return str(refused.value)


def test_without_variables_all_settings_have_their_defaults() -> None:
    assert Settings.from_environment({}) == Settings()
    assert Settings().host == "127.0.0.1"
    assert Settings().shell is False


def test_variables_of_others_are_left_alone() -> None:
    assert Settings.from_environment({"PATH": "/bin", "MY_ONTHEDOT_PORT": "x"}) == Settings()


def test_what_a_command_is_told_of_its_run_is_no_setting() -> None:
    assert Settings.from_environment(dict.fromkeys(RUN_VARIABLES, "x")) == Settings()


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.from_environment({"ONTHEDOT_PORT": ""}) == Settings()


def test_each_setting_is_read_in_its_own_form() -> None:
    settings = Settings.from_environment(
        {
            "ONTHEDOT_PORT": "9090",
            "ONTHEDOT_DATA_DIR": "~/data",
            "ONTHEDOT_SHUTDOWN_GRACE": "1m30s",
            "ONTHEDOT_HANDLERS": "reports:send, reports:*",
            "ONTHEDOT_SHELL": "on",
            "ONTHEDOT_HTTP_ALLOW": "10.0.0.0/8,::1/128",
            "ONTHEDOT_TEMPORAL_ADDRESS": "[::1]:7233",
        }
    )
    assert settings.port == 9090
    assert settings.data_dir == Path.home() / "data"
    assert settings.shutdown_grace == timedelta(seconds=90)
    assert settings.handlers == ("reports:send", "reports:*")
    assert settings.shell is True
    assert settings.http_allow == ("10.0.0.0/8", "::1/128")
    assert settings.temporal == "[::1]:7233"


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("PORT", "0", "a whole number from 1 to 65535"),
        ("PORT", "65536", "a whole number from 1 to 65535"),
        ("PORT", "80.5", "a whole number from 1 to 65535"),
        ("PORT", "-1", "a whole number from 1 to 65535"),
        ("WORKERS", "many", "a whole number from 1 to 256"),
        ("HOST", "  ", "a text that is not empty"),
        ("SHELL", "maybe", "on or off"),
        ("LOG_LEVEL", "loud", "one of DEBUG, INFO, WARNING, ERROR"),
        ("LOG_FORMAT", "xml", "one of text, json"),
        ("HTTP_ALLOW", "10.0.0.1/8", "networks such as 127.0.0.0/8"),
        ("DATABASE_URL", "mysql://localhost/x", "postgresql://user:password@host:5432/onthedot"),
        ("TEMPORAL_ADDRESS", "localhost", "host:port, such as 127.0.0.1:7233"),
        ("TEMPORAL_ADDRESS", "localhost:65536", "host:port, such as 127.0.0.1:7233"),
        ("PUBLIC_URL", "onthedot.example.org", "https://onthedot.example.org"),
        ("PUBLIC_URL", "https://", "https://onthedot.example.org"),
        ("PUBLIC_URL", "https://example.org:0x50", "https://onthedot.example.org"),
        ("PUBLIC_URL", "https://[::1", "https://onthedot.example.org"),
        ("TEMPORAL_UI_URL", "ftp://example.org", "https://onthedot.example.org"),
        ("DATA_DIR", "~nobody-of-this-name/data", "a path"),
        ("SHUTDOWN_GRACE", "soon", "90s, 10m"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_right(name: str, value: str, remedy: str) -> None:
    message = _refusal(**{PREFIX + name: value})
    assert f"{PREFIX}{name} = {value!r}" in message
    assert remedy in message


def test_an_unknown_setting_is_refused_with_the_one_that_was_meant() -> None:
    assert "did you mean ONTHEDOT_PORT?" in _refusal(ONTHEDOT_PROT="1")


def test_all_that_is_wrong_is_named_at_once() -> None:
    message = _refusal(ONTHEDOT_PORT="x", ONTHEDOT_SHELL="y")
    assert "ONTHEDOT_PORT" in message
    assert "ONTHEDOT_SHELL" in message


def test_settings_survive_the_way_through_the_environment() -> None:
    settings = Settings(
        database_url="postgresql://me:pw@localhost/x",
        shutdown_grace=timedelta(minutes=2),
        handlers=("a:b", "c:*"),
        shell=True,
        workers=3,
        http_allow=("127.0.0.0/8",),
    )
    assert Settings.from_environment(settings.to_environment()) == settings


def test_every_setting_says_what_it_means() -> None:
    for one in fields(Settings):
        assert len(one.metadata["meaning"]) > 20, one.name


def test_up_allows_commands_and_loopback() -> None:
    settings = with_local_defaults(Settings(), {})
    assert settings.shell is True
    assert settings.http_allow == ("127.0.0.0/8", "::1/128")
    assert settings.temporal_ui_url == "http://127.0.0.1:8233"


def test_up_leaves_what_the_operator_has_said() -> None:
    environment = {"ONTHEDOT_SHELL": "off", "ONTHEDOT_HTTP_ALLOW": "10.0.0.0/8"}
    settings = with_local_defaults(Settings.from_environment(environment), environment)
    assert settings.shell is False
    assert settings.http_allow == ("10.0.0.0/8",)


def _onthedot(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "onthedot", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["up", "web", "worker", "migrate", "doctor", "settings"])
def test_every_command_refuses_a_wrong_setting_with_code_2(command: str) -> None:
    done = _onthedot(command, ONTHEDOT_PORT="x", ONTHEDOT_DATA_DIR="/nonexistent")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "onthedot: ONTHEDOT_PORT = 'x': not accepted. give a whole number from 1 to 65535\n"
    )


@pytest.mark.parametrize(
    "command", [["web"], ["worker"], ["migrate"], ["sign-in"], ["key", "create", "x"]]
)
def test_a_command_that_needs_a_database_says_so(command: list[str]) -> None:
    done = _onthedot(*command, ONTHEDOT_DATA_DIR="/nonexistent")
    assert done.returncode == 2
    assert "ONTHEDOT_DATABASE_URL" in done.stderr
    assert "start `onthedot up`" in done.stderr
    assert "Traceback" not in done.stderr


def test_secrets_are_not_shown() -> None:
    done = _onthedot(
        "settings",
        ONTHEDOT_DATABASE_URL="postgresql://me:s3cret-pw@localhost/x",
        ONTHEDOT_TEMPORAL_API_KEY="s3cret-key",
    )
    assert done.returncode == 0
    assert "postgresql://me:***@localhost/x" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr


def test_the_command_line_does_not_load_the_engine() -> None:
    script = (
        "import sys, runpy; sys.argv = ['onthedot', 'settings']\n"
        "try: runpy.run_module('onthedot', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "import onthedot.stack, onthedot.doctor\n"
        "print([name for name in sys.modules if name.startswith('temporalio')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
