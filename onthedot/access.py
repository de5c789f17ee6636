"""Giving access: API keys and sign-in links. Only their hashes are stored."""

import hashlib
import secrets
from datetime import timedelta

import psycopg

from onthedot.settings import Settings

SIGN_IN_LINK_LASTS = timedelta(hours=24)


def hash_secret(text: str) -> bytes:
    """What is stored of a secret. It is random and long, so a fast hash without salt will do."""
    return hashlib.sha256(text.encode()).digest()


def new_api_key() -> str:
    return "otd_" + secrets.token_urlsafe(32)


async def ensure_api_key(
    connection: psycopg.AsyncConnection, key: str, name: str, role: str = "admin"
) -> None:
    """Let ``key`` in; nothing changes when it is known already."""
    await connection.execute(
        "INSERT INTO api_keys (hash, name, role) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        [hash_secret(key), name, role],
    )


async def make_sign_in_link(connection: psycopg.AsyncConnection, settings: Settings) -> str:
    """A URL that signs an admin in, once, within ``SIGN_IN_LINK_LASTS``."""
    token = secrets.token_urlsafe(32)
    await connection.execute(
        "INSERT INTO sign_in_links (hash, principal, role, expires_at)"
        " VALUES (%s, 'admin', 'admin', now() + %s)",
        [hash_secret(token), SIGN_IN_LINK_LASTS],
    )
    return f"{settings.url}/sign-in?token={token}"
