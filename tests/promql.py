"""As much of PromQL as it takes to find the names of metrics in it."""

import re
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_MATCHERS = re.compile(r"\{[^{}]*\}")
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^{}]*)\}")
_EQUALS = re.compile(r'(\w+)="([^"]*)"')
_RANGE = re.compile(r"\[[^\[\]]*\]")
_LABELS = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\()")
_KEYWORDS = frozenset(("and", "or", "unless", "bool", "offset"))
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def names(expression: str) -> set[str]:
    """The metrics that ``expression`` asks for; raise ValueError where brackets do not match."""
    left = _STRING.sub("", expression)
    for what in (_MATCHERS, _RANGE, _LABELS):
        left = what.sub(" ", left)
    if left.count("(") != left.count(")") or re.search(r"[\[\]{}\"']", left):
        raise ValueError(f"brackets or quotes do not match: {expression}")
    left = re.sub(r"\b\d+(\.\d+)?[smhdw]?\b", " ", left)
    return {
        word
        for match in _WORD.finditer(left)
        if (word := match.group()) not in _KEYWORDS and not _is_cut(left, match.end())
    }


def wanted_labels(expression: str) -> set[tuple[str, str, str]]:
    """The metrics with a label and the value that it must have: ``a{b="c"}`` is (a, b, c)."""
    return {
        (metric, label, value)
        for metric, matchers in _SELECTOR.findall(expression)
        for label, value in _EQUALS.findall(matchers)
    }


def _is_cut(text: str, end: int) -> bool:
    """Whether the match ended within a word, because the whole is a function."""
    return end < len(text) and re.match(r"[a-zA-Z0-9_:]", text[end]) is not None


def scraped(text: str) -> set[str]:
    """The names under which the metrics in a scrape can be asked for, also before they have values."""
    found: set[str] = set()
    for family in text_string_to_metric_families(text):
        found |= {sample.name for sample in family.samples}
        found |= {family.name + suffix for suffix in _SUFFIXES.get(family.type, ("",))}
    return found


def samples(text: str, name: str, **labels: str) -> float:
    """The sum of the samples of ``name`` that have ``labels``."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def values_of(text: str, name: str, label: str) -> set[str]:
    """The values that ``label`` has in the samples of ``name``."""
    return {
        sample.labels[label]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and label in sample.labels
    }


def label_values(text: str, prefix: str) -> Iterable[str]:
    """All values of all labels of the metrics whose name begins with ``prefix``."""
    return {
        value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(prefix)
        for value in sample.labels.values()
    }
