"""Workers that run other code than ours."""

import shutil
from pathlib import Path

from tests.faults.cluster import Part

OURS = Path(__file__).parents[2]
_PARTS = ("onthedot", "workflows", "activities", "web", "templates", "tests")


def changed(folder: Path, module: str, old: str, new: str) -> Path:
    """A copy of our code in ``folder``; in ``module``, a path in it, ``new`` is for ``old``."""
    for part in _PARTS:
        shutil.copytree(OURS / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / module
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")
    return folder


async def come_back_with(worker: Part, code: Path) -> None:
    worker.code = code
    await worker.restart()
