"""Writes docs/settings.md from the settings themselves: ``make docs``."""

import dataclasses
from datetime import timedelta
from pathlib import Path

from onthedot import duration
from onthedot.settings import PREFIX, Settings

PAGE = Path(__file__).with_name("settings.md")

_INTRODUCTION = """\
# Settings

Settings come from the environment. A wrong one is refused at start with its name, its value and
what would be right; so is one that does not exist. An empty one counts as not given.

Durations are written `90s`, `10m`, `2h`, `1d` or ISO 8601 (`PT10M`); switches are `on` or `off`;
lists are divided by commas.

| variable | default | meaning |
| --- | --- | --- |
"""


def page() -> str:
    """The whole page, as it should be in docs/settings.md."""
    rows = [
        f"| `{PREFIX}{one.name.upper()}` | {_default(one.default)} | {_cell(one.metadata['meaning'])} |"
        for one in dataclasses.fields(Settings)
    ]
    return _INTRODUCTION + "\n".join(rows) + "\n"


def _default(value: object) -> str:
    match value:
        case None | ():
            return "none"
        case bool():
            return "`on`" if value else "`off`"
        case Path():
            return f"`{value.name}` in the working folder"
        case timedelta():
            return f"`{duration.write(value)}`"
        case _:
            return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
