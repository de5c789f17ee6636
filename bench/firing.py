"""The parts ``herd`` and ``steady``: how late tasks begin, and what a firing costs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from bench import calls, plan
from bench.figures import Record, counted, lag_figures, shortened
from bench.plan import IDLE, Action, Kind, Work
from bench.processes import Parts, Span
from bench.side import Offer, Place, Side, started

_FIRED_WITHIN = 120.0  # of the last due time
_QUIET_WITHIN = 300.0  # of the same
_WARM_WITHIN = 40.0
#: Where recurring tasks are part of the code: to start all processes with it and warm them up.
_RESTART = 40.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case of a part: what is to be done, as soon as it is known how fast it is registered."""

    part: str
    name: str
    tasks: int
    action: Action
    plan: Callable[[float, float], Work]  # given the rate of registration and the time before
    until_quiet: bool  # whether the processes are followed until they rest


def herd(kind: Kind, tasks: int, action: Action) -> Case:
    words = {"once": "one-time", "recurring": "recurring"}[kind]
    return Case(
        part="herd",
        name=f"{tasks} {words} tasks, {action}",
        tasks=tasks,
        action=action,
        plan=lambda rate, before: plan.herd(kind, tasks, rate, before),
        until_quiet=True,
    )


def steady(per_second: int, seconds: int, action: Action) -> Case:
    return Case(
        part="steady",
        name=f"{per_second} firings a second for {seconds} s, {action}",
        tasks=per_second * plan.STEADY_EVERY,
        action=action,
        plan=lambda rate, before: plan.steady(per_second, seconds, rate, before),
        until_quiet=False,
    )


async def measure(case: Case, offer: Offer, workers: int) -> AsyncIterator[Record]:
    """One side, on a fresh installation that has been warmed up."""
    async with started(offer, workers, case.action) as (side, place):
        await _warm_up(side, place, case.tasks)  # the first tasks are registered slower
        rate = await _warm_up(side, place, case.tasks)
        trial = case.plan(rate, side.lead)
        in_code = trial.every is not None and side.recurring_in_code
        work = case.plan(rate, side.lead + (_RESTART if in_code else 0))
        registering = Span(side.family())
        registered = await side.register(work)
        if registered is None:
            await _warm_up(side, place, case.tasks)
            registering = Span(side.family())
        yield await _follow(case, offer.name, side, place, work, registering, registered)


async def _warm_up(side: Side, place: Place, tasks: int) -> float:
    """Have a few tasks done; how many were registered a second."""
    work = plan.warm_up(tasks)
    rate = await side.register(work)
    assert rate is not None
    deadline = work.first + _WARM_WITHIN
    while time.time() < deadline:
        if len(calls.read(place.calls, work.label)) >= work.tasks:
            break
        await asyncio.sleep(0.2)
    return rate


async def _follow(
    case: Case,
    name: str,
    side: Side,
    place: Place,
    work: Work,
    registering: Span,
    registered: float | None,
) -> Record:
    family = side.family()
    idle_until = work.first - side.lead - 0.5
    problems = []
    if (late := time.time() - idle_until + IDLE) > 0:
        problems.append(f"registering took longer than on trial, by {late:.1f} s")
    if not await family.rest({}, max(0.0, idle_until - IDLE - time.time())):
        problems.append("it did not rest before the first due time: what is beyond idle is unknown")
    registration, _ = registering.used()
    await _sleep_until(idle_until - IDLE)
    looking = Span(family)
    await _sleep_until(idle_until)
    idle = None if problems else looking.rate()
    if not case.until_quiet:  # as many leads begin before it ends as had begun before it
        await _sleep_until(work.first)
    firing = Span(family)
    await _sleep_until(work.last if case.until_quiet else work.last + 1)
    (used, seconds), until = firing.used(), time.time()
    await _all_called(place, work)
    if case.until_quiet:
        if not await family.rest(idle or {}, _quiet_by(work, side) - time.time()):
            problems.append("it was still busy at the end: not all of its CPU is counted")
        (used, seconds), until = firing.used(), time.time()
    memory = family.memory()
    called = calls.read(place.calls, work.label)
    figures = lag_figures(work, called)
    made = sum(at <= until for at, _ in counted(work, called))
    figures |= _costs(made, idle, used, seconds, memory)
    if registered is not None:
        figures["registered"] = registered
        figures["cpu registration"] = sum(registration.values()) / work.tasks * 1000
    problems += await side.problems(work)
    if figures["missing"]:
        problems.append(f"{figures['missing']:.0f} firings are missing")
    return Record(
        part=case.part,
        side=name,
        case=case.name,
        figures=figures,
        problems=shortened(problems),
    )


def _quiet_by(work: Work, side: Side) -> float:
    """When the work for the next firing may begin; until then, that for the last one is counted."""
    if work.every is None:
        return work.last + _QUIET_WITHIN
    return work.last + work.every - min(side.lead, work.every / 2) - 1


async def _sleep_until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.time()))


async def _all_called(place: Place, work: Work) -> None:
    """Wait until all that is counted was called, or for long enough."""
    deadline = work.last + _FIRED_WITHIN
    while time.time() < deadline:
        if len(counted(work, calls.read(place.calls, work.label))) >= work.firings:
            return
        await asyncio.sleep(1)


def _costs(
    made: int, idle: Parts | None, used: Parts, seconds: float, memory: Parts
) -> Mapping[str, float]:
    """CPU in ms for each firing that was ``made`` meanwhile, by part; ms a second while nothing is
    due; memory in MiB.

    ``idle`` is None where the processes did not rest before the first due time.
    """
    all_used, firings = sum(used.values()), max(made, 1)
    costs = {
        "cpu": all_used / firings * 1000,
        **{f"cpu of {part}": one / firings * 1000 for part, one in used.items()},
        "memory": sum(memory.values()) / 2**20,
    }
    if idle is not None:
        costs["idle"] = sum(idle.values()) * 1000
        beyond = all_used - sum(idle.values()) * seconds
        costs["cpu beyond idle"] = beyond / firings * 1000
    return costs
