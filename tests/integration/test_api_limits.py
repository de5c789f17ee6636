"""Limits over REST, with a worker."""

from typing import Any
from uuid import uuid4

from tests import services
from tests.integration.web_client import Web
from web.api.limits import LimitAnswer, LimitList


async def registered(live: Web, limits: dict[str, int]) -> str:
    sent = {
        "id": f"t-{uuid4().hex}",
        "name": "Limited",
        "schedule": {"kind": "interval", "every": "365d"},
        "action": {"kind": "shell", "script": "sleep 60"},
        "policies": {"limits": limits, "overlap": "allow"},
    }
    answer = await live("POST", "/api/v1/tasks", sent)
    assert answer.status in (201, 202), answer.text
    assert answer.json["policies"]["limits"] == limits
    return str(sent["id"])


async def triggered(live: Web, task_id: str) -> str:
    answer = await live("POST", f"/api/v1/tasks/{task_id}/trigger", {})
    assert answer.status == 202
    return str(answer.json["run_id"])


async def test_a_limit_shows_who_holds_it_and_who_waits_in_which_order(live: Web) -> None:
    name = f"l-{uuid4().hex}"
    task_id, other = await registered(live, {name: 1}), await registered(live, {name: 2})
    held = await triggered(live, task_id)

    async def standing() -> dict[str, Any]:
        answer = await live("GET", f"/api/v1/limits/{name}")
        assert answer.status == 200, answer.text
        LimitAnswer.model_validate(answer.json)
        document: dict[str, Any] = answer.json
        return document

    async def is_held() -> bool:
        return [one["run_id"] for one in (await standing())["held_by"]] == [held]

    await services.assert_eventually(is_held)
    waiting = [await triggered(live, task_id), await triggered(live, other)]

    async def all_wait() -> dict[str, Any]:
        found = await standing()
        assert [one["run_id"] for one in found["waiting"]] == waiting
        return found

    found = await services.assert_eventually(all_wait)
    assert (found["sizes"], found["tasks"]) == ([1, 2], 2)
    assert [one["size"] for one in found["waiting"]] == [1, 2]

    async def row_says_why() -> bool:
        row = (await live("GET", f"/api/v1/runs/{waiting[0]}")).json
        return (row["status"], row["reason"]) == ("waiting", f"limit {name}: 1 of 1 held")

    await services.assert_eventually(row_says_why)
    listed = await live("GET", "/api/v1/limits", params={"limit": "500"})
    assert name in [one.name for one in LimitList.model_validate(listed.json).items]
    for task in (other, task_id):  # the other might come in as soon as the first leaves
        await live("DELETE", f"/api/v1/tasks/{task}")

    async def line_is_empty() -> bool:
        # the run that goes on holds it; no task that is there names the limit any more
        rows = [(await live("GET", f"/api/v1/runs/{one}")).json for one in waiting]
        assert [(row["status"], row["reason"]) for row in rows] == [
            ("cancelled", "the task was deleted")
        ] * 2
        return True

    await services.assert_eventually(line_is_empty)
    await live("POST", f"/api/v1/runs/{held}/cancel")
    assert (await live("GET", f"/api/v1/limits/{name}")).status == 404


async def test_limits_come_by_pages(live: Web) -> None:
    first = f"a-{uuid4().hex}"
    names = {f"{first}-{number}" for number in range(3)}
    task_id = await registered(live, dict.fromkeys(sorted(names), 1))
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await live("GET", "/api/v1/limits", params=query)).json
        assert len(page["items"]) <= 2
        seen += [one["name"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names <= set(seen)
    assert len(seen) == len(set(seen))
    await live("DELETE", f"/api/v1/tasks/{task_id}")
    refused = await live("GET", "/api/v1/limits", params={"cursor": "nonsense"})
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "cursor")


async def test_a_limit_that_nobody_uses_is_free(web: Web) -> None:
    """No worker is there, and none is needed: its workflow was never started."""
    name = f"l-{uuid4().hex}"
    await web(
        "POST",
        "/api/v1/tasks",
        {
            "name": "Limited",
            "schedule": {"kind": "interval", "every": "365d"},
            "action": {"kind": "shell", "script": "true"},
            "policies": {"limits": {name: 3}},
        },
    )
    answer = await web("GET", f"/api/v1/limits/{name}")
    assert answer.json == {"name": name, "sizes": [3], "tasks": 1, "held_by": [], "waiting": []}
