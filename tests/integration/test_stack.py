"""The whole of `onthedot up`, as a person runs it: real processes in a directory of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import services


@dataclass
class Running:
    """An `onthedot up` and what it has said so far."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    said: Path

    @property
    def folder(self) -> Path:
        return Path(self.environment["ONTHEDOT_DATA_DIR"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['ONTHEDOT_PORT']}"

    def text(self) -> str:
        return self.said.read_text(encoding="utf-8")

    def child(self, *words: str) -> int:
        """The pid of the one child whose command line has all of ``words``."""
        found = [pid for pid in services.children_of(self.process.pid) if _runs(pid, words)]
        assert len(found) == 1, (words, found)
        return found[0]

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.text()
        return "Ctrl-C" in self.text()


def _runs(pid: int, words: tuple[str, ...]) -> bool:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return all(word in line for word in words)


def settings_in(folder: Path, **more: str) -> dict[str, str]:
    """An environment for a stack of its own in ``folder``."""
    ports = ("PORT", "POSTGRES_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT")
    own = {f"ONTHEDOT_{port}": str(services.free_port()) for port in ports}
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        **kept,
        **own,
        "ONTHEDOT_DATA_DIR": str(folder / "data"),
        "ONTHEDOT_WORKERS": "1",
        **more,
    }


def onthedot(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "onthedot", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def up(environment: dict[str, str], said: Path) -> Iterator[Running]:
    """An `onthedot up` that is told to stop, when it still runs, as the block is left."""
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "onthedot", "up"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    running = Running(process, environment, said)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with services.temporary_folder() as made:
        yield made


@pytest.fixture(scope="module")
async def stack(folder: Path) -> AsyncIterator[Running]:
    with up(settings_in(folder), folder / "said") as running:
        await services.assert_eventually(running.is_up, within=60)
        yield running


def _get(url: str, key: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.read()


async def test_it_says_where_everything_is(stack: Running) -> None:
    text = stack.text()
    assert f"Web app      {stack.url}\n" in text
    assert f"Sign in      {stack.url}/sign-in?token=" in text
    assert f"Temporal UI  http://127.0.0.1:{stack.environment['ONTHEDOT_TEMPORAL_UI_PORT']}" in text
    assert "\x1b" not in text


async def test_the_web_app_and_each_worker_answer_prometheus(stack: Running) -> None:
    (told,) = re.findall(r"Metrics      (\S+)  \(of the workers: :(\d+)\)", stack.text())
    url, port = told
    assert url == stack.url + "/metrics"
    for address in (url, f"http://127.0.0.1:{port}/metrics"):
        status, text = _get(address)
        assert status == 200
        assert b"onthedot_build_info" in text
    assert b"temporal_request_total" in text


async def test_the_admins_key_opens_the_api_and_is_for_its_owner_alone(stack: Running) -> None:
    file = stack.folder / "api-key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert stack.folder.stat().st_mode & 0o777 == 0o700
    status, body = _get(stack.url + "/api/v1/tasks", file.read_text(encoding="ascii").strip())
    assert status == 200
    assert json.loads(body)["items"] == []


async def test_a_second_one_on_the_same_directory_is_refused(stack: Running) -> None:
    done = onthedot(stack.environment, "up")
    assert done.returncode == 2
    assert "ONTHEDOT_DATA_DIR" in done.stderr
    assert f"(process {stack.process.pid})" in done.stderr


async def test_a_port_in_use_is_named_with_the_setting_that_changes_it(
    stack: Running, tmp_path: Path
) -> None:
    port = stack.environment["ONTHEDOT_TEMPORAL_PORT"]
    done = onthedot(settings_in(tmp_path, ONTHEDOT_TEMPORAL_PORT=port), "up")
    assert done.returncode == 2
    assert f"ONTHEDOT_TEMPORAL_PORT = {port}" in done.stderr
    assert "Address already in use" in done.stderr


async def test_two_settings_with_one_port_are_refused(tmp_path: Path) -> None:
    port = str(services.free_port())
    done = onthedot(settings_in(tmp_path, ONTHEDOT_PORT=port, ONTHEDOT_POSTGRES_PORT=port), "up")
    assert done.returncode == 2
    assert f"ONTHEDOT_POSTGRES_PORT = {port}" in done.stderr


async def test_two_stacks_run_side_by_side(stack: Running, tmp_path: Path) -> None:
    with up(settings_in(tmp_path), tmp_path / "said") as other:
        await services.assert_eventually(other.is_up, within=60)
        assert _get(other.url + "/healthz")[0] == 200
        assert _get(stack.url + "/healthz")[0] == 200
        own_key = (other.folder / "api-key").read_text(encoding="ascii")
        assert own_key != (stack.folder / "api-key").read_text(encoding="ascii")


async def test_the_doctor_finds_a_running_stack_well(stack: Running) -> None:
    async def is_well() -> bool:
        done = onthedot(stack.environment, "doctor")
        assert "PROBLEM" not in done.stdout, done.stdout + done.stderr
        return done.returncode == 0

    await services.assert_eventually(is_well, within=30)


async def test_sign_in_links_differ_and_keys_work(stack: Running) -> None:
    links = {onthedot(stack.environment, "sign-in").stdout.strip() for _ in range(2)}
    assert len(links) == 2
    assert all(link.startswith(stack.url + "/sign-in?token=") for link in links)
    key = onthedot(stack.environment, "key", "create", "ci").stdout.strip()
    assert _get(stack.url + "/api/v1/tasks", key)[0] == 200


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("worker-1", ("onthedot", "worker")),
        ("web", ("onthedot", "web")),
        ("temporal", ("start-dev",)),
    ],
)
async def test_a_child_that_is_killed_comes_back(
    stack: Running, name: str, words: tuple[str, ...]
) -> None:
    victim = stack.child(*words)
    already = stack.text().count(f"{name} is running again")
    os.kill(victim, signal.SIGKILL)
    await services.assert_eventually(
        lambda: stack.text().count(f"{name} is running again") > already, within=60
    )
    assert f"{name} was ended by SIGKILL; starting it again" in stack.text()
    assert stack.child(*words) != victim


async def test_postgres_that_is_killed_comes_back_with_its_rows(stack: Running) -> None:
    lock = stack.folder / "postgres" / "data" / "postmaster.pid"
    victim = int(lock.read_text(encoding="ascii").split("\n", 1)[0])
    os.kill(victim, signal.SIGKILL)
    await services.assert_eventually(lambda: "postgres is running again" in stack.text(), within=60)
    key = (stack.folder / "api-key").read_text(encoding="ascii").strip()

    def answers() -> bool:
        try:
            return _get(stack.url + "/api/v1/tasks", key)[0] == 200
        except OSError:
            return False

    await services.assert_eventually(answers, within=30)


async def test_it_stops_by_ctrl_c_and_leaves_nothing_and_starts_again_with_all(
    folder: Path,
) -> None:
    place = folder / "again"
    place.mkdir()
    environment = settings_in(place)
    with up(environment, place / "first") as running:
        await services.assert_eventually(running.is_up, within=60)
        key = (running.folder / "api-key").read_text(encoding="ascii")
        family = services.children_of(running.process.pid)
        assert len(family) >= 4
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0
        assert not any(map(services.is_alive, family))
        assert "Stopped." in running.text()
        assert not (running.folder / "running.env").exists()
    with up(environment, place / "second") as running:
        await services.assert_eventually(running.is_up, within=60)
        assert (running.folder / "api-key").read_text(encoding="ascii") == key
        assert _get(running.url + "/api/v1/tasks", key.strip())[0] == 200


async def test_a_start_that_is_interrupted_leaves_nothing(folder: Path) -> None:
    place = folder / "interrupted"
    place.mkdir()
    with up(settings_in(place), place / "said") as running:
        await services.assert_eventually(lambda: "ok  Postgres" in running.text(), within=30)
        family = services.children_of(running.process.pid)
        assert family
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0
        assert not any(map(services.is_alive, family))
        assert "Sign in" not in running.text()


async def test_a_postgres_and_a_temporal_of_ones_own_are_used(
    folder: Path, database_url: str, own_temporal: str
) -> None:
    place = folder / "own"
    place.mkdir()
    environment = settings_in(
        place, ONTHEDOT_DATABASE_URL=database_url, ONTHEDOT_TEMPORAL_ADDRESS=own_temporal
    )
    with up(environment, place / "said") as running:
        await services.assert_eventually(running.is_up, within=60)
        assert "Postgres on" not in running.text()
        assert "Temporal on" not in running.text()
        assert not (running.folder / "postgres").exists()
        assert onthedot(environment, "doctor").returncode == 0


async def test_a_killed_stack_leaves_no_orphan_and_starts_again_at_once(folder: Path) -> None:
    place = folder / "killed"
    place.mkdir()
    environment = settings_in(place)
    with up(environment, place / "first") as running:
        await services.assert_eventually(running.is_up, within=60)
        family = services.children_of(running.process.pid)
        assert len(family) >= 4
        running.process.kill()
        running.process.wait()
    with up(environment, place / "second") as running:
        await services.assert_eventually(running.is_up, within=60)
        await services.assert_eventually(lambda: not any(map(services.is_alive, family)), within=40)
