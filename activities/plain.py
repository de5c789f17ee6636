"""Text and JSON that Postgres and the engine can hold: no NUL, no lone surrogate, not too much."""

import json
import math
from typing import Any

from pydantic_core import to_jsonable_python

_DEPTH = 20  # deeper JSON is written as text: decoders recurse


def plain_text(text: str, limit: int = 2_000) -> str:
    """``text`` in at most about ``limit`` bytes of UTF-8, without what Postgres' text refuses."""
    encoded = text.replace("\0", "").encode("utf-8", "replace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    return encoded[:limit].decode("utf-8", "ignore") + "…"


def plain_json(value: Any, limit: int = 4_096) -> tuple[Any, bool]:
    """``value`` as JSON of at most ``limit`` bytes, and whether that is all of it.

    What is too large, or no JSON at all, comes as the start of its text.
    """
    try:
        found = to_jsonable_python(value, serialize_unknown=True, bytes_mode="base64")
        cleaned = _clean(found, _DEPTH)
        text = json.dumps(cleaned, ensure_ascii=False, allow_nan=False)
    except Exception:  # whatever the value's own code raises, the run has ended well
        return plain_text(_describe(value), limit), False
    if len(text.encode()) <= limit:
        return cleaned, True
    return plain_text(text, limit), False


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has none
    if isinstance(value, dict | list) and depth == 0:
        return plain_text(_describe(value), 200)
    if isinstance(value, dict):
        return {_clean(str(key), 1): _clean(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, depth - 1) for item in value]
    return value


def _describe(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # a __repr__ that raises
        return f"a {type(value).__name__} that cannot be shown"
