"""Durations as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from onthedot import duration
from onthedot.duration import Duration, DurationOrZero


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("1h30m", timedelta(minutes=90)),
        (" 1H 30M ", timedelta(minutes=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("1.5s", timedelta(seconds=1.5)),
        ("1d", timedelta(days=1)),
        ("2w", timedelta(weeks=2)),
        ("PT10M", timedelta(minutes=10)),
        ("pt1.5s", timedelta(seconds=1.5)),
        ("P1DT12H", timedelta(hours=36)),
        ("P2W", timedelta(weeks=2)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, expected: timedelta) -> None:
    assert duration.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "10",
        "s",
        "10x",
        "-5m",
        "5m-",
        "1h 30",
        "ten minutes",
        "P",
        "PT",
        "P1H",
        "PT.",
        "PT1.2.3S",
    ],
)
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="90s, 10m"):
        duration.parse(text)


@pytest.mark.parametrize("text", ["36501d", "9" * 400 + "d", "P99999999999D"])
def test_a_duration_beyond_a_hundred_years_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="100 years"):
        duration.parse(text)


@given(st.integers(0, 36_500 * 86_400_000))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    span = timedelta(milliseconds=milliseconds)
    assert duration.parse(duration.write(span)) == span


def test_a_zero_is_refused_where_a_duration_must_be_positive() -> None:
    with pytest.raises(ValidationError, match="longer than zero"):
        TypeAdapter(Duration).validate_python("0s")
    assert TypeAdapter(DurationOrZero).validate_python("0s") == timedelta(0)


@pytest.mark.parametrize("value", [90, 1.5, None, True, ["90s"]])
def test_a_duration_is_written_as_text(value: object) -> None:
    with pytest.raises(ValidationError, match="written as text"):
        TypeAdapter(Duration).validate_python(value)


def test_a_duration_is_shown_as_it_is_written() -> None:
    adapter = TypeAdapter(Duration)
    assert adapter.dump_python(adapter.validate_python("5400s"), mode="json") == "1h30m"
