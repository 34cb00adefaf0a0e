"""A real PostgreSQL for one machine, on 127.0.0.1 with a password of its own.

What does not live here: tables (marketfeed.migrate) and connections of the services.
"""

from __future__ import annotations

import os
import platform
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg2

from marketfeed.errors import ConfigurationError
from marketfeed.local.components import ComponentMissing, build, cache_dir, fetch, read_lock
from marketfeed.local.ports import free_port
from marketfeed.local.process import Account, ServerFailed, TiedProcess, as_account, plain_environment
from marketfeed.settings import Secret

DATABASE = USER = "marketfeed"
MINIMUM_VERSION = 14  # SCRAM by default, and partitions that can be detached concurrently

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
_ASK_EVERY_S = 0.02

_CONFIGURATION = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 128MB
max_wal_size = 2GB
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
"""


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation: the folder that holds `postgres` and `initdb`, and its major version."""

    folder: Path
    version: int


class EmbeddedPostgres:
    """One server whose data, password and log live in `directory`; it ends with this process at the latest.

    Use it as a context manager, or call `start()` and `stop()`. Nothing happens before `start()`. A directory that
    holds data of an earlier run is taken up again. `remove()` deletes the data.

    As root, the server runs as the user `postgres`, else `nobody`; where that user cannot reach `directory`, the data
    is in /var/tmp and `directory`/server is a link to it.
    """

    def __init__(self, directory: Path, binaries: Binaries | None = None) -> None:
        self.directory = directory
        self.log = directory / "postgres.log"
        self._link = directory / "server"
        self._password_file = directory / "password"
        self._binaries = binaries
        self._account = _unprivileged() if os.geteuid() == 0 else None
        self._port = free_port()
        self._process: TiedProcess | None = None

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

    @property
    def pid(self) -> int | None:
        """The process id while the server runs."""
        return self._process.pid if self._process is not None and self._process.running() else None

    def start(self, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Start and wait until the database `marketfeed` answers; fetches and creates what is missing first.

        Raises ServerFailed with the end of the log when the server dies or does not answer in `timeout_s`,
        ConfigurationError when no installed version fits the data or the server's user cannot run it, and
        ComponentMissing when something could not be fetched.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        binaries = self._binaries or find_binaries(_data_version(self._data))
        self._check_runs(binaries)
        if _data_version(self._data) is None:
            self._create(binaries)
        self._process = TiedProcess(
            [binaries.folder / "postgres", "-D", self._data, "-p", str(self._port)],
            log=self.log,
            directory=self._home,
            environment=plain_environment(),
            account=self._account,
            orphan_signal="QUIT",  # at once, but with its shared memory returned to the system
        )
        try:
            self._wait(self._process, time.monotonic() + timeout_s)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """Shut down in order without waiting for clients to leave; after `timeout_s` at once, at last by force."""
        if self._process is not None:
            self._process.stop([signal.SIGINT, signal.SIGQUIT], timeout_s)
            self._process = None

    def kill(self) -> None:
        """End the server with SIGKILL; its own children notice and end by themselves."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """Stop, if it runs, and start again on the same port with the same data."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Stop and delete the data, wherever it is."""
        self.stop()
        if self._home.exists():
            shutil.rmtree(self._home)
        if self._link.is_symlink():
            self._link.unlink()
        self._password_file.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

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
        command = [binaries.folder / "initdb", "-D", data, "-U", USER, f"--pwfile={password_file}"]
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

    def _wait(self, process: TiedProcess, deadline: float) -> None:
        while not self._answers():
            if not process.running():
                raise ServerFailed(f"PostgreSQL ended while starting; the end of {self.log}:\n{process.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"PostgreSQL did not answer in time; the end of {self.log}:\n{process.log_tail()}")
            time.sleep(_ASK_EVERY_S)

    def _answers(self) -> bool:
        """Ask for the database, creating it where it is missing."""
        dsn = self.dsn
        try:
            psycopg2.connect(dsn, connect_timeout=5).close()
        except psycopg2.OperationalError as error:
            if "does not exist" not in str(error):
                return False
            self._create_database(dsn.removesuffix(DATABASE) + "postgres")
        return True

    def _create_database(self, dsn: str) -> None:
        connection = psycopg2.connect(dsn)
        connection.autocommit = True
        try:
            connection.cursor().execute(f"CREATE DATABASE {DATABASE}")
        finally:
            connection.close()


def find_binaries(version: int | None = None) -> Binaries:
    """Return the newest PostgreSQL on the PATH or in Debian's place, else the one that is fetched into the cache.

    version: the major version that existing data asks for; None takes any from MINIMUM_VERSION on.
    Raises ConfigurationError when existing data needs a version that is not there, ComponentMissing when nothing is
    installed and nothing can be fetched.
    """
    installed = [found for found in map(probe, _folders()) if found is not None]
    fitting = [found for found in installed if found.version == (version or found.version) >= MINIMUM_VERSION]
    if fitting:
        return max(fitting, key=lambda found: found.version)
    fetched = fetch_binaries()
    if version not in (None, fetched.version):
        raise ConfigurationError(
            f"The data was made by PostgreSQL {version}, which is not installed: install it, or start with a new folder"
        )
    return fetched


def fetch_binaries(cache: Path | None = None) -> Binaries:
    """Return the PostgreSQL that is fetched into the cache; raises ComponentMissing where none fits this machine."""
    name = f"postgresql-{platform.system()}-{platform.machine()}".lower()
    archives = read_lock().archives
    if name not in archives:
        raise ComponentMissing(f"No PostgreSQL to fetch for {name}: install PostgreSQL {MINIMUM_VERSION} or newer")
    version = archives[name][0].coordinates.rpartition(":")[2]
    folder = (cache or cache_dir()) / f"{name}-{version}"
    if not folder.is_dir():
        (archive,) = fetch(name, "the database that runs on this machine", cache=cache)
        build(folder, lambda temporary: _unpack(archive, temporary))
    found = probe(folder / "bin")
    if found is None:
        raise ComponentMissing(f"{folder}/bin/postgres does not run on this machine: install PostgreSQL")
    return found


def probe(folder: Path) -> Binaries | None:
    """Return the installation in `folder`; None where there is none that runs."""
    if not (folder / "initdb").exists():
        return None
    try:
        answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.match(r"postgres \(PostgreSQL\) (\d+)", answer.stdout)
    return Binaries(folder, int(match[1])) if match else None


def _folders() -> Iterator[Path]:
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    yield from Path("/usr/lib/postgresql").glob("*/bin")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack the archive's one inner archive into `target`."""
    with zipfile.ZipFile(archive) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".txz")]
        with outer.open(name) as inner, tarfile.open(fileobj=inner, mode="r|xz") as files:
            files.extractall(target, filter="data")


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
