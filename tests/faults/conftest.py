"""The cluster of all scenarios, the frame that each is played in, and their report."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from onthedot.settings import Settings
from tests import services
from tests.faults.checker import check
from tests.faults.cluster import Cluster, running_cluster
from tests.faults.report import Finding, conditions, summary, write_page
from tests.faults.watch import Watch, now, watching
from tests.running import Office, office

_FINDINGS = pytest.StashKey[list[Finding]]()
Scenario = Callable[..., AbstractAsyncContextManager[Watch]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--page", type=Path, help="write what the scenarios found into this page")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FINDINGS] = []


@pytest.fixture
def settings(database_url: str, own_temporal: str) -> Settings:
    """Of workers that a test starts itself, on an engine of its module's own."""
    return Settings(database_url=database_url, temporal_address=own_temporal, shell=True)


@pytest.fixture
async def at(settings: Settings) -> AsyncIterator[Office]:
    async with office(settings) as made:
        yield made


@pytest.fixture(scope="session")
async def shared_cluster() -> AsyncIterator[Cluster]:
    with services.temporary_folder() as folder:
        async with running_cluster(folder, SHUTDOWN_GRACE="10s") as cluster:
            yield cluster


@pytest.fixture
async def cluster(shared_cluster: Cluster) -> Cluster:
    """All of it, and well, whatever the test before has left behind."""
    await shared_cluster.heal()
    return shared_cluster


@pytest.fixture
def scenario(cluster: Cluster, request: pytest.FixtureRequest) -> Scenario:
    """Play something to the cluster, then judge it: ``async with scenario(...) as watch``.

    The block registers a load, does harm and heals it. What is due until ``judged_for`` seconds
    after it must be as it was promised; that is written down, and the test fails where it is not.

    A run may be seen again only where the scenario ``loses_attempts``: where it kills, stops or
    cuts off workers or the engine.
    """
    findings = request.config.stash[_FINDINGS]

    @asynccontextmanager
    async def playing(
        fault: str,
        *,
        load: str,
        promise: str,
        loses_attempts: bool = False,
        judged_for: float = 3,
        settles_within: float = 90,
        clocks_differ_by: timedelta = timedelta(),
    ) -> AsyncIterator[Watch]:
        begun, played = time.monotonic(), conditions()
        findings.append(
            Finding(
                fault=fault, load=load, promise=promise, played=played, seconds=0, figures=None,
                broke_off="the scenario broke off",
            )
        )  # fmt: skip
        async with watching(cluster) as watch:
            yield watch
            last = now() + timedelta(seconds=judged_for)
            await watch.settled(last, within=settles_within)
            history = replace(await watch.history(last), clocks_differ_by=clocks_differ_by)
            if not loses_attempts:
                history = replace(history, lost_attempts={})
            verdict = check(history)
            await watch.delete_all()
        findings[-1] = Finding(
            fault=fault,
            load=load,
            promise=promise,
            played=played,
            seconds=time.monotonic() - begun,
            figures=verdict.figures,
            violations=[str(one) for one in verdict.violations],
        )
        assert not verdict.violations, f"{verdict}\n\n{cluster.said()}"
        assert verdict.figures.runs, "nothing ran"

    return playing


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    findings = config.stash[_FINDINGS]
    if not findings:
        return
    terminalreporter.section("promises")
    terminalreporter.write_line(summary(findings))
    if page := config.getoption("--page", default=None):
        write_page(page, findings, all_played=_were_all_played(exitstatus, config))


def _were_all_played(exitstatus: int, config: pytest.Config) -> bool:
    """Whether this was the whole of ``make faults``, to its end."""
    given = config.option
    narrowed = given.keyword or given.deselect or given.maxfail or getattr(given, "lf", False)
    of_all = config.args == ["tests/faults"] and given.markexpr == "fast or long"
    came_to_its_end = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    return came_to_its_end and of_all and not narrowed
