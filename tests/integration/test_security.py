"""Who may come in, from where, and what every answer carries."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from onthedot.access import hash_secret, make_sign_in_link
from onthedot.settings import Settings
from tests.integration.web_client import KEY, Answer, Web, count, let_in, serving
from web.app import create_app
from web.security import SESSION_COOKIE, local_path

TASK = {
    "name": "Test",
    "schedule": {"kind": "interval", "every": "1h"},
    "action": {"kind": "shell", "command": ["/bin/true"]},
}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def sql(settings: Settings, statement: str, *values: Any) -> list[Any]:
    assert settings.database_url
    async with await psycopg.AsyncConnection.connect(
        settings.database_url, autocommit=True
    ) as conn:
        cursor = await conn.execute(statement, values)
        return await cursor.fetchall() if cursor.description else []


async def sign_in_link(settings: Settings) -> str:
    assert settings.database_url
    async with await psycopg.AsyncConnection.connect(
        settings.database_url, autocommit=True
    ) as conn:
        link = urlsplit(await make_sign_in_link(conn, settings))
        return f"{link.path}?{link.query}"


def session_of(answer: Answer) -> str:
    name, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
    assert name == SESSION_COOKIE
    return value


async def signed_in(web: Web) -> dict[str, str]:
    """The headers of a browser that is signed in."""
    session = session_of(await web("GET", await sign_in_link(web.settings), key=None))
    return {"Cookie": f"{SESSION_COOKIE}={session}", "Accept": "text/html"}


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic abc", KEY])
async def test_the_api_wants_a_key_that_is_known(web: Web, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path in (
        ("GET", "/api/v1/tasks"),
        ("POST", "/api/v1/tasks"),
        ("GET", "/api/v1/stats"),
    ):
        answer = await web(
            method, path, TASK if method == "POST" else None, key=None, headers=headers
        )
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.json["type"] == "urn:onthedot:problem:unauthenticated"
    assert web.settings.database_url
    assert await count(web.settings.database_url, "tasks") == 0


async def test_a_key_of_another_role_may_not_do_what_admins_may(web: Web) -> None:
    await sql(
        web.settings,
        "INSERT INTO api_keys (hash, name, role) VALUES (%s, 'guest', 'viewer')",
        hash_secret("guest-key"),
    )
    answer = await web("GET", "/api/v1/tasks", key="guest-key")
    assert answer.status == 403
    assert "admin" in answer.json["detail"]


async def test_health_and_readiness_want_no_key(web: Web) -> None:
    assert (await web("GET", "/healthz", key=None)).status == 200
    assert (await web("GET", "/readyz", key=None)).status == 503  # no worker runs here
    assert (await web("GET", "/api/openapi.json", key=None)).status == 200


async def test_a_revoked_key_is_refused_within_seconds(
    web: Web, assert_eventually: Callable[..., Coroutine[Any, Any, Any]]
) -> None:
    assert (await web("GET", "/api/v1/stats")).status == 200
    await sql(web.settings, "DELETE FROM api_keys")

    async def refused() -> bool:
        return (await web("GET", "/api/v1/stats")).status == 401

    await assert_eventually(refused, within=10)


async def test_a_page_sends_a_stranger_to_the_sign_in_and_back(web: Web) -> None:
    answer = await web("GET", "/tasks?state=paused", key=None, headers={"Accept": "text/html"})
    assert answer.status == 303
    away = urlsplit(answer.headers["Location"])
    assert away.path == "/sign-in"
    wanted = parse_qs(away.query)["next"][0]
    assert wanted == "/tasks?state=paused"
    link = await sign_in_link(web.settings)
    back = await web("GET", f"{link}&next={wanted}", key=None)
    assert back.headers["Location"] == "/tasks?state=paused"


async def test_a_fragment_sends_the_whole_page_to_the_sign_in(web: Web) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": f"{web.url}/runs?status=failed"}
    answer = await web("GET", "/runs", key=None, headers=headers)
    assert answer.status == 401
    assert answer.headers["HX-Redirect"] == "/sign-in?next=/runs%3Fstatus%3Dfailed"


async def test_a_sign_in_link_works_once(web: Web) -> None:
    link = await sign_in_link(web.settings)
    answers = await asyncio.gather(*(web("GET", link, key=None) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [303] + [422] * 9
    assert await count(web.settings.database_url or "", "sessions") == 1


async def test_looking_at_a_sign_in_link_does_not_use_it_up(web: Web) -> None:
    link = await sign_in_link(web.settings)
    looked = await web("HEAD", link, key=None)
    assert (looked.status, "Set-Cookie" in looked.headers) == (200, False)
    assert (await web("GET", link, key=None)).status == 303


async def test_an_expired_sign_in_link_does_not_work(web: Web) -> None:
    link = await sign_in_link(web.settings)
    await sql(web.settings, "UPDATE sign_in_links SET expires_at = now()")
    assert (await web("GET", link, key=None)).status == 422


async def test_the_session_cookie_is_for_this_site_and_not_for_scripts(web: Web) -> None:
    cookie = (await web("GET", await sign_in_link(web.settings), key=None)).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie


async def test_behind_tls_the_session_cookie_is_for_https_only(web_settings: Settings) -> None:
    async with serving(replace(web_settings, secure_cookies=True)) as web:
        answer = await web("GET", await sign_in_link(web.settings), key=None)
        assert "Secure" in answer.headers["Set-Cookie"]


async def test_secrets_are_stored_as_hashes_only(web: Web) -> None:
    headers = await signed_in(web)
    session = headers["Cookie"].partition("=")[2]
    assert len(session) >= 43  # 256 bits in base64
    [(stored,)] = await sql(web.settings, "SELECT hash FROM sessions")
    assert stored == hash_secret(session)


async def test_a_signed_in_browser_may_use_pages_and_api(web: Web) -> None:
    headers = await signed_in(web)
    assert (await web("GET", "/tasks", key=None, headers=headers)).status == 200
    assert (await web("GET", "/api/v1/tasks", key=None, headers=headers)).status == 200


async def test_an_api_key_signs_in_by_the_form(web: Web) -> None:
    answer = await web(
        "POST", "/sign-in", key=None, data={"key": f" {KEY} ", "next": "/runs"}, headers=FORM
    )
    assert answer.status == 303
    assert answer.headers["Location"] == "/runs"
    headers = {"Cookie": f"{SESSION_COOKIE}={session_of(answer)}"}
    assert (await web("GET", "/tasks", key=None, headers=headers)).status == 200


async def test_an_unknown_key_does_not_sign_in(web: Web) -> None:
    answer = await web("POST", "/sign-in", key=None, data={"key": "otd_wrong"}, headers=FORM)
    assert answer.status == 422
    assert "Set-Cookie" not in answer.headers
    assert "not known" in answer.text
    assert await count(web.settings.database_url or "", "sessions") == 0


async def test_signing_out_ends_the_session_at_once(web: Web) -> None:
    headers = await signed_in(web)
    assert (await web("GET", "/tasks", key=None, headers=headers)).status == 200
    out = await web(
        "POST", "/sign-out", key=None, headers={**headers, "Sec-Fetch-Site": "same-origin"}
    )
    assert out.status == 303
    assert (await web("GET", "/tasks", key=None, headers=headers)).status == 303
    assert await count(web.settings.database_url or "", "sessions") == 0


async def test_a_session_that_is_used_lives_on_and_one_that_is_not_ends(web: Web) -> None:
    used, unused = await signed_in(web), await signed_in(web)
    hashes = [hash_secret(one["Cookie"].partition("=")[2]) for one in (used, unused)]
    extend = "UPDATE sessions SET expires_at = now() + %s WHERE hash = %s"
    await sql(web.settings, extend, timedelta(days=1), hashes[0])
    await sql(web.settings, extend, timedelta(0), hashes[1])
    assert (await web("GET", "/tasks", key=None, headers=used)).status == 200
    assert (await web("GET", "/tasks", key=None, headers=unused)).status == 303
    [(left,)] = await sql(
        web.settings, "SELECT expires_at - now() FROM sessions WHERE hash = %s", hashes[0]
    )
    assert left > timedelta(days=29)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Sec-Fetch-Site": "none"}, 201),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "{url}"}, 403),
        ({"Origin": "{url}"}, 201),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({}, 201),
    ],
    ids=str,
)
async def test_with_a_cookie_only_our_own_pages_change_anything(
    web: Web, headers: dict[str, str], status: int
) -> None:
    sent = {name: value.format(url=web.url) for name, value in headers.items()}
    answer = await web(
        "POST", "/api/v1/tasks", TASK, key=None, headers={**await signed_in(web), **sent}
    )
    assert answer.status == status
    assert await count(web.settings.database_url or "", "tasks") == (status == 201)


async def test_another_site_with_a_cookie_and_a_key_is_refused_too(web: Web) -> None:
    headers = {**await signed_in(web), "Sec-Fetch-Site": "cross-site"}
    assert (await web("POST", "/api/v1/tasks", TASK, headers=headers)).status == 403


async def test_a_key_without_a_cookie_may_come_from_anywhere(web: Web) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://dashboard.example"}
    assert (await web("POST", "/api/v1/tasks", TASK, headers=headers)).status == 201


async def test_another_sites_page_cannot_sign_somebody_in(web: Web) -> None:
    headers = {**FORM, "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    answer = await web("POST", "/sign-in", key=None, data={"key": KEY}, headers=headers)
    assert answer.status == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("LOCALHOST", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("[broken", 403),
    ],
)
async def test_on_loopback_only_our_own_names_are_answered(
    web: Web, host: str, status: int
) -> None:
    assert (await web("GET", "/healthz", headers={"Host": host})).status == status


async def test_the_public_url_is_one_of_our_names(web_settings: Settings) -> None:
    settings = replace(web_settings, public_url="https://dot.example.org")
    assert settings.database_url
    await let_in(settings.database_url)
    async with serving(settings) as web:
        headers = {"Host": "dot.example.org"}
        assert (await web("GET", "/healthz", headers=headers)).status == 200
        own = {**await signed_in(web), **headers, "Origin": "https://dot.example.org"}
        assert (await web("POST", "/api/v1/tasks", TASK, key=None, headers=own)).status == 201


async def test_bound_to_all_addresses_any_name_is_answered(web_settings: Settings) -> None:
    async with serving(replace(web_settings, host="0.0.0.0")) as web:
        assert (await web("GET", "/healthz", headers={"Host": "web-1:8080"})).status == 200


@pytest.fixture
async def answers(web: Web) -> AsyncIterator[list[Answer]]:
    """Answers of every sort: page, JSON, problem, redirect, refusal, file."""
    headers = await signed_in(web)
    yield [
        await web("GET", "/tasks", key=None, headers=headers),
        await web("GET", "/nothing", key=None, headers=headers),
        await web("GET", "/tasks", key=None),
        await web("GET", "/api/v1/tasks"),
        await web("POST", "/api/v1/tasks", {}),
        await web("GET", "/healthz", headers={"Host": "evil.example"}),
        await web("GET", "/static/onthedot.css", key=None),
    ]


async def test_every_answer_has_the_security_headers(answers: list[Answer]) -> None:
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "no-" in answer.headers["Cache-Control"]


async def test_pages_have_nothing_inline(answers: list[Answer]) -> None:
    for answer in answers[:2]:
        assert "<style" not in answer.text
        assert " style=" not in answer.text
        assert " onclick=" not in answer.text
        assert all("src=" in script for script in answer.text.split("<script")[1:])


async def test_a_mistake_of_ours_tells_strangers_nothing(web_settings: Settings) -> None:
    app = create_app(web_settings)

    @app.get("/api/v1/mistake")
    async def mistake() -> None:
        raise ZeroDivisionError("a secret")

    async with serving(web_settings, app) as web:
        answer = await web("GET", "/api/v1/mistake")
    assert answer.status == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.json["type"] == "urn:onthedot:problem:internal"
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ("/tasks?a=b", "/tasks?a=b"),
        (None, "/"),
        ("", "/"),
        ("tasks", "/"),
        ("https://evil.example", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("\n//evil.example", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_no_redirect_leads_away_from_us(wanted: str | None, path: str) -> None:
    assert local_path(wanted) == path
