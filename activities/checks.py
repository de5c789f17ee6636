"""What is wrong with an action, as far as it can be told before it ever runs."""

import functools

from activities import http, python, shell
from onthedot.errors import FieldError
from onthedot.handlers import Handlers
from onthedot.settings import Settings
from onthedot.task import Action, HttpAction, PythonAction, ShellAction


def check_action(action: Action, settings: Settings, queue: str) -> list[FieldError]:
    """Each field of ``action`` that cannot be accepted; none when all is well.

    For the queue ``default`` this machine stands for the workers: programs are looked for, and a
    handler's module is imported. Workers of other queues may run elsewhere, so there only what the
    operator allows is asked.
    """
    here = queue == "default"
    match action:
        case HttpAction():
            return http.check(action, settings)
        case ShellAction():
            return shell.check(action, settings, here=here)
        case PythonAction():
            return python.check(action, _handlers(settings.handlers), here=here)
    return []


def takes_time(action: Action, settings: Settings) -> bool:
    """Whether ``check_action`` may have to import a module, which may take seconds."""
    return isinstance(action, PythonAction) and not _handlers(settings.handlers).is_loaded(
        action.handler
    )


@functools.lru_cache(maxsize=4)
def _handlers(allowed: tuple[str, ...]) -> Handlers:
    return Handlers(allowed)
