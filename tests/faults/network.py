"""A link between two parts, which can be cut, held up and made to lose answers: a TCP proxy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Link:
    """Passes bytes from its own ``port`` of 127.0.0.1 on to another port, as long as it is well."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay = 0.0  # seconds, for each piece in each direction
        self.lost_answers = 0  # connections that were cut when such an answer came
        self._target = target
        self._refuses = False
        self._loses_answers_to: bytes | None = None
        self._passes = asyncio.Event()
        self._passes.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """End all connections, and refuse new ones until ``heal``."""
        self._refuses = True
        self.drop()

    def drop(self) -> None:
        """End all connections; new ones are welcome."""
        for writer in self._open:
            writer.transport.abort()

    def swallow(self) -> None:
        """Let connections stand, and nothing pass until ``heal``, when it arrives late."""
        self._passes.clear()

    def lose_answers(self, to: bytes = b"") -> None:
        """Pass on what is asked, and end the connection as soon as it is answered.

        ``to`` is what must have been in a request whose answer is lost, such as ``COMMIT``.
        """
        self._loses_answers_to = to

    def heal(self) -> None:
        self.delay = 0.0
        self._refuses, self._loses_answers_to = False, None
        self._passes.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Link"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.drop()
            for pump in self._pumps:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        both, is_asked = (writer, far_writer), asyncio.Event()
        self._open.update(both)
        pumps = [
            asyncio.create_task(self._pump(reader, far_writer, both, is_asked, answers=False)),
            asyncio.create_task(self._pump(far_reader, writer, both, is_asked, answers=True)),
        ]
        self._pumps.update(pumps)
        try:
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._pumps.difference_update(pumps)
            self._open.difference_update(both)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        is_asked: asyncio.Event,
        *,
        answers: bool,
    ) -> None:
        try:
            while piece := await reader.read(65_536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._passes.wait()
                lost = self._loses_answers_to
                if answers and lost is not None and is_asked.is_set():
                    self.lost_answers += 1
                    break
                if answers:
                    is_asked.clear()
                elif lost is not None and lost in piece:
                    is_asked.set()
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            for one in both:
                one.transport.abort()
