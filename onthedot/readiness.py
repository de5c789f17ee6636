"""Telling who started us that we are ready: systemd's protocol, sd_notify(3)."""

import contextlib
import os
import secrets
import socket
from collections.abc import Mapping

_VARIABLE = "NOTIFY_SOCKET"


def announce() -> None:
    """Say that this process is ready; nothing happens where nobody has asked for it."""
    address = os.environ.get(_VARIABLE)
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
        # "@" stands for the zero byte that begins an abstract address: unix(7).
        sender.sendto(b"READY=1", "\0" + address[1:] if address[0] == "@" else address)


class Announcement:
    """What a child that gets ``environment`` is going to announce."""

    def __init__(self) -> None:
        name = f"onthedot-{os.getpid()}-{secrets.token_hex(8)}"
        self.environment: Mapping[str, str] = {_VARIABLE: "@" + name}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind("\0" + name)

    def has_come(self) -> bool:
        """Whether a child has announced itself since this was last asked."""
        come = False
        with contextlib.suppress(BlockingIOError):
            while said := self._socket.recv(4096):
                come = come or b"READY=1" in said.split(b"\n")
        return come

    def close(self) -> None:
        self._socket.close()
