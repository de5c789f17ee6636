"""Idempotency-Keys: the same request that comes again happens once and is answered the same.

draft-ietf-httpapi-idempotency-key-header. A key is bound to a request's fingerprint and to what the
request was about, in the transaction that keeps what it asked for.
"""

import hashlib
import json
from typing import Any

from onthedot.database import tasks
from onthedot.database.pool import Connection
from onthedot.errors import KeyReused


def fingerprint(kind: str, request: Any) -> str:
    """What tells one request (its JSON, or what ``str`` can write) from another."""
    written = json.dumps([kind, request], sort_keys=True, default=str)
    return hashlib.sha256(written.encode()).hexdigest()


async def subject_of(conn: Connection, key: str | None, print_: str) -> str | None:
    """What ``key`` was bound to; None when it is new; raise KeyReused for another request's."""
    found = await tasks.get_key(conn, key) if key else None
    if found is None:
        return None
    if found[0] != print_:
        raise KeyReused(f"the Idempotency-Key {key!r} was used for another request")
    return found[1]


async def bind(conn: Connection, key: str | None, print_: str, subject: str) -> str | None:
    """Bind ``key`` to ``subject``; else what the same request bound it to before. Raise KeyReused.

    Where another transaction is about to bind it, this waits for its end.
    """
    if key is None or await tasks.remember_key(conn, key, print_, subject):
        return None
    return await subject_of(conn, key, print_)
