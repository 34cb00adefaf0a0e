"""A real PostgreSQL for one machine, on 127.0.0.1 with a password of its own.

What does not live here: tables (marketfeed.migrate) and connections of the services.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg2

from marketfeed.errors import ConfigurationError
from marketfeed.local.embedded import START_TIMEOUT_S, EmbeddedServer
from marketfeed.local.ports import free_port
from marketfeed.local.postgres_binaries import Binaries, find_binaries
from marketfeed.local.process import Account, ServerFailed, TiedProcess, as_account, plain_environment
from marketfeed.settings import Secret

DATABASE = USER = "marketfeed"

_CONFIGURATION = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 128MB
max_wal_size = 2GB
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
"""


class EmbeddedPostgres(EmbeddedServer):
    """One server with the database and the superuser `marketfeed`; `remove()` deletes the data.

    As root, the server runs as the user `postgres`, else `nobody`; where that user cannot reach `directory`, the data
    is in /var/tmp and `directory`/server is a link to it.
    """

    name = "PostgreSQL"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)  # without waiting for clients to leave; then at once

    def __init__(self, directory: Path, binaries: Binaries | None = None) -> None:
        super().__init__(directory)
        self._link = self.directory / "server"
        self._password_file = self.directory / "password"
        self._binaries = binaries
        self._account = _unprivileged() if os.geteuid() == 0 else None
        self._port = free_port()

    @property
    def _home(self) -> Path:
        """The server's own folder by the path that its user can walk: the link itself may stand where it cannot."""
        return self._link.resolve()

    @property
    def _data(self) -> Path:
        return self._home / "data"

    @property
    def dsn(self) -> Secret:
        """The connection string; the same over restarts. It holds the password. Readable once the server has run."""
        return Secret(f"postgresql://{USER}:{self._password_file.read_text()}@127.0.0.1:{self._port}/{DATABASE}")

    def has_data(self) -> bool:
        """Tell whether an earlier run left its data; without it, `start` makes an empty database."""
        return _data_version(self._data) is not None

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start and wait until the database answers; see EmbeddedServer.

        Raises ConfigurationError too, when no installed version fits the data or the server's user cannot run it.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        binaries = self._binaries or find_binaries(_data_version(self._data))
        self._check_runs(binaries)
        if _data_version(self._data) is None:
            self._create(binaries)
        process = TiedProcess(
            [binaries.folder / "postgres", "-D", self._data, "-p", str(self._port)],
            log=self.log,
            directory=self._home,
            environment=plain_environment(),
            account=self._account,
            orphan_signal="QUIT",  # at once, but with its shared memory returned to the system
        )
        self._run(process, timeout_s)

    def answers(self) -> bool:
        """Connect to the database `marketfeed`, creating it where it is missing."""
        dsn = self.dsn
        try:
            psycopg2.connect(dsn, connect_timeout=2).close()
        except psycopg2.OperationalError as error:
            if "does not exist" not in str(error):
                return False
            self._create_database(dsn.removesuffix(DATABASE) + "postgres")
        return True

    def remove(self) -> None:
        """Stop and delete the data, wherever it is."""
        self.stop()
        if self._home.exists():
            shutil.rmtree(self._home)
        if self._link.is_symlink():
            self._link.unlink()
        self._password_file.unlink(missing_ok=True)

    def _check_runs(self, binaries: Binaries) -> None:
        program = binaries.folder / "postgres"
        try:
            subprocess.run([program, "--version"], check=True, capture_output=True, **as_account(self._account))
        except (OSError, subprocess.CalledProcessError) as error:
            name = self._account.name if self._account else "you"
            raise ConfigurationError(
                f"{program} cannot be run by {name}: {error}. Install PostgreSQL, or set MARKETFEED_CACHE to a folder "
                "that everybody may enter"
            ) from error

    def _create(self, binaries: Binaries) -> None:
        """Make the data folder with `initdb`, under its own name only when it is whole."""
        _make_home(self._link, self._account)
        password = secrets.token_urlsafe(24)
        unfinished = self._home / "data.part"
        shutil.rmtree(unfinished, ignore_errors=True)  # left by a run that was killed
        hand_over = self._home / "initdb-password"
        hand_over.unlink(missing_ok=True)
        try:
            _write_private(hand_over, password, self._account)
            self._initdb(binaries, unfinished, hand_over)
        finally:
            hand_over.unlink(missing_ok=True)
        with (unfinished / "postgresql.conf").open("a") as configuration:
            configuration.write(_CONFIGURATION)
        self._password_file.unlink(missing_ok=True)
        _write_private(self._password_file, password, None)
        unfinished.rename(self._data)

    def _initdb(self, binaries: Binaries, data: Path, password_file: Path) -> None:
        command: list[str | Path] = [binaries.folder / "initdb", "-D", data, "-U", USER, f"--pwfile={password_file}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        with self.log.open("ab") as log:
            result = subprocess.run(
                command,
                cwd=self._home,
                env=plain_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                **as_account(self._account),
            )
        if result.returncode:
            raise ServerFailed(f"initdb failed with exit code {result.returncode}; {self.log} says why")

    def _create_database(self, dsn: str) -> None:
        connection = psycopg2.connect(dsn)
        connection.autocommit = True
        try:
            connection.cursor().execute(f"CREATE DATABASE {DATABASE}")
        finally:
            connection.close()


def _data_version(data: Path) -> int | None:
    """Return the major version of the data in a folder; None where there is none."""
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def _unprivileged() -> Account:
    """Return the user that runs the server when we are root, whom PostgreSQL refuses."""
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`")


def _make_home(home: Path, account: Account | None) -> None:
    """Make the server's folder, owned by `account`, or link to one in /var/tmp where it cannot reach this one."""
    if home.is_dir():
        return
    if account is None or _can_enter(home.parent, account):
        home.mkdir(mode=0o700)
    else:
        home.unlink(missing_ok=True)  # a link whose folder is gone
        home.symlink_to(tempfile.mkdtemp(prefix="marketfeed-", dir="/var/tmp"))
    if account is not None:
        os.chown(home, account.uid, account.gid)


def _can_enter(folder: Path, account: Account) -> bool:
    """Ask the system itself, for all of the folders above and whatever rules they are under."""
    return not subprocess.run(["/bin/sh", "-c", 'test -x "$0"', folder], check=False, **as_account(account)).returncode


def _write_private(path: Path, text: str, owner: Account | None) -> None:
    """Write a file that only its owner can read, from its first moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if owner is not None:
            os.fchown(descriptor, owner.uid, owner.gid)
        file.write(text)
