"""Somebody outside, who writes down each run that he sees: a small HTTP server, a process.

    python -m tests.faults.observer PORT FILE

A line of the file is an instant and an Idempotency-Key. Actions that are no HTTP requests write
such lines themselves: ``note`` as a Python handler, ``SHELL_NOTE`` as a shell's script.

``/`` answers at once, ``/after/2.5`` after as many seconds, ``/hang`` never; ``/drip`` sends a
byte now and then, and ``/flood`` as many as it can, both without an end.
"""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from onthedot.handlers import RunContext
from tests.faults.history import Call

SHELL_NOTE = 'echo "$(date +%s.%N) $ONTHEDOT_RUN_ID" >> {file}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def note(file: str, context: RunContext) -> None:
    """A handler that writes down that it runs."""
    _write(file, context.run_id)


def read_calls(file: Path) -> list[Call]:
    """What was written down."""
    calls = []
    for line in file.read_text(encoding="ascii").splitlines():
        at, key = line.split(" ")
        calls.append(Call(key=key, at=datetime.fromtimestamp(float(at), UTC)))
    return calls


def _write(file: str, key: str) -> None:
    # one write of a short line is never mixed with others'
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, f"{time.time():.6f} {key}\n".encode())
    os.close(descriptor)


async def _serve(port: int, file: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                path = head.split(" ", 2)[1]
                if (key := _key(head)) is not None:
                    _write(file, key)
                await _respond(path, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


async def _respond(path: str, writer: asyncio.StreamWriter) -> None:
    kind, _, seconds = path.strip("/").partition("/")
    match kind:
        case "after":
            await asyncio.sleep(float(seconds))
        case "hang":
            await asyncio.sleep(3600)
        case "drip" | "flood":
            writer.write(_ENDLESS)
            chunk = b"1\r\nx\r\n" if kind == "drip" else b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
            while True:
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0.3 if kind == "drip" else 0)
    writer.write(_ANSWER)
    await writer.drain()


def _key(head: str) -> str | None:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "idempotency-key":
            return value.strip().strip('"')
    return None


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))
