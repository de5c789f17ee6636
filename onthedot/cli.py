"""The command line. What a command alone needs is imported by it: `--help` loads next to nothing."""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from onthedot.errors import DatabaseUnavailable, FieldError, InvalidSettings, OnthedotError
from onthedot.settings import PREFIX, Settings, masked

if TYPE_CHECKING:
    import psycopg

app = typer.Typer(
    help="Onthedot starts every task on the dot, and logs every occurrence.",
    epilog="All commands read the settings ONTHEDOT_*: see `onthedot settings`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(keys, name="key")


def main() -> None:
    """Run the command that the arguments ask for. A wrong setting ends with code 2."""
    try:
        app()
    except InvalidSettings as error:
        for one in error.fields:
            print(f"onthedot: {one}", file=sys.stderr)  # noqa: T201 - the command line's voice
        sys.exit(2)
    except OnthedotError as error:
        print(f"onthedot: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Where the web app listens.")] = None,
    port: Annotated[
        int | None, typer.Option(help="The port of the web app.", min=1, max=65535)
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where all data is kept.")] = None,
    workers: Annotated[int | None, typer.Option(help="How many workers.", min=1, max=256)] = None,
) -> None:
    """Run everything on this machine: Postgres, Temporal, workers, the web app."""
    from onthedot import stack
    from onthedot.console import Console

    options = {"HOST": host, "PORT": port, "DATA_DIR": data_dir, "WORKERS": workers}
    given = {PREFIX + name: str(value) for name, value in options.items() if value is not None}
    environment = {**os.environ, **given}
    settings = stack.with_local_defaults(Settings.from_environment(environment), environment)
    console = Console()
    try:
        asyncio.run(stack.up(settings, console))
    finally:
        console.close()


@app.command()
def web() -> None:
    """Run the web app: pages and REST."""
    settings = _settings()
    _database_url(settings)  # refused here, before anything is loaded
    import uvicorn

    from onthedot import engine_runtime, logs, tracing

    logs.configure(settings, process="web")
    tracing.configure("web")
    engine_runtime.prepare()
    _find_handlers_here()
    logging.getLogger(__name__).info("starting the web app on %s:%s", settings.host, settings.port)
    uvicorn.run(
        "web.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,  # live pages hold their streams open
        # longer than proxies keep an idle connection: they must not send into one that closes
        timeout_keep_alive=150,
    )


@app.command()
def worker(
    role: Annotated[
        Literal["scheduler", "executor", "all"],
        typer.Option(help="The timers, the actions, or both."),
    ] = "all",
    queue: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Execute the actions of this queue; may be repeated."),
    ] = None,
) -> None:
    """Run a worker."""
    settings = _settings()
    _database_url(settings)  # refused here, before anything is loaded
    import uvloop

    from onthedot import logs, tracing
    from onthedot import worker as process

    logs.configure(settings, process="worker")
    tracing.configure("worker")
    _find_handlers_here()

    async def work() -> int:
        try:
            await process.run(settings, role=role, queues=queue or ())
        except InvalidSettings as error:
            logging.getLogger(__name__).error("%s", error)
            return 2
        except Exception:
            logging.getLogger(__name__).exception("the worker cannot go on")
            return 1
        finally:
            tracing.close()
        return 0

    # A thousand runs due at one instant start in half the time on this loop.
    _run_and_leave(work, uvloop.new_event_loop)


@app.command()
def migrate() -> None:
    """Bring the database up to date."""
    from onthedot.database.migrate import migrate as bring_up_to_date

    applied = asyncio.run(bring_up_to_date(_database_url(_settings())))
    typer.echo("\n".join(f"applied {name}" for name in applied) or "The database is up to date.")


@app.command()
def doctor() -> None:
    """Check Postgres, Temporal, the workers and the clocks, and say what to do."""
    from onthedot import doctor as checks

    found = asyncio.run(checks.examine(_settings()))
    for finding in found:
        typer.echo(str(finding))
    if not all(finding.is_well for finding in found):
        raise typer.Exit(1)


@app.command()
def replay(
    sample: Annotated[
        int, typer.Option(min=1, help="How many of the open workflows, taken at random.")
    ] = 200,
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="The workflow of this task; may be repeated."),
    ] = None,
    history: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A saved history instead; may be repeated."),
    ] = None,
) -> None:
    """See whether open tasks would go on with the code that is installed here.

    Run it with a new version before its workers are rolled out. Nothing is changed by it.
    """
    from onthedot import replay as replaying

    async def work() -> int:
        try:
            if history:
                report = await replaying.replay_files(history)
            else:
                report = await replaying.replay_open(_settings(), sample=sample, tasks=task or ())
        except OnthedotError as error:
            typer.echo(f"onthedot: {error}", err=True)
            return 1
        typer.echo(replaying.in_words(report))
        return 1 if report.failures else 0

    _run_and_leave(work)


@app.command("sign-in")
def sign_in() -> None:
    """Print a link that signs an admin in, once."""
    from onthedot import access

    settings = _settings()

    async def make(connection: "psycopg.AsyncConnection") -> str:
        return await access.make_sign_in_link(connection, settings)

    typer.echo(asyncio.run(_with_database(settings, make)))


@keys.command("create")
def create_key(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Whose key it is; the log of changes names it.")
    ],
) -> None:
    """Print a new API key. It is shown this once: only its hash is stored."""
    from onthedot import access

    key = access.new_api_key()

    async def store(connection: "psycopg.AsyncConnection") -> str:
        await access.ensure_api_key(connection, key, name)
        return key

    typer.echo(asyncio.run(_with_database(_settings(), store)))


@app.command("settings")
def show_settings() -> None:
    """Show all settings: what each means, its default, and what it is now."""
    settings = Settings.from_environment()
    given, default = settings.to_environment(), Settings().to_environment()
    for one in fields(Settings):
        variable = PREFIX + one.name.upper()
        typer.echo(typer.style(variable, bold=True))
        typer.echo(f"    {one.metadata['meaning']}")
        typer.echo(f"    default: {default.get(variable) or 'none'}")
        if given.get(variable) != default.get(variable):
            typer.echo(f"    now:     {masked(one.name, given[variable])}")


def _run_and_leave(
    work: Callable[[], Awaitable[int]],
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """End this process with the code that ``work`` returns.

    Neither the loop nor the interpreter is wound up: a pool that was not closed holds up the first,
    and the SDK's core can abort the second after all has gone well.
    """

    async def work_and_leave() -> None:
        code = await work()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(work_and_leave())


def _settings() -> Settings:
    """The environment's settings; where they name no database, those of the running `up`."""
    from onthedot import stack

    settings = Settings.from_environment()
    return settings if settings.database_url else stack.running(settings, os.environ) or settings


def _database_url(settings: Settings) -> str:
    if settings.database_url is None:
        remedy = "set it, or start `onthedot up` with the same ONTHEDOT_DATA_DIR"
        problem = f"not set, and `onthedot up` is not running in {settings.data_dir}"
        raise InvalidSettings(FieldError("ONTHEDOT_DATABASE_URL", None, problem, remedy))
    return settings.database_url


async def _with_database(
    settings: Settings, work: "Callable[[psycopg.AsyncConnection], Awaitable[str]]"
) -> str:
    """What ``work`` returns for a connection; what it did is committed."""
    import psycopg

    url = _database_url(settings)
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
            return await work(connection)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"Postgres does not answer: {error}") from error
    except psycopg.errors.UndefinedTable as error:
        raise DatabaseUnavailable("the database is empty: run `onthedot migrate`") from error


def _find_handlers_here() -> None:
    """Let handlers be imported from the folder that the operator stands in, after all others."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
