"""Calendars and limits on their pages, as a browser without JavaScript uses them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pytest

from activities.limits import LIMIT_WORKFLOW, KeepLimit
from onthedot.calendars import Calendars
from onthedot.engine import TASK_QUEUE, Engine, limit_workflow_id
from onthedot.errors import DatabaseUnavailable
from onthedot.settings import Settings
from tests.integration import web_client
from tests.integration.test_pages_control import hidden
from tests.integration.web_client import Answer, Web, count, let_in, rows, serving
from tests.services import assert_eventually

#: Days far enough ahead that none passes while a test runs.
FIRST = datetime.now(UTC).date() + timedelta(days=10)
DAYS = [str(FIRST + timedelta(days=number)) for number in range(8)]
PASSED = "2020-12-25 Long ago"


async def calendar(web: Web, *lines: str, title: str = "") -> str:
    """The name of a new calendar, registered by its form."""
    name = f"c-{uuid4().hex}"
    sent = {"name": name, "title": title, "days": "\r\n".join(lines)}
    answer = await web("POST", "/calendars", data=sent)
    where = f"/calendars/{name}?done=calendar_registered"
    assert (answer.status, answer.headers["Location"]) == (303, where)
    return name


async def kept(web: Web, name: str) -> dict[str, Any]:
    """The calendar's row."""
    (row,) = await rows(web, "SELECT * FROM calendars WHERE name = %s", name)
    return row


async def noons(web: Web, *names: str, **changes: Any) -> dict[str, Any]:
    """A task of every noon from the first of DAYS on, that leaves the calendars' days out."""
    schedule = {
        "kind": "cron",
        "cron": "0 12 * * *",
        "starts_at": f"{DAYS[0]}T00:00:00Z",
        "exclude": {"calendars": list(names)},
    }
    return await web_client.registered(web, name="Noon <all>", schedule=schedule, **changes)


async def versions(web: Web, task: dict[str, Any]) -> list[int]:
    found = await rows(
        web, "SELECT version FROM task_versions WHERE task_id = %s ORDER BY version", task["id"]
    )
    return [row["version"] for row in found]


async def change(web: Web, name: str, days: str, **fields: str) -> Answer:
    """Send the form of a calendar as its page has it, with other days."""
    form = hidden((await web("GET", f"/calendars/{name}")).text)
    return await web("POST", f"/calendars/{name}", data={**form, "days": days, **fields})


async def test_a_calendar_is_registered_by_a_form_with_its_days_one_a_line(web: Web) -> None:
    lines = (f"{DAYS[0]} Christmas <day>", "", f"  {DAYS[2]}/{DAYS[4]}  Between the years ", PASSED)
    name = await calendar(web, *lines, title=" The holidays ")
    row = await kept(web, name)
    assert (row["title"], row["created_by"], row["version"]) == ("The holidays", "tester", 1)
    assert row["days"] == [
        {"date": DAYS[0], "title": "Christmas <day>"},
        {"date": f"{DAYS[2]}/{DAYS[4]}", "title": "Between the years"},
        {"date": "2020-12-25", "title": "Long ago"},
    ]
    page = (await web("GET", f"/calendars/{name}?done=calendar_registered")).text
    assert "The calendar is registered." in page
    assert f"{DAYS[2]}/{DAYS[4]} Between the years\n2020-12-25 Long ago</textarea>" in page
    assert "Christmas &lt;day&gt;" in page and "<day>" not in page
    assert page.index("1 passed") < page.index('<time datetime="2020-12-25">')


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"name": "Two words"}, "name", "1 to 100 lower-case letters"),
        ({"name": ""}, "name", "This is needed"),
        ({"title": "x" * 201}, "title", "at most 200"),
        ({"title": "a\x00b"}, "title", "NUL"),
        ({"days": f"{DAYS[0]}\n24.12.2026 Eve"}, "days", "Line 2, &#34;24.12.2026 Eve&#34;"),
        ({"days": f"{DAYS[0]}\n\n2026-02-30 Never"}, "days", "Line 3, &#34;2026-02-30 Never&#34;"),
        ({"days": f"{DAYS[3]}/{DAYS[1]}"}, "days", "ends before it begins"),
        ({"days": f"{DAYS[0]} {'x' * 201}"}, "days", "its title is too long"),
        ({"days": "\n".join(["Eve"] * 8)}, "days", "And 3 more lines."),
        ({"days": f"{DAYS[0]}\n" * 1001}, "days", "at most 1000"),
        ({"days": "2026-12-24 \x00"}, "days", "NUL"),
    ],
)
async def test_a_wrong_calendar_comes_back_with_its_values_and_is_not_stored(
    web: Web, changes: dict[str, str], field: str, says: str
) -> None:
    sent = {"name": "one", "title": "A <title>", "days": DAYS[0], **changes}
    answer = await web("POST", "/calendars", data=sent)
    assert answer.status == 422
    error = answer.text.partition(f'id="{field}-error"')[2].partition("</p>")[0]
    assert says in error
    assert 'value="A &lt;title&gt;"' in answer.text or "title" in changes
    assert sent["days"].strip().splitlines()[0] in answer.text
    assert web.settings.database_url
    assert await count(web.settings.database_url, "calendars") == 0


async def test_a_name_that_is_taken_is_told_beside_its_field(web: Web) -> None:
    name = await calendar(web, DAYS[0])
    answer = await web("POST", "/calendars", data={"name": name, "title": "", "days": DAYS[1]})
    assert answer.status == 422
    assert "taken" in answer.text.partition('id="name-error"')[2].partition("</p>")[0]
    assert (await kept(web, name))["days"] == [{"date": DAYS[0], "title": ""}]


async def test_a_change_that_moves_no_due_time_is_saved_at_once(live: Web) -> None:
    name = await calendar(live, DAYS[0])
    task = await noons(live, name)
    answer = await change(live, name, f"{DAYS[0]} It has a title\n{PASSED}", title="New")
    where = f"/calendars/{name}?done=calendar_changed"
    assert (answer.status, answer.headers["Location"]) == (303, where)
    row = await kept(live, name)
    assert (row["title"], row["version"], len(row["days"])) == ("New", 2, 2)
    now = (await live("GET", f"/api/v1/tasks/{task['id']}")).json
    assert now["next_due"] == task["next_due"]


async def test_a_change_of_due_times_is_shown_and_saved_once_it_is_confirmed(live: Web) -> None:
    name = await calendar(live, DAYS[0])
    task, other = await noons(live, name), await noons(live)
    asked = await change(live, name, DAYS[1], title="Other <days>")
    assert asked.status == 200
    assert "Nothing is saved yet" in asked.text and "Save, and change 1 task<" in asked.text
    gone, come = asked.text.split('data-label="Due as well"')
    assert f"{DAYS[1]} 12:00:00" in gone and f"{DAYS[0]} 12:00:00" in come
    assert other["id"] not in asked.text
    assert (await kept(live, name))["version"] == 1 and await versions(live, task) == [1]

    sent = hidden(asked.text)
    back = await live("POST", f"/calendars/{name}", data={**sent, "confirmed": "back"})
    assert back.status == 200 and f"{DAYS[1]}</textarea>" in back.text
    assert (await kept(live, name))["version"] == 1

    answer = await live("POST", f"/calendars/{name}", data={**sent, "confirmed": "yes"})
    assert answer.status == 303
    row = await kept(live, name)
    assert (row["title"], row["days"]) == ("Other <days>", [{"date": DAYS[1], "title": ""}])
    assert await versions(live, task) == [1, 2] and await versions(live, other) == [1]
    due = (await live("GET", f"/api/v1/tasks/{task['id']}")).json["next_due"]
    assert [one[:10] for one in due[:2]] == [DAYS[0], DAYS[2]]


@pytest.mark.parametrize("confirmed", ["", "yes"])
async def test_a_change_of_an_older_version_is_refused(live: Web, confirmed: str) -> None:
    name = await calendar(live, DAYS[0])
    task = await noons(live, name)
    await live("PUT", f"/api/v1/calendars/{name}", {"days": [{"date": DAYS[2]}]})
    sent = {"version": "1", "title": "", "days": DAYS[1], "confirmed": confirmed}
    for version in ("1", "", "x"):
        answer = await live("POST", f"/calendars/{name}", data={**sent, "version": version})
        assert answer.status == 422 and "Somebody changed this calendar meanwhile" in answer.text
    assert f"{DAYS[1]}</textarea>" in answer.text
    assert (await kept(live, name))["days"] == [{"date": DAYS[2], "title": ""}]
    assert await versions(live, task) == [1, 2]


async def test_a_wrong_change_comes_back_with_its_values_and_changes_nothing(web: Web) -> None:
    name = await calendar(web, DAYS[0])
    task = await noons(web, name)
    before = await kept(web, name)
    answer = await change(web, name, f"{DAYS[1]}\nsoon", confirmed="yes")
    assert answer.status == 422
    assert "Line 2, &#34;soon&#34;" in answer.text and f"{DAYS[1]}\nsoon</textarea>" in answer.text
    assert await kept(web, name) == before and await versions(web, task) == [1]


async def test_calendars_are_listed_with_their_next_day_and_how_many_tasks_name_them(
    web: Web,
) -> None:
    assert "No calendars yet" in (await web("GET", "/calendars")).text
    used = await calendar(web, PASSED, f"{DAYS[1]} Later", f"{DAYS[0]} Soon", title="Used <a lot>")
    unused = await calendar(web, PASSED)
    for names in ([used], [used, unused], []):
        await noons(web, *names)
    gone = await noons(web, used)
    await web("DELETE", f"/api/v1/tasks/{gone['id']}")
    page = (await web("GET", "/calendars")).text
    row = page.partition(f'id="calendar-{used}"')[2].partition("</tr>")[0]
    assert "Used &lt;a lot&gt;" in row and DAYS[0] in row and "Soon" in row and "by tester" in row
    assert 'data-label="Days"><span>3<' in row and 'data-label="Tasks"><span>2<' in row
    row = page.partition(f'id="calendar-{unused}"')[2].partition("</tr>")[0]
    assert "all have passed" in row and 'data-label="Tasks"><span>1<' in row


async def test_calendars_are_listed_by_pages(web: Web) -> None:
    await rows(
        web,
        "INSERT INTO calendars (name, title, days, created_at, created_by, updated_at, updated_by)"
        " SELECT 'many-' || n, '', '[]', now(), 'x', now(), 'x' FROM generate_series(101, 160) n",
    )
    first = (await web("GET", "/calendars")).text
    assert first.count('id="calendar-many-') == 50 and 'href="/calendars?cursor=many-150"' in first
    second = (await web("GET", "/calendars?cursor=many-150")).text
    assert second.count('id="calendar-many-') == 10 and "Back to the first page" in second


async def test_a_calendar_that_a_task_names_is_not_deleted(web: Web) -> None:
    name = await calendar(web, DAYS[0])
    task = await noons(web, name)
    page = (await web("GET", f"/calendars/{name}/delete")).text
    assert f'href="/tasks/{task["id"]}"' in page and "Delete the calendar" not in page
    answer = await web("POST", f"/calendars/{name}/delete", data={"version": "1"})
    assert answer.status == 409 and "is in use" in answer.text
    assert (await kept(web, name))["version"] == 1

    await web("DELETE", f"/api/v1/tasks/{task['id']}")
    sent = hidden((await web("GET", f"/calendars/{name}/delete")).text)
    stale = await web("POST", f"/calendars/{name}/delete", data={"version": "7"})
    assert stale.status == 409 and "Nothing was deleted" in stale.text
    assert (await kept(web, name))["version"] == 1
    answer = await web("POST", f"/calendars/{name}/delete", data=sent)
    assert (answer.status, answer.headers["Location"]) == (303, "/calendars?done=calendar_deleted")
    assert await rows(web, "SELECT * FROM calendars WHERE name = %s", name) == []
    for path in (f"/calendars/{name}", f"/calendars/{name}/delete", "/calendars/%00"):
        assert (await web("GET", path)).status == 404


async def test_a_task_links_the_calendars_and_limits_that_it_names(web: Web) -> None:
    name = await calendar(web, DAYS[0])
    task = await noons(web, name, policies={"limits": {"crm-api": 2}})
    page = (await web("GET", f"/tasks/{task['id']}")).text
    assert f'<a href="/calendars/{name}">{name}</a>' in page
    assert '<a href="/limits/crm-api">crm-api</a> (at most 2 at once)' in page


async def limited(live: Web, limits: dict[str, int]) -> str:
    task = await web_client.registered(
        live,
        name="Limited <one>",
        schedule={"kind": "interval", "every": "365d"},
        action={"kind": "shell", "script": "sleep 60"},
        policies={"limits": limits, "overlap": "allow"},
    )
    return str(task["id"])


async def triggered(live: Web, task_id: str) -> str:
    return str((await live("POST", f"/api/v1/tasks/{task_id}/trigger", {})).json["run_id"])


async def test_a_limit_shows_which_runs_hold_it_and_which_wait_in_order(live: Web) -> None:
    name = f"l-{uuid4().hex}"
    task_id, other = await limited(live, {name: 1}), await limited(live, {name: 2})
    runs = [await triggered(live, task_id)]

    async def standing() -> str:
        """The page, once it has the runs with their places, in order."""
        page = (await live("GET", f"/limits/{name}")).text
        found = page.split("<tr>")[2:]
        places = ["holds it", "1 in line", "2 in line"]
        for run, row, place in zip(runs, found, places, strict=False):
            assert f'href="/runs/{run}"' in unquote(row) and f">{place}<" in row
            assert "Limited &lt;one&gt;" in row
        assert len(found) == len(runs)
        return page

    await assert_eventually(standing)
    runs += [await triggered(live, task_id)]
    await assert_eventually(standing)
    runs += [await triggered(live, other)]
    page = await assert_eventually(standing)
    assert "At most 1 or 2 at once, as its task says; 2 tasks name it" in page
    assert f'href="/tasks/{task_id}"' in page and f'href="/tasks/{other}"' in page
    for task in (other, task_id):
        await live("DELETE", f"/api/v1/tasks/{task}")
    await live("POST", f"/api/v1/runs/{runs[0]}/cancel")
    assert (await live("GET", f"/limits/{name}")).status == 404


async def test_a_limit_that_nobody_holds_is_free(web: Web) -> None:
    assert "No limits yet" in (await web("GET", "/limits")).text
    await limited(web, {"crm-api": 3})
    page = (await web("GET", "/limits")).text
    assert "Free: no run holds it" in page and "At most 3 at once; 1 task names it" in page


async def test_without_a_worker_the_page_of_limits_says_so(
    web_settings: Settings, own_temporal: str
) -> None:
    settings = replace(web_settings, temporal_address=own_temporal)
    assert settings.database_url
    await let_in(settings.database_url)
    engine = await Engine.connect(settings)
    await engine.client.start_workflow(
        LIMIT_WORKFLOW,
        KeepLimit(name="crm-api"),
        id=limit_workflow_id("crm-api"),
        task_queue=TASK_QUEUE,
    )
    async with serving(settings) as web:
        await limited(web, {"crm-api": 3})
        for path in ("/limits", "/limits/crm-api"):
            page = await web("GET", path)
            assert page.status == 200
            assert "cannot be told just now" in page.text and "At most 3 at once" in page.text
            assert "Free" not in page.text


async def test_what_was_typed_comes_back_while_postgres_is_away(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("Postgres does not answer")

    monkeypatch.setattr(Calendars, "register", away)
    sent = {"name": "closed", "title": "Closed", "days": "2027-01-01\n2027-12-24"}
    answer = await web("POST", "/calendars", data=sent)
    assert answer.status == 503
    assert "Postgres does not answer. Send it again." in answer.text
    assert "2027-12-24" in answer.text
