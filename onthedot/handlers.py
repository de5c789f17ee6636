"""The Python functions that tasks may name, and what such a function is given.

A handler is an ordinary function, sync or async. It gets the task's ``arguments`` as keyword
arguments, checked and converted by its type hints, and, where it asks for one by the annotation
``RunContext`` or the name ``context``, the run's context. A parameter named ``outcome`` gets how
the run ended that this one follows, or None::

    from onthedot.handlers import RunContext

    def send(report: str, context: RunContext) -> int:
        context.print(f"sending {report}, due at {context.due_at}")
        ...

What it returns is kept with the run (as JSON, up to 4 KiB). The operator allows it by
``ONTHEDOT_HANDLERS=reports.daily:send``, or its package does by an entry point in the group
``onthedot.handlers`` whose value is ``module:function`` (or ``module`` for all of them).
"""

import contextlib
import functools
import importlib
import inspect
import logging
import sys
import threading
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from onthedot.errors import FieldError, InvalidInput

ENTRY_POINTS = "onthedot.handlers"


class RunCancelled(Exception):  # noqa: N818  named for what has happened, as all ours
    """The run was cancelled, or took longer than its timeout."""


class RunContext:
    """The run that a handler is called for."""

    def __init__(
        self,
        *,
        run_id: str,
        task_id: str,
        due_at: datetime,
        attempt: int,
        write: Callable[[str], None],
        outcome: dict[str, Any] | None = None,
    ) -> None:
        self.run_id = run_id  # the same at every attempt of the run
        self.task_id = task_id
        self.due_at = due_at  # aware UTC
        self.attempt = attempt  # 1 is the first
        #: How the run ended that this one follows (docs/actions.md); None where it follows none.
        self.outcome = outcome
        #: Set when the run is cancelled or has timed out: a function that is not async cannot be
        #: stopped from outside, so a long one should look at it, or call ``heartbeat``.
        self.cancelled = threading.Event()
        self._write = write

    def print(self, *values: object, sep: str = " ", end: str = "\n") -> None:
        """Like the built-in, into the output of the run."""
        self._write(sep.join(map(str, values)) + end)

    @functools.cached_property
    def logger(self) -> logging.Logger:
        """A logger whose records go into the output of the run."""
        logger = logging.Logger(self.run_id)  # of its own: a registered one would stay for ever
        logger.addHandler(_IntoOutput(self._write))
        return logger

    def heartbeat(self) -> None:
        """Raise RunCancelled when the run is not wanted any more; call it now and then.

        That the run goes on is told to the engine without it.
        """
        if self.cancelled.is_set():
            raise RunCancelled("the run was cancelled, or took longer than its timeout")


class _IntoOutput(logging.Handler):
    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write_text = write
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write_text(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function that tasks may name, with what it takes."""

    name: str
    function: Callable[..., Any]
    signature: inspect.Signature
    types: Mapping[str, TypeAdapter[Any]]
    context_parameter: str | None

    @property
    def is_async(self) -> bool:
        call = getattr(self.function, "__call__", None)  # noqa: B004  an object with an async one
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(call)

    def arguments(
        self, given: Mapping[str, Any], outcome: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """``given`` as the function's keyword arguments; raise InvalidInput naming each field.

        A parameter ``outcome`` that is not given gets ``outcome``: how the run ended that this
        one follows, or None.
        """
        taken = [one for one in self.signature.parameters.values() if self._takes(one)]
        rest = next((one for one in taken if one.kind is one.VAR_KEYWORD), None)
        named = {one.name: one for one in taken if one is not rest}
        told = "outcome" in named and "outcome" not in given
        if told and outcome is not None:
            given = {**given, "outcome": outcome}
        wrong = [
            self._problem(name, None, "missing")
            for name, one in named.items()
            if one.default is one.empty and name not in given and not (told and name == "outcome")
        ]
        converted: dict[str, Any] = {}
        for name, value in given.items():
            if name not in named and (rest is None or name == self.context_parameter):
                wrong.append(self._problem(name, value, "the handler takes no such argument"))
                continue
            adapter = self.types.get(name if name in named else rest.name if rest else name)
            try:
                converted[name] = adapter.validate_python(value) if adapter else value
            except ValidationError as error:
                wrong += [self._problem(name, value, text) for text in _texts(error)]
        InvalidInput.raise_if_any(wrong)
        if told and outcome is None and named["outcome"].default is inspect.Parameter.empty:
            converted["outcome"] = None
        return converted

    def _takes(self, parameter: inspect.Parameter) -> bool:
        by_name = (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
            parameter.VAR_KEYWORD,
        )
        return parameter.kind in by_name and parameter.name != self.context_parameter

    def _problem(self, argument: str, value: Any, problem: str) -> FieldError:
        remedy = f"The handler is {self.name.partition(':')[2]}{self.signature}"
        return FieldError(f"action.arguments.{argument}", value, problem, remedy)


class Handlers:
    """The handlers that the operator allows, and those that installed packages bring along."""

    def __init__(self, allowed: Iterable[str], *, installed: bool = True) -> None:
        """``allowed`` is ``module:function`` or ``module:*`` each; nothing is imported yet."""
        brought = _brought_along() if installed else ()
        self._allowed = frozenset(allowed) | frozenset(brought)
        self._loaded: dict[str, Handler] = {}

    def is_allowed(self, name: str) -> bool:
        """Whether tasks may name ``module:function``; that it exists is not said."""
        module, _, function = name.partition(":")
        if name in self._allowed:
            return True
        return f"{module}:*" in self._allowed and not function.startswith("_")

    def names(self) -> list[str]:
        """All that tasks may name here, sorted. It may import modules; one that cannot be is left out."""
        found = set()
        for allowed in self._allowed:
            module_name, _, function_name = allowed.partition(":")
            if function_name != "*":
                found.add(allowed)
                continue
            with contextlib.suppress(InvalidInput):
                module = _import(allowed, module_name)
                found |= {
                    f"{module_name}:{one}" for one in vars(module) if _may_be_named(module, one)
                }
        return sorted(found)

    def is_loaded(self, name: str) -> bool:
        """Whether ``load`` answers without importing anything."""
        return name in self._loaded

    def load(self, name: str) -> Handler:
        """The handler ``module:function``. It may import a module, which takes its time.

        Raise InvalidInput when it is not allowed, cannot be imported or is no such function.
        """
        if name not in self._loaded:
            self.refuse_if_not_allowed(name)
            self._loaded[name] = self._find(name)
        return self._loaded[name]

    def refuse_if_not_allowed(self, name: str) -> None:
        """Raise InvalidInput when tasks may not name ``module:function``."""
        if not self.is_allowed(name):
            known = ", ".join(sorted(self._allowed)) or "none"
            raise _refusal(
                name,
                "this handler is not allowed here",
                f"Allowed are: {known}; the operator adds to them with ONTHEDOT_HANDLERS",
            )

    def _find(self, name: str) -> Handler:
        module_name, _, function_name = name.partition(":")
        module = _import(name, module_name)
        function = getattr(module, function_name, None)
        if not callable(function) or inspect.isclass(function):
            raise _refusal(
                name,
                f"the module {module_name} has no function {function_name}",
                f"It is in {module.__file__}; name one of its functions",
            )
        # `module:*` means the module's own functions, not all that it happens to import
        if name not in self._allowed and not _is_own(module, function_name, function):
            raise _refusal(
                name,
                f"{function_name} is not {module_name}'s own function",
                f"Only those are allowed by {module_name}:*; the operator may allow {name} itself",
            )
        return _handler(name, function)


def _handler(name: str, function: Callable[..., Any]) -> Handler:
    try:
        signature = inspect.signature(function)
    except ValueError as error:
        raise _refusal(
            name, f"its signature cannot be told: {error}", "Name a Python function"
        ) from error
    for one in signature.parameters.values():
        if one.kind is one.POSITIONAL_ONLY and one.default is one.empty:
            raise _refusal(
                name,
                f"its parameter {one.name} is positional only",
                "Name a function that takes keyword arguments",
            )
    hints = _hints(function)
    context = _context_parameter(signature, hints)
    types = {
        one: adapter
        for one, hint in hints.items()
        if one in signature.parameters and one != context and (adapter := _adapter(hint))
    }
    return Handler(
        name=name, function=function, signature=signature, types=types, context_parameter=context
    )


def _import(name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise _refusal(
            name,
            f"the module {module} cannot be imported: {type(error).__name__}: {error}",
            f"Install it where the workers run, in one of {', '.join(filter(None, sys.path[-3:]))}, "
            "or name its folder in PYTHONPATH",
        ) from error


def _may_be_named(module: ModuleType, name: str) -> bool:
    function = getattr(module, name)
    return inspect.isroutine(function) and name[0] != "_" and _is_own(module, name, function)


def _is_own(module: ModuleType, name: str, function: Callable[..., Any]) -> bool:
    own = getattr(function, "__module__", None) == module.__name__
    return own or name in getattr(module, "__all__", ())


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except Exception:  # hints that cannot be resolved: the arguments go unchecked
        return {}


def _context_parameter(signature: inspect.Signature, hints: Mapping[str, Any]) -> str | None:
    by_type = [one for one in signature.parameters if hints.get(one) is RunContext]
    by_name = ["context"] if "context" in signature.parameters else []
    return next(iter(by_type + by_name), None)


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    """What checks a value against ``hint``; None where pydantic knows no way."""
    try:
        return TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        pass
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        return None


def _texts(error: ValidationError) -> list[str]:
    return [
        ".".join(map(str, one["loc"])) + (": " if one["loc"] else "") + one["msg"]
        for one in error.errors(include_url=False)
    ]


def _brought_along() -> Iterable[str]:
    for one in entry_points(group=ENTRY_POINTS):
        yield one.value if ":" in one.value else f"{one.value}:*"


def _refusal(name: str, problem: str, remedy: str) -> InvalidInput:
    return InvalidInput(FieldError("action.handler", name, problem, remedy))
