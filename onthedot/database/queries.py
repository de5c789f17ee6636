"""SQL by name: each statement of a ``.sql`` file stands under a ``-- name: the_name`` line.

A statement names the columns that it answers with, ``<task>`` for many of them: ``*`` would be
others after a migration, and a connection refuses what it has prepared before.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)
_COLUMNS = re.compile(r"<([a-z_]+)>")


def load(path: str | Path, **columns: Sequence[str]) -> dict[str, str]:
    """The statements of the file by their names: ``SQL = load(Path(__file__).with_suffix(".sql"))``.

    ``columns`` stand in place of their names in angle brackets. Raise ValueError when a name comes
    twice, or when something stands before the first name that is not a comment; KeyError for columns
    that are not given.
    """
    text = Path(path).read_text(encoding="utf-8")
    head, *parts = _NAME.split(text)
    if any(line and not line.startswith("--") for line in map(str.strip, head.splitlines())):
        raise ValueError(f"{path}: a statement stands before the first '-- name:' line")
    statements: dict[str, str] = {}
    for name, statement in zip(parts[::2], parts[1::2], strict=True):
        if name in statements:
            raise ValueError(f"{path}: the name {name} comes twice")
        plain = statement.strip().removesuffix(";")
        statements[name] = _COLUMNS.sub(lambda found: ", ".join(columns[found[1]]), plain)
    return statements


def columns_of(kept: type) -> list[str]:
    """The columns of a dataclass that is stored field by field."""
    return [field.name for field in dataclasses.fields(kept)]
