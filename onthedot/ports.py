"""The ports that the embedded stack listens on."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

from onthedot.errors import FieldError, InvalidSettings
from onthedot.settings import PREFIX, Settings


def wanted(settings: Settings) -> Iterator[tuple[str, str, int]]:
    """The name of the setting, the host and the port of each that is to be listened on."""
    yield "port", settings.host, settings.port
    if settings.database_url is None:
        yield "postgres_port", "127.0.0.1", settings.postgres_port
    if settings.temporal_address is None:
        yield "temporal_port", "127.0.0.1", settings.temporal_port
        yield "temporal_ui_port", "127.0.0.1", settings.temporal_ui_port
    if settings.metrics_port is not None:
        yield "metrics_port", settings.metrics_host, settings.metrics_port


def check_free(settings: Settings, patience: float = 2) -> None:
    """Raise InvalidSettings that names each port which is in use.

    ``patience`` is for how many seconds one is waited for whose process may be on its way out.
    """
    deadline = time.monotonic() + patience
    while found := _problems(settings):
        if time.monotonic() > deadline:
            raise InvalidSettings(*found)
        time.sleep(0.1)


def _problems(settings: Settings) -> list[FieldError]:
    found = []
    with ExitStack() as bound:  # all at once, so that two settings with one port are found too
        for name, host, port in wanted(settings):
            try:
                bound.enter_context(_bound(host, port))
            except OSError as error:
                found.append(_problem(name, host, port, error))
    return found


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


def _problem(name: str, host: str, port: int, error: OSError) -> FieldError:
    variable = PREFIX + name.upper()
    if isinstance(error, socket.gaierror):
        return FieldError(PREFIX + "HOST", host, "no such host", "give an address of this machine")
    problem = f"cannot listen on {host}:{port} ({error.strerror or error})"
    remedy = f"end what listens there, or set {variable} to another port, such as {free(host)}"
    return FieldError(variable, port, problem, remedy)


def free(host: str) -> int:
    """A port of ``host`` that nothing listens on just now."""
    try:
        with _bound(host, 0) as listener:
            port: int = listener.getsockname()[1]
            return port
    except OSError:
        return 18080
