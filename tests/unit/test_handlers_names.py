"""The names that a form may suggest."""

from onthedot.handlers import Handlers


def test_names_are_those_allowed_and_each_function_of_an_allowed_module() -> None:
    allowed = ("onthedot.examples:*", "somewhere.else:send", "no.such.module:*")
    names = Handlers(allowed, installed=False).names()
    assert names == [
        "onthedot.examples:count_words",
        "onthedot.examples:hello",
        "onthedot.examples:noop",
        "somewhere.else:send",
    ]
