"""The main thing that people do: register a task in a form, and watch it run in the log."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import ConsoleMessage, Page, Route, expect

from tests.browser.conftest import SignedIn
from tests.integration.web_client import Web

pytestmark = pytest.mark.usefixtures("worker")

_WITHIN = 30_000  # milliseconds; a worker that has just been started takes some seconds


async def fill_in(page: Page, web: Web, name: str) -> None:
    """A form for an HTTP task, but for its schedule."""
    await page.goto(f"{web.url}/tasks/new")
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_label("URL").fill(f"{web.url}/healthz")


async def test_a_one_time_task_appears_in_the_log_by_itself(web: Web, signed_in: SignedIn) -> None:
    async with signed_in() as context:
        log, page = await context.new_page(), await context.new_page()
        complaints = listen(log, page)
        await log.goto(f"{web.url}/runs")
        await expect(log.get_by_text("The log is empty")).to_be_visible()
        await expect(log.get_by_text("Live", exact=True)).to_be_visible()
        await log.evaluate("window.hasNotBeenReloaded = true")

        await fill_in(page, web, "One call")
        await page.get_by_label("After some time").check()
        await page.get_by_label("After", exact=True).fill("3s")
        await expect(page.locator("#preview")).to_contain_text("Once at")
        await page.get_by_role("button", name="Register task").click()
        await expect(page.get_by_text("The task is registered.")).to_be_visible()

        row = log.get_by_role("row").filter(has_text="One call")
        await expect(row).to_contain_text("succeeded", timeout=_WITHIN)
        await expect(row).to_contain_text("schedule")
        assert await log.evaluate("window.hasNotBeenReloaded") is True
        await expect(page.locator("#live")).to_contain_text("finished", timeout=_WITHIN)

        await row.get_by_role("link").first.click()
        await expect(log.get_by_role("heading", name="Run of One call")).to_be_visible()
        await expect(log.get_by_role("region", name="Output")).to_contain_text("alive")
        assert complaints == []


async def test_a_one_time_task_is_registered_and_seen_without_javascript(
    web: Web, signed_in: SignedIn, assert_eventually: Callable[..., Any]
) -> None:
    async with signed_in(java_script_enabled=False) as context:
        page = await context.new_page()
        await fill_in(page, web, "One plain call")
        at = (datetime.now(UTC) + timedelta(seconds=5)).replace(microsecond=0)
        await page.get_by_label("Date and time", exact=True).fill(f"{at:%Y-%m-%dT%H:%M:%S}")
        await page.get_by_role("button", name="Preview").click()
        await expect(page.locator("#preview")).to_contain_text(f"{at:%Y-%m-%d %H:%M:%S}")
        await page.get_by_role("button", name="Register task").click()
        await expect(page.get_by_text("The task is registered.")).to_be_visible()

        async def has_run() -> bool:
            await page.goto(f"{web.url}/runs")
            row = page.get_by_role("row").filter(has_text="One plain call")
            return await row.count() == 1 and "succeeded" in await row.inner_text()

        await assert_eventually(has_run, within=_WITHIN / 1000, every=0.5)


async def test_a_wrong_form_comes_back_with_the_error_at_its_field(
    web: Web, signed_in: SignedIn
) -> None:
    async with signed_in() as context:
        page = await context.new_page()
        await fill_in(page, web, "Never")
        await page.get_by_label("Recurring, by cron").check()
        await page.get_by_label("Cron expression").fill("0 0 30 2 *")
        await expect(page.locator("#preview")).to_contain_text("never fires")
        await page.get_by_role("button", name="Register task").click()
        field = page.get_by_label("Cron expression")
        await expect(field).to_have_value("0 0 30 2 *")
        await expect(field).to_have_accessible_description(re.compile("never fires"))
        await expect(page.get_by_label("Name", exact=True)).to_have_value("Never")


async def test_a_preset_fills_its_field_and_shows_the_due_times(
    web: Web, signed_in: SignedIn
) -> None:
    async with signed_in() as context:
        page = await context.new_page()
        await fill_in(page, web, "Often")
        await page.get_by_label("Recurring, by cron").check()
        await page.get_by_role("button", name="Every 15 minutes").click()
        await expect(page.get_by_label("Cron expression")).to_have_value("*/15 * * * *")
        await expect(page.locator("#preview li")).to_have_count(8)
        await expect(page.get_by_label("Name", exact=True)).to_have_value("Often")


async def test_a_list_that_refreshes_itself_keeps_the_focus(web: Web, signed_in: SignedIn) -> None:
    async with signed_in() as context:
        page = await context.new_page()
        await register(web, "first")
        await page.goto(f"{web.url}/tasks")
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        await page.get_by_role("link", name="first", exact=True).focus()
        await register(web, "second")
        await expect(page.get_by_role("link", name="second", exact=True)).to_be_visible()
        await expect(page.get_by_role("link", name="first", exact=True)).to_be_focused()


async def test_a_page_that_nobody_sees_lets_go_of_its_stream(web: Web, signed_in: SignedIn) -> None:
    """A browser opens six connections to a host: seven tabs would wait for each other."""
    hide = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    async with signed_in() as context:
        page = await context.new_page()
        await page.goto(f"{web.url}/tasks")
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        let_go = page.expect_event("requestfailed", lambda request: "/events" in request.url)
        async with let_go:
            await page.evaluate(hide, True)
        await register(web, "meanwhile")
        await page.evaluate(hide, False)
        await expect(page.get_by_role("link", name="meanwhile", exact=True)).to_be_visible()
        await register(web, "afterwards")
        await expect(page.get_by_role("link", name="afterwards", exact=True)).to_be_visible()


async def test_a_page_that_cannot_be_fetched_anew_says_so(web: Web, signed_in: SignedIn) -> None:
    """The stream stays open while Postgres is away, and the page would look as if all was well."""

    async def fail(route: Route) -> None:
        await route.fulfill(status=503, body="away")

    async with signed_in() as context:
        page = await context.new_page()
        await page.goto(f"{web.url}/tasks")
        live = page.locator("[data-live]")
        await expect(live).to_have_text("Live")
        await page.route("**/tasks?*", fail)
        await page.get_by_label("State").select_option("paused")
        await expect(live).to_have_text("Not up to date")
        await page.unroute("**/tasks?*")
        await page.get_by_label("State").select_option("active")
        await expect(live).to_have_text("Live")


async def test_who_changes_the_zone_comes_back_to_the_same_filter(
    web: Web, signed_in: SignedIn
) -> None:
    async with signed_in() as context:
        page = await context.new_page()
        await page.goto(f"{web.url}/runs")
        await page.get_by_label("Status").select_option("failed")
        await page.wait_for_url("**/runs?*status=failed*")
        await page.get_by_role("link", name="Change").click()
        await page.get_by_role("button", name="Use it").click()
        await expect(page.get_by_label("Status")).to_have_value("failed")


async def test_what_is_opened_stays_open_while_the_page_refreshes(
    web: Web, signed_in: SignedIn
) -> None:
    async with signed_in() as context:
        page = await context.new_page()
        await register(web, "often", every="1s")
        await page.goto(f"{web.url}/tasks/often")
        await page.get_by_text("More", exact=True).click()
        await expect(page.get_by_text("succeeded").nth(2)).to_be_visible(timeout=_WITHIN)
        await expect(page.get_by_role("link", name="Run a past range")).to_be_visible()


async def test_a_double_click_runs_a_task_once(web: Web, signed_in: SignedIn) -> None:
    async with signed_in() as context:
        page = await context.new_page()
        await register(web, "hourly")
        await page.goto(f"{web.url}/tasks/hourly")
        await page.get_by_role("button", name="Run now").dblclick()
        await expect(page.get_by_role("heading", name="Run of hourly")).to_be_visible()
        runs = (await web("GET", "/api/v1/runs?task=hourly")).json["items"]
        assert len(runs) == 1


@pytest.mark.parametrize("width", [390, 1280])
async def test_no_page_is_wider_than_the_screen(web: Web, signed_in: SignedIn, width: int) -> None:
    await register(web, "a-task-with-a-long-name-" * 4)
    async with signed_in(viewport={"width": width, "height": 800}) as context:
        page = await context.new_page()
        for path in (
            "/",
            "/tasks",
            "/tasks/new",
            "/runs",
            "/upcoming?within=1d",
            "/workers",
            "/calendars",
            "/calendars/new",
            "/limits",
        ):
            await page.goto(web.url + path)
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, path


async def test_the_figures_of_a_run_fit_into_their_cells(web: Web, signed_in: SignedIn) -> None:
    await register(web, "figures")
    run_id = (await web("POST", "/api/v1/tasks/figures/trigger")).json["run_id"]
    async with signed_in() as context:
        page = await context.new_page()
        await page.goto(f"{web.url}/runs/{run_id}")
        await expect(page.get_by_role("main").get_by_text("succeeded").first).to_be_visible()
        for width in range(340, 1300, 40):
            await page.set_viewport_size({"width": width, "height": 800})
            over = await page.evaluate(
                "[...document.querySelectorAll('.figures dd')]"
                ".filter((one) => one.scrollWidth > one.clientWidth).length"
            )
            assert over == 0, width


async def test_the_log_is_live_again_once_it_is_filtered_from_an_older_page(
    web: Web, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.pages.runs._PAGE", 1)

    async def trigger() -> str:
        run_id: str = (await web("POST", "/api/v1/tasks/looked-for/trigger")).json["run_id"]
        return run_id

    await register(web, "looked-for")
    for _ in range(2):
        await trigger()
    async with signed_in() as context:
        page = await context.new_page()
        await page.goto(f"{web.url}/runs")
        live = page.get_by_text("Live", exact=True)
        await expect(live).to_be_visible()
        await page.get_by_role("link", name="Next page").click()
        await expect(page.get_by_role("link", name="Back to the newest")).to_be_visible()
        await expect(live).to_be_hidden()
        await page.get_by_label("Task").fill("looked-for")
        await page.get_by_label("Task").press("Enter")
        await expect(page.get_by_role("link", name="Back to the newest")).to_be_hidden()
        await expect(live).to_be_visible()
        row = page.locator(f'a[href="/runs/{await trigger()}"]').first
        await expect(row).to_be_visible()


async def register(web: Web, task_id: str, *, every: str = "1h") -> None:
    task = {
        "id": task_id,
        "name": task_id,
        "schedule": {"kind": "interval", "every": every},
        "action": {"kind": "http", "url": f"{web.url}/healthz"},
    }
    answer = await web("POST", "/api/v1/tasks", task)
    assert answer.status in (201, 202), answer.text


def listen(*pages: Page) -> list[str]:
    """What the browser complains of from now on, such as what the CSP forbids."""
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    for page in pages:
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints
