"""What operators see of the registration service: how long each call took, and its span."""

import functools
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from onthedot import metrics, tracing
from onthedot.errors import DatabaseUnavailable, OnthedotError

_P = ParamSpec("_P")
_R = TypeVar("_R")


def observed(
    request: str,
) -> Callable[[Callable[_P, Awaitable[_R]]], Callable[_P, Awaitable[_R]]]:
    """Decorates a method of the registration service; ``request`` names it in metrics and traces."""

    def decorate(method: Callable[_P, Awaitable[_R]]) -> Callable[_P, Awaitable[_R]]:
        @functools.wraps(method)
        async def measured(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            began, outcome = time.perf_counter(), "error"
            with tracing.span(f"registration {request}"):
                try:
                    answer = await method(*args, **kwargs)
                    outcome = "done" if getattr(answer, "in_step", True) else "pending"
                    return answer
                except DatabaseUnavailable:
                    outcome = "unavailable"
                    raise
                except OnthedotError:
                    outcome = "refused"
                    raise
                finally:
                    spent = time.perf_counter() - began
                    metrics.REGISTRATION.labels(request, outcome).observe(spent)
                    tracing.describe(outcome=outcome)

        return measured

    return decorate
