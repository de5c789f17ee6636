"""The web app while Postgres and Temporal are away, and once they are back."""

from collections.abc import AsyncIterator

import pytest

from onthedot.database.embedded import EmbeddedPostgres
from onthedot.database.migrate import migrate
from onthedot.settings import Settings
from tests import services
from tests.integration.web_client import Web, let_in, serving
from tests.services import assert_eventually

TASK = {
    "name": "Test",
    "schedule": {"kind": "interval", "every": "1h"},
    "action": {"kind": "shell", "command": ["/bin/true"]},
}


@pytest.fixture
async def alone() -> AsyncIterator[Web]:
    """A web app whose Postgres and Temporal do not run."""
    settings = Settings(
        database_url=f"postgresql://postgres@127.0.0.1:{services.free_port()}/onthedot",
        temporal_address=f"127.0.0.1:{services.free_port()}",
        shell=True,
    )
    async with serving(settings) as web:
        yield web


async def test_alone_it_starts_and_says_what_is_away(alone: Web) -> None:
    assert (await alone("GET", "/healthz")).status == 200
    ready = await alone("GET", "/readyz")
    assert ready.status == 503
    assert {name: check["ok"] for name, check in ready.json["checks"].items()} == {
        "postgres": False,
        "temporal": False,
        "workers": False,
    }
    assert len(ready.text) < 2000


async def test_without_postgres_rest_answers_503_and_when_to_come_again(alone: Web) -> None:
    answer = await alone("POST", "/api/v1/tasks", TASK)
    assert answer.status == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "5"
    assert answer.json["type"] == "urn:onthedot:problem:unavailable"
    assert "Postgres" in answer.json["detail"]


async def test_without_postgres_a_page_says_so(alone: Web) -> None:
    headers = {"Cookie": "onthedot_session=abc", "Accept": "text/html"}
    answer = await alone("GET", "/tasks", key=None, headers=headers)
    assert answer.status == 503
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Postgres" in answer.text
    assert (await alone("GET", "/sign-in", key=None)).status == 200


async def test_without_temporal_a_registration_is_kept_and_pending(database_url: str) -> None:
    settings = Settings(
        database_url=database_url, temporal_address=f"127.0.0.1:{services.free_port()}", shell=True
    )
    await let_in(database_url)
    async with serving(settings) as web:
        answer = await web("POST", "/api/v1/tasks", TASK)
        assert answer.status == 202
        assert answer.json["engine"] == "pending"
        kept = await web("GET", f"/api/v1/tasks/{answer.json['id']}")
        assert kept.status == 200
        said = (await web("GET", f"/api/v1/tasks/{answer.json['id']}/explain")).json
        assert not said["engine"]["reachable"]
        assert "Temporal" in said["summary"]


async def test_once_postgres_is_back_all_goes_on_by_itself() -> None:
    with services.temporary_folder() as folder:
        away = EmbeddedPostgres(folder / "postgres", services.free_port())
        away.prepare()
        settings = Settings(
            database_url=away.url("onthedot"),
            temporal_address=f"127.0.0.1:{services.free_port()}",
            shell=True,
        )
        async with serving(settings) as web:
            assert (await web("GET", "/api/v1/tasks")).status == 503
            with services.running_postgres(folder, away.port) as postgres:
                postgres.make_database("onthedot")
                await migrate(postgres.url("onthedot"))
                await let_in(postgres.url("onthedot"))

                async def works() -> bool:
                    return (await web("GET", "/api/v1/tasks")).status == 200

                await assert_eventually(works, within=30)
            # who is signed in is remembered for some seconds
            sent = {"name": "Typed <by hand>", "once.by": "in", "once.in": "10m", "key": "1"}
            form = await web("POST", "/tasks", data={**sent, "http.url": "http://127.0.0.1:9/"})
            assert form.status == 503 and "Nothing was saved" in form.text
            assert 'value="Typed &lt;by hand&gt;"' in form.text
            assert 'name="key" value="1"' in form.text
            assert (await web("GET", "/api/v1/tasks")).status == 503
