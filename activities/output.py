"""What an action says, kept within bounds."""

import codecs
import threading

from activities.plain import plain_text
from onthedot.run import Output

#: The most bytes of UTF-8 that the row of a run keeps: the head and the tail.
MAX_KEPT = 16 * 1024
#: The most bytes that the live log is handed for one attempt.
MAX_LIVE = 1024 * 1024
#: The most bytes that wait to be handed over; what comes while they wait is left out there.
MAX_WAITING = 256 * 1024

_MARKER = 64  # room for the line that says how much was left out
_HALF = (MAX_KEPT - _MARKER) // 2


class OutputCapture:
    """The head, the tail and the size of an output, and its chunks for the live log.

    It may be written to from any thread. Bytes are read as UTF-8; what is not is replaced.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0
        self._closed = False
        self._waiting = bytearray()
        self._position = 0  # of the first byte that waits
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def size(self) -> int:
        """How many bytes were written."""
        return self._size

    def write(self, data: bytes | str) -> None:
        """Add ``data``; after ``close`` it is dropped."""
        raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
        with self._lock:
            if self._closed or not raw:
                return
            self._keep_waiting(raw)
            self._size += len(raw)
            room = _HALF - len(self._head)
            self._head += raw[:room]
            if len(raw) > room:
                self._tail += raw[max(room, 0) :][-MAX_KEPT:]
            if len(self._tail) > 4 * MAX_KEPT:
                del self._tail[:-MAX_KEPT]

    def close(self) -> None:
        """Drop what is still written: the attempt is over."""
        with self._lock:
            self._closed = True

    def take(self, most: int = 64 * 1024) -> tuple[int, str] | None:
        """The next chunk for the live log and its position in bytes, or None when there is none.

        A chunk ends between characters. Where more came than was taken in time, or more than
        ``MAX_LIVE``, positions show the gap.
        """
        with self._lock:
            if not self._waiting:
                return None
            position, chunk = self._position, bytes(self._waiting[:most])
            del self._waiting[:most]
            self._position += len(chunk)
            if not self._waiting and self._position < self._size:
                text = self._decoder.decode(chunk, final=True)
                self._decoder.reset()
                self._position = self._size  # a gap: what was written meanwhile is not shown
            else:
                text = self._decoder.decode(chunk, final=self._closed and not self._waiting)
        return position, text.replace("\0", "")

    def kept(self) -> Output:
        """At most ``MAX_KEPT`` bytes of the head and the tail, and the size."""
        with self._lock:
            head, tail, size = bytes(self._head), bytes(self._tail), self._size
        if len(head) + len(tail) == size and size <= MAX_KEPT:
            text = _text(head + tail)
            if len(text.encode()) <= MAX_KEPT:
                return Output(text=text, size=size)
            head, tail = head + tail, head + tail
        first = plain_text(_text(head), _HALF).removesuffix("…")
        last = _text(tail).encode()[-_HALF:].decode("utf-8", "ignore")
        left_out = max(size - len(first.encode()) - len(last.encode()), 0)
        return Output(text=f"{first}\n[… {left_out} bytes left out …]\n{last}", size=size)

    def _keep_waiting(self, raw: bytes) -> None:
        end = self._position + len(self._waiting)
        if end != self._size:
            if self._waiting:
                return  # some was left out already: go on after what waits was taken
            self._position = self._size
        room = min(MAX_WAITING - len(self._waiting), MAX_LIVE - self._size)
        if room > 0:
            self._waiting += raw[:room]


def _text(raw: bytes) -> str:
    """``raw`` as text; a character that its start or end cuts through is left out."""
    start = 0
    while start < min(3, len(raw)) and raw[start] & 0xC0 == 0x80:
        start += 1
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode(raw[start:]).replace("\0", "")
