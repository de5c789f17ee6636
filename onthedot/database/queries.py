"""SQL by name: each statement of a ``.sql`` file stands under a ``-- name: the_name`` line."""

import re
from pathlib import Path

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)


def load(path: str | Path) -> dict[str, str]:
    """The statements of the file by their names: ``SQL = load(Path(__file__).with_suffix(".sql"))``.

    Raise ValueError when a name comes twice, or when something stands before the first name that
    is not a comment.
    """
    text = Path(path).read_text(encoding="utf-8")
    head, *parts = _NAME.split(text)
    if any(line and not line.startswith("--") for line in map(str.strip, head.splitlines())):
        raise ValueError(f"{path}: a statement stands before the first '-- name:' line")
    statements: dict[str, str] = {}
    for name, statement in zip(parts[::2], parts[1::2], strict=True):
        if name in statements:
            raise ValueError(f"{path}: the name {name} comes twice")
        statements[name] = statement.strip().removesuffix(";")
    return statements
