"""pydantic's errors as FieldErrors, in words that a client can act on."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from onthedot.errors import FieldError

#: Letters of a reason that somebody gives.
MOST_REASON = 500

_INSTANT = (
    "Write an instant with its offset, such as 2026-12-01T09:00:00Z or 2026-12-01T10:00:00+01:00."
)
_SLUG = "Write 1 to 100 lower-case letters, digits, - and _, beginning with a letter or a digit."
_UNIONS = frozenset(("schedule", "action"))  # the part of the location that follows is the kind
_SECTIONS = frozenset(("body", "query", "path", "header"))
_DEEPEST = 200  # objects and lists in one another
_NOT_WRITTEN = frozenset(("[key]", "[text]", "[list]"))  # which of the forms that a field may have

#: What would match each pattern that the API's shapes have.
_PATTERNS = {
    r"^[a-z0-9][a-z0-9_-]{0,99}$": _SLUG,
    r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}$": "Write 1 to 64 letters, digits and _ . : / -, beginning with a letter or a digit.",
    r"^[1-5](\d\d|xx)(\s*,\s*[1-5](\d\d|xx))*$": "Write statuses divided by commas, such as 2xx or 200,204.",
    r"^([1-5]xx|[0-9]{1,3})$": "Write HTTP statuses such as 404 or 4xx, or exit codes such as 2.",
    r"^\d{4}-\d\d-\d\d(/\d{4}-\d\d-\d\d)?$": "Write a day as 2026-12-24, or days as 2026-12-27/2026-12-31.",
    r"^\d{4}-\d\d-\d\d$": "Write a day as 2026-12-24.",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "Write letters, digits and _, not beginning with a digit.",
    r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": "Write module:function, such as reports.daily:send.",
}

_Context = Mapping[str, Any]

#: By the type of pydantic's error: what is wrong, and what would do.
_WORDS: dict[str, tuple[str, Callable[[_Context], str]]] = {
    "missing": ("is missing", lambda _: "Give it."),
    "extra_forbidden": ("is not known here", lambda _: "Leave it out, or correct its name."),
    "literal_error": ("is not one of the choices", lambda c: f"Give one of {c['expected']}."),
    "enum": ("is not one of the choices", lambda c: f"Give one of {c['expected']}."),
    "union_tag_invalid": (
        "is not one of the kinds",
        lambda c: f"Give one of {c['expected_tags']}.",
    ),
    "union_tag_not_found": ("is missing", lambda _: "Give the kind."),
    "string_pattern_mismatch": (
        "does not have the right form",
        lambda c: _PATTERNS.get(c["pattern"], f"Write what matches {c['pattern']}."),
    ),
    "string_too_short": ("is too short", lambda c: f"Write {c['min_length']} or more characters."),
    "string_too_long": ("is too long", lambda c: f"Write at most {c['max_length']} characters."),
    "too_long": ("has too many items", lambda c: f"Give at most {c['max_length']}."),
    "too_short": ("has too few items", lambda c: f"Give at least {c['min_length']}."),
    "greater_than_equal": ("is too small", lambda c: f"Give {_plain(c['ge'])} or more."),
    "less_than_equal": ("is too large", lambda c: f"Give {_plain(c['le'])} or less."),
    "timezone_aware": ("has no offset from UTC", lambda _: _INSTANT),
    "datetime_type": ("is not an instant", lambda _: _INSTANT),
    "datetime_parsing": ("is not an instant", lambda _: _INSTANT),
    "datetime_from_date_parsing": ("is not an instant", lambda _: _INSTANT),
    "datetime_object_invalid": ("is not an instant", lambda _: _INSTANT),
    "string_type": ("is not a text", lambda _: "Write a text in quotes."),
    "int_type": ("is not a whole number", lambda _: "Give a whole number."),
    "int_parsing": ("is not a whole number", lambda _: "Give a whole number."),
    "int_from_float": ("is not a whole number", lambda _: "Give a whole number."),
    "float_type": ("is not a number", lambda _: "Give a number."),
    "float_parsing": ("is not a number", lambda _: "Give a number."),
    "bool_type": ("is neither true nor false", lambda _: "Give true or false."),
    "bool_parsing": ("is neither true nor false", lambda _: "Give true or false."),
    "list_type": ("is not a list", lambda _: "Give a list in [ ]."),
    "dict_type": ("is not an object", lambda _: "Give an object in { }."),
    "model_type": ("is not an object", lambda _: "Give an object in { }."),
    "model_attributes_type": ("is not an object", lambda _: "Give an object in { }."),
}


def field_errors(found: Iterable[Any], body: Any = None) -> Iterator[FieldError]:
    """The field errors of pydantic's ``errors()``; ``body`` is what was sent, where that is known."""
    for error in found:
        yield _broken_json(error, body) if error["type"] == "json_invalid" else _field_error(error)


def unstorable(value: Any, where: str = "body", depth: int = 0) -> Iterator[FieldError]:
    """What JSON may have but is not kept: NUL, lone surrogates, numbers that are none, a deep nest.

    Postgres has no place for the first three.
    """
    if depth > _DEEPEST:
        outer = ".".join(where.split(".")[:5])
        yield FieldError(outer, "...", "is nested too deep", f"Nest at most {_DEEPEST} levels.")
        return
    match value:
        case str():
            if "\x00" in value:
                yield FieldError(where, value, "has a NUL character", "Leave the \\u0000 out.")
            elif any("\ud800" <= letter <= "\udfff" for letter in value):
                yield FieldError(
                    where,
                    value.encode("ascii", "backslashreplace").decode("ascii"),
                    "has half a surrogate pair",
                    "Write the character whole, or leave it out.",
                )
        case float() if not math.isfinite(value):
            yield FieldError(where, str(value), "is not a number in JSON", "Give a finite number.")
        case dict():
            for name, inner in value.items():
                yield from unstorable(name, where)
                inside = name if where == "body" else f"{where}.{name}"
                yield from unstorable(inner, inside, depth + 1)
        case list():
            for position, inner in enumerate(value):
                yield from unstorable(inner, f"{where}.{position}", depth + 1)


def too_long_reason(text: str) -> Iterator[FieldError]:
    """Whether the reason that somebody gives has more letters than are kept."""
    if len(text) > MOST_REASON:
        yield FieldError("reason", text, "is too long", f"Write at most {MOST_REASON} characters.")


def _field_error(error: Mapping[str, Any]) -> FieldError:
    kind, context = error["type"], error.get("ctx", {})
    where, value = _place(error["loc"]), error.get("input")
    if kind == "missing" and where == "body":
        return FieldError(
            where, None, "is missing", "Send a JSON object, with Content-Type: application/json."
        )
    if kind in ("model_attributes_type", "dict_type") and isinstance(value, bytes):
        return FieldError(
            where,
            value.decode("utf-8", "replace"),
            "was not sent as JSON",
            "Send a JSON object, with Content-Type: application/json.",
        )
    if kind.startswith("union_tag"):
        where, value = f"{where}.kind", context.get("tag")
    elif kind == "missing":
        value = None
    if kind == "value_error":
        problem, _, remedy = error["msg"].removeprefix("Value error, ").partition("; ")
        if (
            not remedy
        ):  # our own texts say what would be right, at times without saying what is wrong
            problem, remedy = (
                ("cannot be accepted", problem)
                if problem.startswith("give")
                else (problem, "Correct it")
            )
        return FieldError(where, value, problem, f"{remedy[0].upper()}{remedy[1:].rstrip('.')}.")
    problem, remedy_of = _WORDS.get(kind, (error["msg"].lower(), lambda _: "Correct it."))
    return FieldError(where, value, problem, remedy_of(context))


def _place(location: Sequence[int | str]) -> str:
    """The dotted path that the client wrote: without the section, and the tag of a union."""
    parts = list(location[1:] if location and location[0] in _SECTIONS else location)
    if len(parts) > 1 and parts[0] in _UNIONS:
        del parts[1]
    parts = [part for part in parts if part not in _NOT_WRITTEN]
    return ".".join(map(str, parts)) or "body"


def _broken_json(error: Mapping[str, Any], body: Any) -> FieldError:
    text = body if isinstance(body, str) else ""
    position = error["loc"][-1] if isinstance(error["loc"][-1], int) else 0
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    return FieldError(
        "body",
        text[max(0, position - 20) : position + 20],
        f"is broken JSON at line {line}, column {column}: {error['ctx']['error']}",
        "Send one JSON object (RFC 8259); a trailing comma or single quotes are not allowed.",
    )


def _plain(limit: Any) -> str:
    return json.dumps(limit) if isinstance(limit, int | float) else str(limit)
