"""One feed of a scenario, with a venue and a database of its own: what is asked of it, and the proof in the end.

What does not live here: the claims (tests/cluster), and what a cluster is asked (cluster).
"""

from __future__ import annotations

import copy
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
import yaml

import truth
from marketfeed import verify
from marketfeed.proof import GapFound
from stand.background import Stand
from stand.cluster import Object, is_ready, restarts, uid

READY_S = 180.0
"""How long a feed may take to become ready: its pods start beside others on a small machine."""
SETTLED_S = 90.0
"""How long what was issued may take to be stored, a restarted broker or database included."""

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
CHANNELS = ("trade", "aggTrade", "bookTicker")
PLATFORM = "kafka"
SIMULATOR = "venue"
SINK = "store"

_STORED = "SELECT coalesce(sum(stored), 0) FROM ledger WHERE symbol = %(symbol)s OR %(symbol)s IS NULL"
_RUN = secrets.token_hex(3)
_FILES = Path(__file__).with_name("manifests")
_REST_PORT = 8766
_KIND = "marketfeeds.marketfeed.dev"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a scenario comes to, as its line at the end of the run says; without `records` no table was compared.

    duplicated: rows beyond the first one with the same id; the comparison fails for any.
    """

    name: str
    seconds: float
    records: int | None = None
    missing: int = 0
    duplicated: int = 0

    def __str__(self) -> str:
        counts = ("-", "-", "-") if self.records is None else (self.records, self.missing, self.duplicated)
        words = ("records", "missing", "duplicated")
        told = "  ".join(f"{count:>7} {word}" for count, word in zip(counts, words, strict=True))
        return f"{self.name:<40} {told}  {self.seconds:>6.1f} s"


Tell = Callable[[Figures], None]
"""Takes a scenario's figures for the end of the run."""


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """When a scenario began."""

    begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self.begun


@dataclass(frozen=True, slots=True)
class Held:
    """What one look at a feed's truth, table and proof found. absent, gaps: ids by stream."""

    records: int
    absent: dict[str, list[int]]
    gaps: dict[str, list[int]]

    @property
    def explained(self) -> bool:
        """Whether the proof names exactly the ids that are not there, of streams whose ids prove anything."""
        return truth.provable(self.absent) == self.gaps

    @property
    def missing(self) -> int:
        """How many ids are not there."""
        return sum(map(len, self.absent.values()))


@dataclass
class ScenarioFeed:
    """A MarketFeed in a namespace of its own. `spec` replaces parts of the usual one.

    changed: symbols that were added or removed on the way, whose truth counts only between the first and the last id
    that are stored.
    """

    stand: Stand
    name: str
    rate: int = 40
    own_venue: bool = True
    symbols: tuple[str, ...] = SYMBOLS
    venue_symbols: tuple[str, ...] = SYMBOLS
    spec: Mapping[str, Any] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    @property
    def namespace(self) -> str:
        """Where all of it lives."""
        return f"e2e-{self.name}"

    @property
    def topics(self) -> tuple[str, ...]:
        """The feed's topics, of this run alone: what an interrupted one has left is not read again."""
        return tuple(f"{self.name}-{_RUN}.{what}" for what in ("trades", "book", "dlq"))

    def document(self, **spec: Any) -> Object:
        """Return the MarketFeed; `spec` replaces parts of its spec."""
        found: Object = yaml.safe_load((_FILES / "feed.yaml").read_text())
        found["metadata"] = {"name": self.name, "namespace": self.namespace}
        given = found["spec"]
        given["symbols"] = [*self.symbols]
        where = f"{SIMULATOR}.{self.namespace}" if self.own_venue else f"simulator.{PLATFORM}"
        given["endpoints"] = {"websocket": f"ws://{where}:8765", "rest": [f"http://{where}:{_REST_PORT}"]}
        trades, book, dead = self.topics
        given["kafka"]["topics"]["names"] = {"trade": trades, "aggTrade": trades, "bookTicker": book}
        given["deadLetter"] = {"topic": dead}
        for name, value in copy.deepcopy({**self.spec, **spec}).items():
            given[name] = {**given.get(name, {}), **value} if isinstance(value, dict) else value
        return found

    def begin(self, *, secret: bool = True) -> None:
        """Make the namespace, the venue, the database and the feed; nothing is waited for."""
        if self.own_venue:
            self.begin_venue()
        else:
            self.stand.make_namespace(self.namespace)
        self._make_database()
        if secret:
            self.make_secret()
        self.apply()

    def begin_venue(self) -> None:
        """Make the namespace and the venue alone."""
        self.stand.make_namespace(self.namespace)
        self.stand.cluster.apply(*self._venue())

    def stop_venue(self) -> None:
        """End the venue; its truth goes with it."""
        if self.own_venue:
            self.stand.cluster.kubectl(
                "delete", "deployment", SIMULATOR, f"--namespace={self.namespace}", "--wait=false"
            )

    def venue_pod(self) -> str:
        """Return the name of the venue's pod, when it is ready."""

        def pods() -> list[Object]:
            return self.stand.cluster.pods(self.namespace, f"app.kubernetes.io/name={SIMULATOR}")

        self.until(lambda: any(map(is_ready, pods())), READY_S, f"the venue of {self.name} to be ready")
        return str(pods()[0]["metadata"]["name"])

    def make_secret(self) -> None:
        """Make the Secret that the sink reads."""
        values = {"dsn": urlsplit(self.stand.dsn)._replace(path=f"/{self._database}").geturl()}
        metadata = {"name": SINK, "namespace": self.namespace}
        self.stand.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})

    def apply(self, **spec: Any) -> None:
        """Apply the feed as a user would."""
        self.stand.cluster.apply(self.document(**spec))

    def patch(self, **spec: Any) -> None:
        """Change parts of the feed's spec."""
        where = (f"--namespace={self.namespace}", "--type=merge")
        self.stand.cluster.kubectl("patch", _KIND, self.name, *where, f"--patch={json.dumps({'spec': spec})}")

    def change_symbols(self, *, add: str | None = None, remove: str | None = None) -> None:
        """Add a symbol to the feed, or take one away."""
        self.changed |= {symbol for symbol in (add, remove) if symbol}
        self.symbols = tuple(symbol for symbol in (*self.symbols, add) if symbol and symbol != remove)
        self.patch(symbols=[*self.symbols])

    def delete(self) -> None:
        """Delete the feed alone; nothing is waited for."""
        where = (f"--namespace={self.namespace}", "--ignore-not-found", "--wait=false")
        self.stand.cluster.kubectl("delete", _KIND, self.name, *where)

    def end(self) -> None:
        """Delete the namespace with all that is in it; nothing is waited for."""
        self.stand.cluster.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false")

    def feed(self) -> Object:
        """Return the MarketFeed as it is."""
        found = self.stand.cluster.get(_KIND, self.name, self.namespace)
        assert found is not None, f"there is no MarketFeed {self.name}"
        return found

    def condition(self, kind: str) -> Object:
        """Return a condition of the present generation; one that is not there yet is Unknown."""
        feed = self.feed()
        for one in (feed.get("status") or {}).get("conditions", ()):
            if one["type"] == kind and one.get("observedGeneration", 0) >= feed["metadata"]["generation"]:
                return dict(one)
        return {"type": kind, "status": "Unknown", "reason": "Missing", "message": ""}

    def wait(self, kind: str, status: str = "True", reason: str | None = None, timeout_s: float = READY_S) -> Object:
        """Wait until a condition of the present generation has this status (and reason); return it."""

        def reached() -> Object | None:
            now = self.condition(kind)
            return now if now["status"] == status and reason in (None, now["reason"]) else None

        what = f"{kind} of {self.name} to be {status} {reason or ''}"
        found: Object = self.until(reached, timeout_s, what)
        return found

    def until(self, condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """Wait; a failure says what is to be seen in the feed's namespace."""
        return self.stand.cluster.until(condition, timeout_s, what, self.namespace)

    def pods(self, component: str) -> list[Object]:
        """Return the feed's pods of a component (`ingestor`, `consumer`) that are here to stay."""
        selector = f"marketfeed.dev/feed={self.name},app.kubernetes.io/component={component}"
        return self.stand.cluster.pods(self.namespace, selector)

    def pod(self, component: str) -> Object:
        """Wait until the component has one pod, ready; return it."""

        def single() -> Object | None:
            found = self.pods(component)
            return found[0] if len(found) == 1 and is_ready(found[0]) else None

        found: Object = self.until(single, READY_S, f"one ready {component} of {self.name}")
        return found

    def identities(self) -> dict[str, tuple[str, int]]:
        """Return, by name, the identity and the restarts of every pod of the feed."""
        found = [*self.pods("ingestor"), *self.pods("consumer")]
        return {str(pod["metadata"]["name"]): (uid(pod), restarts(pod)) for pod in found}

    def health(self, component: str) -> Object:
        """Return `/health` of a component, asked for through the API server as a person would."""
        path = f"/api/v1/namespaces/{self.namespace}/services/{self.name}-{component}:http/proxy/health"
        found: Object = json.loads(self.stand.cluster.raw(path))
        return found

    def rows(self, symbol: str | None = None) -> int:
        """Return how many rows the ledger counts, of one symbol or of all; 0 before there is one."""
        with self._dsn() as dsn, closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            try:
                cursor.execute(_STORED, {"symbol": symbol})
            except psycopg2.errors.UndefinedTable:
                return 0
            return int((cursor.fetchone() or (0,))[0])

    def wait_for_rows(self, more: int) -> None:
        """Wait until so many more rows are stored than now."""
        target = self.rows() + more
        self.until(lambda: self.rows() >= target, SETTLED_S, f"{more} more rows of {self.name}, {target} in all")

    def prove(self, name: str, watch: Stopwatch, *, nothing_missing: bool) -> Figures:
        """Compare the table with the venue's truth, row by row, and return what came out.

        Every row was issued just so and is there once. What is not there is exactly what `marketfeed verify` names, and
        nothing where nobody was cut off (`nothing_missing`).
        """
        issued = self._issued()
        looks: list[Held] = []

        def settled() -> bool:
            looks.append(self._look(issued))
            return looks[-1].explained and not (nothing_missing and looks[-1].absent)

        what = f"the table of {self.name} to hold the truth"
        try:
            self.until(settled, SETTLED_S, what)
        except pytest.fail.Exception:
            last = looks[-1]
            print(f"{self.name}: not there {_ranges(last.absent)}; named as gaps {_ranges(last.gaps)}")  # noqa: T201
            raise
        return Figures(name, watch.seconds, looks[-1].records, looks[-1].missing)

    def halt(self) -> None:
        """Halt the venue's market for good; its connections stay."""
        self.stand.cluster.post(f"{self._venue_path}/simulator/halt")

    def market(self) -> Object:
        """Return what the venue says of its market."""
        found: Object = json.loads(self.stand.cluster.raw(f"{self._venue_path}/simulator/state"))
        return found

    def _look(self, issued: truth.Rows) -> Held:
        with self._dsn() as dsn:
            rows = truth.stored(dsn)
            proof = verify.prove(dsn)
        assert not proof.disagreements, proof.disagreements
        truth.assert_true(rows, self._issued())
        expected = {stream: self._expected(stream, issued[stream], rows) for stream in issued}
        ends = {stream: max(ids) for stream, ids in expected.items() if ids}
        return Held(
            records=sum(map(len, rows.values())),
            absent=truth.missing(rows, {stream: ids for stream, ids in expected.items() if ids}),
            gaps=ids_of(proof.gaps, ends),
        )

    def _expected(
        self, stream: str, issued: dict[int, tuple[Any, ...]], rows: truth.Rows
    ) -> dict[int, tuple[Any, ...]]:
        """Return what of a stream's truth is to be there."""
        symbol, held = stream.partition("@")[0], rows.get(stream, {})
        if self.own_venue and symbol in self.symbols and symbol not in self.changed:
            return issued
        if not held:
            return {}
        first, last = min(held), max(held)
        return {number: row for number, row in issued.items() if first <= number <= last}

    def _issued(self) -> truth.Rows:
        namespace = self.namespace if self.own_venue else PLATFORM
        selector = f"app.kubernetes.io/name={SIMULATOR if self.own_venue else 'simulator'}"
        (pod,) = self.stand.cluster.pods(namespace, selector)
        container = pod["spec"]["containers"][0]["name"]
        root = self.stand.container_root(namespace, str(pod["metadata"]["name"]), container)
        return truth.issued(root / "truth")

    def _venue(self) -> list[Object]:
        text = (_FILES / "venue.yaml").read_text()
        streams = len(self.symbols) * len(CHANNELS)
        values = {
            "NAMESPACE": self.namespace,
            "IMAGE": self.stand.services_image,
            "SYMBOLS": ",".join(self.venue_symbols),
            "RATE": str(self.rate),
            "STREAMS": str(streams),
        }
        for name, value in values.items():
            text = text.replace(f"${name}", value)
        return list(yaml.safe_load_all(text))

    @property
    def _venue_path(self) -> str:
        where = self.namespace if self.own_venue else PLATFORM
        return f"/api/v1/namespaces/{where}/services/{SIMULATOR if self.own_venue else 'simulator'}:rest/proxy"

    @property
    def _database(self) -> str:
        return f"e2e_{self.name}"

    @contextmanager
    def _dsn(self) -> Iterator[str]:
        """Yield how the feed's database is reached from here, until the block ends."""
        with self.stand.database(self._database) as dsn:
            yield dsn

    def _make_database(self) -> None:
        with (
            self.stand.database(urlsplit(self.stand.dsn).path[1:]) as dsn,
            closing(psycopg2.connect(dsn)) as connection,
        ):
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS {self._database} WITH (FORCE)")
                cursor.execute(f"CREATE DATABASE {self._database}")


def ids_of(gaps: Sequence[GapFound], ends: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the ids of gaps, by stream, up to the ends that are looked at."""
    found: dict[str, list[int]] = {}
    for gap in gaps:
        stream = f"{gap.symbol}@{gap.channel}"
        ids = range(gap.first_id, min(gap.last_id, ends.get(stream, 0)) + 1)
        if ids:
            found.setdefault(stream, []).extend(ids)
    return {stream: sorted(ids) for stream, ids in found.items()}


def _ranges(ids: Mapping[str, Sequence[int]]) -> str:
    return (
        ", ".join(f"{stream} {len(each)} ids from {each[0]} to {each[-1]}" for stream, each in ids.items()) or "nothing"
    )
