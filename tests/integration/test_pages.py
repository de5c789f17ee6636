"""The pages over HTTP, as a browser without JavaScript uses them."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest

from onthedot.database.pool import open_pool
from onthedot.database.run_log import RunLog
from onthedot.run import Attempt, Output, Run, RunStatus, Trigger, scheduled_run_id
from tests.integration.web_client import Answer, Web, count
from web.pages import overview

CRON_TASK = {
    "id": "nightly",
    "name": "Nightly <report>",
    "schedule": {"kind": "cron", "cron": "0 2 * * *", "timezone": "Europe/Berlin"},
    "action": {"kind": "http", "method": "POST", "url": "http://127.0.0.1:9/report"},
    "tags": ["billing"],
}
HTTP_FORM = {"name": "A call", "action.kind": "http", "http.url": "http://127.0.0.1:9/"}
DAILY = {"schedule.kind": "cron", "cron.cron": "0 0 * * *"}
ONCE_FORM = {**HTTP_FORM, "schedule.kind": "once", "once.by": "in", "once.in": "10m"}

FRAGMENT = {"HX-Request": "true"}


async def register(web: Web, **changes: Any) -> str:
    answer = await web("POST", "/api/v1/tasks", {**CRON_TASK, **changes})
    assert answer.status in (201, 202), answer.text
    task_id: str = answer.json["id"]
    return task_id


async def stored(web: Web, task_id: str) -> dict[str, Any]:
    answer = await web("GET", f"/api/v1/tasks/{task_id}")
    assert answer.status == 200
    task: dict[str, Any] = answer.json
    return task


async def log_runs(web: Web, *runs: Run) -> None:
    pool = await open_pool(web.settings)
    async with RunLog(pool) as log:
        await log.write(runs)
    await pool.close()


def a_run(number: int = 0, **changes: Any) -> Run:
    due_at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=number + 1)
    started_at = due_at + timedelta(milliseconds=4)
    attempt = Attempt(
        number=1,
        status=RunStatus.SUCCEEDED,
        started_at=started_at,
        finished_at=started_at + timedelta(seconds=2),
        worker="a-worker",
    )
    known: dict[str, Any] = {
        "run_id": scheduled_run_id("nightly", due_at),
        "task_id": "nightly",
        "task_version": 1,
        "trigger": Trigger.SCHEDULE,
        "due_at": due_at,
        "status": RunStatus.SUCCEEDED,
        "started_at": started_at,
        "finished_at": attempt.finished_at,
        "attempts": [attempt],
        "attempt_count": 1,
        "worker": "a-worker",
    }
    return Run(**{**known, **changes})


def form_of(page: Answer) -> dict[str, str]:
    """What a browser would send of the page's form for a task, with nothing changed."""
    form = page.text.partition("novalidate>")[2].partition("</form>")[0]
    sent: dict[str, str] = {}
    for tag in re.findall(r"<input[^>]*>", form):
        kind, name, value = (attribute(tag, one) for one in ("type", "name", "value"))
        if kind not in ("radio", "checkbox") or re.search(r"\bchecked\b", tag):
            sent[name] = re.sub(r"[\r\n]", "", value)  # HTML, value sanitization
    for name, text in re.findall(
        r'<textarea[^>]*name="([^"]*)"[^>]*>\n?(.*?)</textarea>', form, re.S
    ):
        sent[name] = re.sub(r"\r\n|\r|\n", "\r\n", unescape(text))
    for name, options in re.findall(r'<select[^>]*name="([^"]*)"[^>]*>(.*?)</select>', form, re.S):
        sent[name] = unescape(re.findall(r'value="([^"]*)" selected', options)[0])
    return sent


def attribute(tag: str, name: str) -> str:
    found = re.search(rf'\b{name}="([^"]*)"', tag)
    return unescape(found[1]) if found else ""


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/tasks",
        "/tasks/new",
        "/runs",
        "/upcoming",
        "/upcoming?within=1d",
        "/workers",
        "/zone",
        "/calendars",
        "/calendars/new",
        "/limits",
    ],
)
async def test_every_page_shows_before_there_is_any_task(web: Web, path: str) -> None:
    page = await web("GET", path)
    assert page.status == 200
    assert page.text.startswith("<!doctype html>")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/tasks",
        "/tasks/nightly",
        "/tasks/nightly/edit",
        "/tasks/nightly/delete",
        "/runs",
        "/upcoming?within=1d",
    ],
)
async def test_every_page_shows_with_tasks_and_runs(web: Web, path: str) -> None:
    await register(web)
    await log_runs(web, a_run())
    page = await web("GET", path)
    assert page.status == 200
    assert "Nightly &lt;report&gt;" in page.text
    assert "<report>" not in page.text


@pytest.mark.parametrize(
    "path",
    ["/", "/tasks", "/tasks/nightly", "/runs", "/upcoming", "/workers", "/calendars", "/limits"],
)
async def test_the_address_of_a_page_gives_its_fragment_alone(web: Web, path: str) -> None:
    await register(web)
    page, fragment = await web("GET", path), await web("GET", path, headers=FRAGMENT)
    assert page.headers["Vary"] == fragment.headers["Vary"] == "HX-Request"
    assert 'id="live"' in page.text
    assert 'id="live"' in fragment.text
    assert "<html" not in fragment.text


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/tasks",
        "/tasks/new",
        "/tasks/nightly",
        "/runs",
        "/workers",
        "/zone",
        "/calendars",
        "/calendars/new",
        "/limits",
    ],
)
async def test_no_page_has_script_or_style_inside(web: Web, path: str) -> None:
    await register(web)
    page = await web("GET", path)
    assert page.status == 200
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page.text)
    assert all(
        tag.endswith("></script>") for tag in re.findall(r"<script.*?</script>", page.text, re.S)
    )


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/tasks",
        "/tasks/new",
        "/tasks/nightly",
        "/runs",
        "/runs/x",
        "/workers",
        "/calendars",
        "/calendars/x",
        "/limits",
    ],
)
async def test_a_page_is_for_those_who_are_signed_in(web: Web, path: str) -> None:
    answer = await web("GET", path, key=None, headers={"Accept": "text/html"})
    assert answer.status == 303
    assert answer.headers["Location"].startswith("/sign-in?next=")


async def test_a_form_registers_a_one_time_task(web: Web) -> None:
    answer = await web("POST", "/tasks", data={**ONCE_FORM, "id": "call", "tags": "a, b"})
    assert answer.status == 303
    assert answer.headers["Location"] == "/tasks/call?done=registered"
    task = await stored(web, "call")
    assert task["schedule"]["kind"] == "once"
    assert task["tags"] == ["a", "b"]
    due_in = datetime.fromisoformat(task["schedule"]["at"]) - datetime.now(UTC)
    assert timedelta(minutes=9) < due_in <= timedelta(minutes=10)


async def test_a_form_that_is_sent_twice_registers_one_task(web: Web) -> None:
    form = {**form_of(await web("GET", "/tasks/new")), **ONCE_FORM}
    first, again = [await web("POST", "/tasks", data=form) for _ in range(2)]
    assert first.status == again.status == 303
    assert first.headers["Location"] == again.headers["Location"]
    assert await count(web.settings.database_url, "tasks") == 1
    # changed in the page that the browser went back to
    other = await web("POST", "/tasks", data={**form, "name": "Another call"})
    assert other.status == 303
    assert await count(web.settings.database_url, "tasks") == 2


async def test_a_form_that_is_sent_again_after_a_deletion_registers_another_task(web: Web) -> None:
    form = {**form_of(await web("GET", "/tasks/new")), **ONCE_FORM}
    first = (await web("POST", "/tasks", data=form)).headers["Location"].partition("?")[0]
    assert (await web("POST", f"{first}/delete")).status == 303
    again = await web("POST", "/tasks", data=form)
    assert again.status == 303
    assert not again.headers["Location"].startswith(first)


async def test_an_edit_that_is_sent_twice_is_no_change_by_somebody_else(web: Web) -> None:
    await register(web)
    form = {**form_of(await web("GET", "/tasks/nightly/edit")), "name": "Another"}
    for _ in range(2):
        assert (await web("POST", "/tasks/nightly/edit", data=form)).status == 303
    assert (await stored(web, "nightly"))["version"] == 2


async def test_a_local_time_is_read_in_the_zone_beside_it(web: Web) -> None:
    form = {
        **HTTP_FORM,
        "id": "call",
        "schedule.kind": "once",
        "once.at": "2099-07-01T09:00:30",
        "once.timezone": "Europe/Berlin",
    }
    assert (await web("POST", "/tasks", data=form)).status == 303
    at = (await stored(web, "call"))["schedule"]["at"]
    assert datetime.fromisoformat(at) == datetime(2099, 7, 1, 7, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"name": " "}, "name", "This is needed"),
        ({"once.in": "soon"}, "once.in", "not a duration"),
        ({"once.in": "0s"}, "once.in", "longer than zero"),
        ({"once.by": "at"}, "once.at", "Give a date and a time"),
        ({"once.by": "at", "once.at": "2001-01-01T00:00"}, "once.at", "in the past"),
        (
            {"once.by": "at", "once.at": "2099-01-01T00:00", "once.timezone": "Mars"},
            "once.timezone",
            "No such time zone",
        ),
        (
            {"once.by": "at", "once.at": "2027-03-28T02:30", "once.timezone": "Europe/Berlin"},
            "once.at",
            "does not exist in Europe/Berlin",
        ),
        ({"schedule.kind": "cron", "cron.cron": "61 * * * *"}, "cron.cron", "61"),
        ({"schedule.kind": "cron", "cron.cron": "0 0 30 2 *"}, "cron.cron", "never fires"),
        (
            {"schedule.kind": "cron", "cron.cron": "0 0 * * *", "cron.timezone": "Mars"},
            "cron.timezone",
            "zone",
        ),
        ({"schedule.kind": "interval", "interval.every": ""}, "interval.every", "This is needed"),
        ({**DAILY, "recurring.exclude.calendars": "no-such"}, "recurring.exclude.calendars", "no"),
        ({**DAILY, "recurring.exclude.dates": "24.12."}, "recurring.exclude.dates", "2026-12-24"),
        ({**DAILY, "recurring.exclude.weekdays": "XYZ"}, "recurring.exclude.weekdays", "SUN"),
        ({**DAILY, "recurring.jitter": "soon"}, "recurring.jitter", "90s"),
        ({**DAILY, "recurring.max_runs": "0"}, "recurring.max_runs", "1 or more"),
        ({**DAILY, "recurring.ends_at": "2020-01-01T00:00"}, "recurring.ends_at", ""),
        ({"http.url": "nowhere"}, "http.url", "URL"),
        ({"http.headers": "no colon"}, "http.headers", "Name: value"),
        ({"http.body": "{", "http.body_format": "json"}, "http.body", "Not JSON"),
        ({"action.kind": "shell", "shell.command": "backup"}, "shell.command", "absolute"),
        ({"action.kind": "shell", "shell.command": "/bin/echo 'a"}, "shell.command", "quotation"),
        (
            {"action.kind": "shell", "shell.by": "script", "shell.script": " \n"},
            "shell.script",
            "",
        ),
        ({"action.kind": "python", "python.handler": "os:system"}, "python.handler", "not allowed"),
        ({"action.kind": "workflow", "workflow.type": ""}, "workflow.type", "This is needed"),
        ({"policies.retry.attempts": "0"}, "policies.retry.attempts", "1 or more"),
        ({"tags": "one, t wo"}, "tags", "letters"),
        ({"id": "Not a slug"}, "id", "lower-case"),
    ],
)
async def test_a_wrong_field_comes_back_with_its_value_and_the_reason(
    web: Web, changes: dict[str, str], field: str, says: str
) -> None:
    answer = await web("POST", "/tasks", data={**ONCE_FORM, **changes})
    assert answer.status == 422
    error = re.search(rf'id="{re.escape(field)}-error">([^<]*)<', answer.text)
    assert error, re.findall(r'class="error"[^>]*>[^<]*', answer.text)
    assert says.lower() in unescape(error[1]).lower()
    sent = {name: text.replace("\r\n", "\n") for name, text in form_of(answer).items()}
    assert {name: sent[name] for name in ONCE_FORM | changes} == ONCE_FORM | changes
    assert web.settings.database_url
    assert await count(web.settings.database_url, "tasks") == 0


async def test_an_id_that_is_taken_is_told_beside_its_field(web: Web) -> None:
    await register(web, id="call")
    answer = await web("POST", "/tasks", data={**ONCE_FORM, "id": "call"})
    assert answer.status == 422
    assert 'id="id-error"' in answer.text
    assert (await stored(web, "call"))["name"] == CRON_TASK["name"]


FULL_TASKS = [
    CRON_TASK,
    {
        **CRON_TASK,
        "schedule": {
            "kind": "cron",
            "cron": ["0 2 * * *", "30 14 * * FRI"],
            "timezone": "Europe/Berlin",
            "dst": "both",
            "starts_at": "2026-01-01T00:00:00.123456Z",
            "ends_at": "2198-06-01T00:00:00Z",
            "max_runs": 9000,
            "jitter": "90s",
            "exclude": {
                "dates": ["2026-12-24", "2026-12-27/2026-12-31"],
                "weekdays": ["SAT", "SUN"],
            },
        },
    },
    {
        **CRON_TASK,
        "schedule": {
            "kind": "interval",
            "every": "36h",
            "timezone": "Asia/Tokyo",
            "ends_at": "2198-06-01T00:00:00.5Z",
            "exclude": {"weekdays": ["MON"]},
        },
    },
    {
        **CRON_TASK,
        "schedule": {"kind": "interval", "every": "90s", "anchor": "2026-01-01T00:00:00.123456Z"},
        "action": {
            "kind": "http",
            "method": "PUT",
            "url": "http://127.0.0.1:9/",
            "headers": {"X-One": "1", "Content-Type": "text/plain"},
            "body": {"a": [1, "<b>", None]},
            "expect": "200, 204",
        },
        "policies": {
            "overlap": "queue_one",
            "catch_up": {"keep": "all", "within": "36h"},
            "overlap_limit": 7,
            "retry": {
                "attempts": 5,
                "backoff": "500ms",
                "factor": 1.5,
                "max_backoff": "5m",
                "within": "1h",
                "not_on": ["404", "5xx"],
            },
            "timeout": "1h30m",
            "run_timeout": "2h",
            "delivery": "at_most_once",
            "pause_on_failure": 3,
            "priority": 1,
            "fairness_key": "customer 7",
            "limits": {"crm-api": 2, "gpu": 1},
        },
        "tags": ["a:b", "c/d"],
    },
    {
        **CRON_TASK,
        "schedule": {"kind": "once", "at": "2099-01-01T10:20:30.123456Z"},
        "action": {
            "kind": "shell",
            "command": ["/bin/echo", "two words", "", "it's", "new\nline"],
            "env": {"A": "1", "B": " = x", "C": "two\nlines"},
            "cwd": "/tmp",
        },
    },
    # the hour that comes twice, in the zone of the viewer and in that of the schedule
    {**CRON_TASK, "schedule": {"kind": "once", "at": "2098-11-02T06:30:00Z"}},
    {
        **CRON_TASK,
        "schedule": {
            **CRON_TASK["schedule"],
            "timezone": "America/New_York",
            "starts_at": "2098-11-02T06:30:00Z",
            "ends_at": "2099-11-01T06:30:00Z",
        },
    },
    {
        **CRON_TASK,
        "schedule": {
            "kind": "cron",
            "cron": ["0 9 * * MON", "30 14 1 * *"],
            "timezone": "Asia/Tokyo",
            "dst": "skip",
            "starts_at": "2099-01-01T00:00:00Z",
            "ends_at": "2099-12-01T00:00:00Z",
            "max_runs": 7,
            "jitter": "90s",
            "exclude": {"dates": ["2099-05-05/2099-05-07"], "weekdays": ["SUN"], "calendars": []},
        },
    },
    {
        **CRON_TASK,
        "schedule": {
            "kind": "interval",
            "every": "90m",
            "timezone": "Asia/Tokyo",
            "max_runs": 9000,
            "exclude": {"dates": [], "weekdays": ["SUN"], "calendars": []},
        },
    },
    {**CRON_TASK, "action": {"kind": "shell", "script": "set -e\necho a\n\techo b\n"}},
    {
        **CRON_TASK,
        "action": {"kind": "http", "url": "http://127.0.0.1:9/", "body": "\n two\nlines <&> "},
    },
    {
        **CRON_TASK,
        "action": {
            "kind": "http",
            "method": "PUT",
            "url": "http://127.0.0.1:9/",
            "body": "BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n",
            "headers": {"X-Of": "a\u2028B: c"},
        },
        "policies": {"retry": {"attempts": 3, "factor": 1.1234567}},
    },
    {
        **CRON_TASK,
        "action": {
            "kind": "shell",
            "script": "true",
            "env": {"A": "x\u2028B=y", "C": " spaces "},
        },
    },
    {
        **CRON_TASK,
        "action": {
            "kind": "python",
            "handler": "onthedot.examples:hello",
            "arguments": {"name": 'a "b" é'},
        },
    },
    {
        **CRON_TASK,
        "action": {
            "kind": "workflow",
            "type": "Invoice",
            "queue": "billing",
            "arguments": [1, {"a": None}],
        },
    },
]


@pytest.mark.parametrize("task", FULL_TASKS)
async def test_a_form_that_is_sent_back_unchanged_changes_nothing(
    web: Web, task: dict[str, Any]
) -> None:
    await register(web, **task)
    before = await stored(web, "nightly")
    page = await web(
        "GET", "/tasks/nightly/edit", headers={"Cookie": "onthedot_zone=America/New_York"}
    )
    answer = await web("POST", "/tasks/nightly/edit", data=form_of(page))
    assert answer.status == 303, re.findall(r'class="error"[^>]*>[^<]*', answer.text)
    after = await stored(web, "nightly")
    shown = ("name", "schedule", "action", "policies", "tags", "queue", "version")
    assert {name: after[name] for name in shown} == {name: before[name] for name in shown}


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("policies.limits", "crm-api", "Write crm-api: 2"),
        ("policies.limits", "crm-api: 0", "Give 1 or more"),
        ("policies.limits", "Crm: 1", "lower-case letters"),
        ("policies.retry.not_on", "404 4x", "such as 404 or 4xx"),
        ("policies.run_timeout", "0s", "longer than zero"),
        ("policies.overlap_limit", "", "This is needed"),
        ("policies.pause_on_failure", "-1", "Give 0 or more"),
        ("follow_ups.on_success", "Not-a-slug", "lower-case letters"),
    ],
)
async def test_a_policy_that_is_wrong_is_told_beside_its_field(
    web: Web, field: str, text: str, says: str
) -> None:
    answer = await web("POST", "/tasks", data={**ONCE_FORM, field: text})
    assert answer.status == 422
    assert f'id="{field}-error"' in answer.text and says in answer.text
    assert await count(web.settings.database_url, "tasks") == 0


@pytest.mark.parametrize("version", ["", "one", "9" * 5000])
async def test_an_edit_that_does_not_say_of_what_changes_nothing(web: Web, version: str) -> None:
    await register(web)
    form = form_of(await web("GET", "/tasks/nightly/edit"))
    sent = {**form, "name": "Another", "version": version}
    assert (await web("POST", "/tasks/nightly/edit", data=sent)).status == 422
    assert (await stored(web, "nightly"))["name"] == CRON_TASK["name"]


async def test_an_edit_is_refused_when_the_task_was_changed_meanwhile(web: Web) -> None:
    await register(web)
    form = form_of(await web("GET", "/tasks/nightly/edit"))
    assert (await web("POST", "/tasks/nightly/edit", data={**form, "name": "First"})).status == 303
    answer = await web("POST", "/tasks/nightly/edit", data={**form, "name": "Second"})
    assert answer.status == 422
    assert "changed this task meanwhile" in answer.text
    assert (await stored(web, "nightly"))["name"] == "First"


async def test_buttons_pause_resume_and_delete(web: Web) -> None:
    await register(web)
    for action, state in (("pause", "paused"), ("resume", "active")):
        answer = await web("POST", f"/tasks/nightly/{action}", data={"back": "/tasks?tag=billing"})
        assert (answer.status, answer.headers["Location"]) == (303, "/tasks?tag=billing")
        assert (await stored(web, "nightly"))["state"] == state
    asked = await web("GET", "/tasks/nightly/delete")
    assert "Delete Nightly" in asked.text
    answer = await web("POST", "/tasks/nightly/delete")
    assert (answer.status, answer.headers["Location"]) == (303, "/tasks?done=deleted")
    assert "Nightly" not in (await web("GET", "/tasks")).text


async def test_a_button_leads_nowhere_else(web: Web) -> None:
    await register(web)
    answer = await web("POST", "/tasks/nightly/pause", data={"back": "//evil.example/"})
    assert (answer.status, answer.headers["Location"]) == (303, "/")


async def test_run_now_leads_to_the_run_that_waits(web: Web) -> None:
    await register(web)
    answer = await web("POST", "/tasks/nightly/trigger")
    assert answer.status == 303
    page = await web("GET", answer.headers["Location"])
    assert page.status == 200
    assert "waiting" in page.text


async def test_the_list_filters_and_pages_by_its_address(web: Web) -> None:
    for number in range(51):
        await register(web, id=f"task-{number:02}", name=f"Task {number:02}")
    await register(web, id="other", name="Other", tags=["rare"])
    first = await web("GET", "/tasks?sort=name&search=task")
    assert first.text.count('id="task-task-') == 50
    following = re.search(r'href="([^"]*)" rel="next"', first.text)
    assert following
    second = await web("GET", unescape(following[1]))
    assert re.findall(r'id="task-(task-\d+)"', second.text) == ["task-50"]
    rare = await web("GET", "/tasks?tag=rare")
    assert re.findall(r'id="task-([^"]+)"', rare.text) == ["other"]
    assert "No task fits" in (await web("GET", "/tasks?state=paused")).text


async def test_the_log_filters_by_task_status_trigger_and_time(web: Web) -> None:
    await register(web)
    ran = a_run()
    failed = a_run(1, status=RunStatus.FAILED, error="it broke")
    skipped = a_run(
        2, status=RunStatus.SKIPPED, reason="overlap", started_at=None, attempts=[], attempt_count=0
    )
    await log_runs(web, ran, failed, skipped)

    async def shown(query: str) -> list[str]:
        return re.findall(r'id="run-([^"]+)"', (await web("GET", f"/runs{query}")).text)

    assert await shown("") == [run.run_id for run in (ran, failed, skipped)]
    assert await shown("?status=failed") == [failed.run_id]
    assert await shown("?task=nobody") == []
    assert await shown("?trigger=manual") == []
    assert await shown(f"?after={failed.due_at:%Y-%m-%dT%H:%M:%S}&before=&status=") == [
        ran.run_id,
        failed.run_id,
    ]
    assert await shown(f"?before={failed.due_at:%Y-%m-%dT%H:%M:%S}") == [skipped.run_id]


async def test_a_run_shows_what_is_known_of_it_and_its_output_as_text(web: Web) -> None:
    await register(web)
    run = a_run(output=Output(text="<script>alert(1)</script>", size=25), result={"status": 200})
    await log_runs(web, run)
    page = await web("GET", f"/runs/{run.run_id}")
    assert page.status == 200
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert ">4.0 ms</span>" in page.text
    assert "a-worker" in page.text
    assert "Run again" in page.text


async def test_a_run_that_has_ended_asks_for_nothing_more(web: Web) -> None:
    await register(web)
    await log_runs(web, a_run())
    page = await web("GET", f"/runs/{a_run().run_id}")
    assert "hx-trigger" not in page.text
    assert "sse-connect" not in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/tasks/nobody",
        "/tasks/%00",
        "/tasks/%00/edit",
        "/runs/nobody",
        "/runs/%00.20261123T120000000000Z",
        "/nowhere",
    ],
)
async def test_what_is_not_there_is_told_in_a_page(web: Web, path: str) -> None:
    answer = await web("GET", path, headers={"Accept": "text/html"})
    assert answer.status == 404
    assert "To the overview" in answer.text


@pytest.mark.parametrize("path", ["/tasks/", "/api/v1/tasks/"])
async def test_no_address_leads_to_this_servers_own(web: Web, path: str) -> None:
    """Behind a proxy that would be another, and without TLS."""
    answer = await web("GET", path)
    assert (answer.status, answer.headers.get("Location")) == (404, None)


async def test_the_name_is_chosen_in_an_empty_form_alone(web: Web) -> None:
    await register(web)
    assert "autofocus" in (await web("GET", "/tasks/new")).text
    assert "autofocus" not in (await web("GET", "/tasks/nightly/edit")).text
    assert "autofocus" not in (await web("POST", "/tasks", data={"name": ""})).text


@pytest.mark.parametrize(
    "query",
    [
        "/tasks?state=odd",
        "/tasks?sort=odd",
        "/tasks?cursor=odd",
        "/runs?status=odd",
        "/upcoming?within=odd",
        "/runs?after=odd",
    ],
)
async def test_an_address_with_a_wrong_choice_is_told_so(web: Web, query: str) -> None:
    answer = await web("GET", query, headers={"Accept": "text/html"})
    assert answer.status == 422
    assert "odd" in answer.text


async def test_a_time_out_of_reach_is_told_beside_its_field(web: Web) -> None:
    answer = await web("GET", "/runs?after=0001-01-01T00:00%2B05:00")
    assert answer.status == 422
    assert "from 2 to 9998" in answer.text


@pytest.mark.parametrize("query", ["/tasks?search=%00%25_", "/tasks?tag=%00", "/runs?task=%00"])
async def test_odd_letters_in_a_search_find_nothing_and_break_nothing(web: Web, query: str) -> None:
    assert (await web("GET", query)).status == 200


async def test_a_preview_shows_due_times_in_the_zone_of_the_schedule(web: Web) -> None:
    sent = {"schedule.kind": "cron", "cron.cron": "0 9 * * *", "cron.timezone": "Asia/Tokyo"}
    answer = await web("POST", "/tasks/preview", data=sent, headers=FRAGMENT)
    assert answer.status == 200
    assert answer.text.count("09:00:00") == 8
    assert "+09:00" in answer.text
    assert "<form" not in answer.text


async def test_a_preview_without_javascript_keeps_the_form(web: Web) -> None:
    answer = await web("POST", "/tasks/preview", data={**ONCE_FORM, "preset": "*/15 * * * *"})
    assert answer.status == 200
    form = form_of(answer)
    assert (form["name"], form["schedule.kind"], form["cron.cron"]) == (
        "A call",
        "cron",
        "*/15 * * * *",
    )
    assert "Every 15 minutes" in answer.text


async def test_a_preview_of_what_cannot_be_says_why(web: Web) -> None:
    sent = {"schedule.kind": "cron", "cron.cron": "0 0 30 2 *"}
    answer = await web("POST", "/tasks/preview", data=sent, headers=FRAGMENT)
    assert "never fires" in answer.text


async def test_times_are_shown_in_the_zone_that_was_chosen(web: Web) -> None:
    answer = await web("POST", "/zone", data={"zone": "Asia/Tokyo", "back": "/tasks"})
    assert (answer.status, answer.headers["Location"]) == (303, "/tasks")
    assert "onthedot_zone=Asia/Tokyo" in answer.headers["Set-Cookie"].replace('"', "")
    await register(web, schedule={"kind": "once", "at": "2099-01-01T20:00:00Z"})
    page = await web("GET", "/tasks", headers={"Cookie": "onthedot_zone=Asia/Tokyo"})
    assert "2099-01-02 05:00:00" in page.text


async def test_upcoming_lists_the_occurrences_of_active_tasks(web: Web) -> None:
    await register(web, schedule={"kind": "interval", "every": "20m"})
    await register(web, id="paused", schedule={"kind": "interval", "every": "20m"})
    await web("POST", "/tasks/paused/pause")
    page = await web("GET", "/upcoming")
    assert page.text.count('href="/tasks/nightly"') in (2, 3)
    assert 'href="/tasks/paused"' not in page.text


async def test_upcoming_says_when_more_is_due_than_it_shows(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "_MOST_DUE", 2)
    for number, cut in ((1, False), (2, False), (3, True)):
        await register(web, id=f"soon-{number}", schedule={"kind": "once", "in": "10m"})
        page = await web("GET", "/upcoming")
        assert ("More is due than is shown" in page.text) is cut


async def test_deleted_tasks_can_be_listed_but_not_changed_together(web: Web) -> None:
    await register(web, id="gone")
    await web("POST", "/tasks/gone/delete")
    assert 'href="/tasks/gone"' not in (await web("GET", "/tasks")).text
    page = await web("GET", "/tasks?state=deleted")
    assert 'href="/tasks/gone"' in page.text
    assert "/tasks/many" not in page.text
