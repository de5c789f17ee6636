"""JSON Merge Patch (RFC 7396)."""

from typing import Any

#: Parts of a task whose fields depend on their kind.
_OF_A_KIND = ("schedule", "action")


def merge(target: Any, patch: Any) -> Any:
    """``target`` with ``patch`` applied (RFC 7396, 2): null removes, objects merge, else replaced."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def merge_spec(spec: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The same for the JSON of a TaskSpec. A schedule or an action of another kind replaces the
    stored one: the fields of the old kind mean nothing to the new.
    """
    base = dict(spec)
    for name in _OF_A_KIND:
        given = patch.get(name)
        if isinstance(given, dict) and given.get("kind", base[name]["kind"]) != base[name]["kind"]:
            base[name] = {}
    merged: dict[str, Any] = merge(base, patch)
    return merged
