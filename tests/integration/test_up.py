"""`marketfeed up`, run as a user runs it: real broker, real database, simulated venue."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from helpers import recordings, wait_until
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.local.runs import POSTGRES, sweep
from marketfeed.simulator.instruments import parse_symbols
from marketfeed.simulator.market import Market
from truth import issued, stored
from up_runs import DEADLINE_S, FEED, Up, all_gone, query, up


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """Return a MarketFeed's file that the test may edit."""
    path = tmp_path / "feed.yaml"
    path.write_text(FEED)
    return path


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Path]:
    """Return a folder for --keep; the database's data, which may lie outside of it, is removed afterwards."""
    folder = tmp_path / "keep"
    yield folder
    EmbeddedPostgres(folder / POSTGRES).remove()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Return a folder with a recording of some thousand frames, made from the synthetic market."""
    market = Market(parse_symbols("BTCUSDT,ETHUSDT"), 1000.0, 7)
    market.begin(1_700_000_000_000)
    folder = tmp_path / "recording"
    folder.mkdir()
    with (folder / "socket.jsonl").open("wb") as file:
        for _ in range(2000):
            at = market.due()
            for issued in market.step():
                frame = b'{"stream":"%b","data":%b}' % (issued.stream.encode(), issued.payload)
                file.write(b'{"t":%d,"frame":%b}\n' % (1_700_000_000_000 + int(at), frame))
    return folder


def prints(folder: Path, symbols: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return the prints of these symbols in a folder of recordings, digits as they are."""
    found: set[tuple[str, ...]] = set()
    for path in folder.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            data = json.loads(line)["frame"]["data"]
            if data.get("e") in ("trade", "aggTrade") and data["s"] in symbols:
                number = data["t"] if data["e"] == "trade" else data["a"]
                found.add((data["s"], data["e"], str(number), data["p"], data["q"], str(data["T"])))
    return found


def stored_prints(dsn: str) -> list[tuple[str, ...]]:
    """Return every stored print in the form of `prints`."""
    return query(
        dsn,
        "SELECT symbol, channel, trade_id::text, price::text, quantity::text,"
        " (extract(epoch FROM event_time) * 1000)::bigint::text FROM trades",
    )


def test_a_timed_run_ends_with_a_complete_proof(feed: Path, keep: Path) -> None:
    """`--for` ends by itself with exit code 0, a complete proof and rows; --keep keeps data, logs, truth and proof."""
    with up(feed, "--for", "4s", "--keep", str(keep), "--rate", "500") as run:
        assert run.wait() == 0, run.output
    proof = json.loads((keep / "proof.json").read_text())
    assert proof["complete"] is True
    assert {path.name for path in (keep / "truth").iterdir()} >= {"BTCUSDT@trade.jsonl", "ETHUSDT@bookTicker.jsonl"}
    assert (keep / "logs" / "spot-ingestor-0.log").stat().st_size > 0
    assert not (keep / "endpoints.json").exists()


def test_a_kept_run_goes_on(feed: Path, keep: Path) -> None:
    """Two runs on one folder are one feed: the proof of both is complete, and the tables equal the venue's truth."""
    for _ in range(2):
        with up(feed, "--for", "3s", "--keep", str(keep), "--rate", "500") as run:
            assert run.wait() == 0, run.output
    with EmbeddedPostgres(keep / POSTGRES) as postgres:
        assert stored(postgres.dsn) == issued(keep / "truth")


def test_a_replay_stores_exactly_what_was_recorded(feed: Path, recording: Path) -> None:
    """Every print of the recording is in the table once, with its digits, and nothing else is."""
    expected = prints(recording, ("BTCUSDT", "ETHUSDT"))
    with up(feed, "--replay", str(recording), "--speed", "max") as run:
        wait_until(lambda: run.rows() >= len(expected), DEADLINE_S, "all prints")
        found = stored_prints(run.endpoints["postgres"])
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 0, run.output
    assert sorted(found) == sorted(expected)


def test_real_recordings_are_stored_exactly() -> None:
    """The recorded prints of the replay example's symbols are stored as the venue sent them, and proven complete."""
    folder = recordings() / "binance"
    example = Path(__file__).parents[2] / "manifests" / "examples" / "binance-replay.yaml"
    expected = prints(folder, ("XRPETH", "BTCUSDT"))
    with up(example, "--replay", str(folder), "--speed", "max", "--for", "8s") as run:
        wait_until(lambda: run.rows() >= len(expected), DEADLINE_S, "all prints")
        found = stored_prints(run.endpoints["postgres"])
        assert run.wait() == 0, run.output
    assert sorted(found) == sorted(expected)


def test_ctrl_c_leaves_nothing_behind(feed: Path) -> None:
    """After one Ctrl-C the run ends with 0, no process of it lives, and its folder is gone."""
    with up(feed) as run:
        wait_until(run.rows, DEADLINE_S, "rows")
        folder, started = run.folder, run.processes()
        assert len(started) > 6  # simulator, two shards, consumer, broker, database
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 0, run.output
    assert all_gone(started)
    assert not folder.exists()


def test_a_second_ctrl_c_ends_at_once(feed: Path) -> None:
    """Who presses Ctrl-C twice waits for nothing: the run ends with 130 and still leaves nothing behind."""
    with up(feed) as run:
        folder, started = run.folder, run.processes()
        run.process.send_signal(signal.SIGINT)
        wait_until(lambda: "Stopping in order" in run.output, DEADLINE_S, "the first Ctrl-C to be taken")
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 130, run.output
    wait_until(lambda: all_gone(started), DEADLINE_S, "every process to end")
    assert not folder.exists()


def test_a_killed_runner_leaves_no_process(feed: Path) -> None:
    """After kill -9 of the runner everything that it started ends, and the next run removes its folder."""
    with up(feed) as run:
        folder, started = run.folder, run.processes()
        run.process.kill()
        run.wait()
        wait_until(lambda: all_gone(started), DEADLINE_S, "every process to end")
        assert folder.exists()
    sweep()
    assert not folder.exists()


def test_two_runs_do_not_meet(feed: Path) -> None:
    """Two runs of one feed side by side share no address, and each stores rows of its own market."""
    with up(feed, "--seed", "1") as one, up(feed, "--seed", "2") as two:
        for run in (one, two):
            wait_until(run.rows, DEADLINE_S, "rows")
        addresses = [set(re.findall(r":(\d{4,5})", run.endpoints_file.read_text())) for run in (one, two)]
        assert addresses[0] & addresses[1] == set()
        for run in (one, two):
            run.process.send_signal(signal.SIGINT)
        assert [run.wait() for run in (one, two)] == [0, 0]


def _lasting(run: Up) -> set[psutil.Process]:
    """Return the run's processes but PostgreSQL's, which has one for each connection: they come and go."""
    return {process for process in run.processes() if _name(process) not in ("postgres", None)}


def _name(process: psutil.Process) -> str | None:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return None


def test_an_edit_adds_a_symbol_without_a_restart(feed: Path) -> None:
    """A symbol is added, one let go with its shard, and a bad edit changes nothing; no service was started again."""
    with up(feed) as run:
        wait_until(run.rows, DEADLINE_S, "rows")
        services = run.endpoints["services"]
        processes = _lasting(run)
        feed.write_text(
            FEED.replace("ETHUSDT]", "ETHUSDT, SOLUSDT]").replace("streamsPerShard: 4", "streamsPerShard: 5")
        )
        wait_until(lambda: run.rows("symbol = 'SOLUSDT'"), DEADLINE_S, "rows of the added symbol")
        feed.write_text("spec: nonsense")
        wait_until(lambda: "is not taken over" in run.output, DEADLINE_S, "the bad edit to be refused")
        feed.write_text(FEED.replace("BTCUSDT, ETHUSDT", "BTCUSDT").replace("streamsPerShard: 4", "streamsPerShard: 3"))
        wait_until(lambda: len(_shards(run)) == 1, DEADLINE_S, "the other shard to be gone")
        wait_until(lambda: _subscribed(run) == 3, DEADLINE_S, "the streams of one symbol")
        assert run.endpoints["services"].items() <= services.items()
        assert _lasting(run) <= processes
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 0, run.output


def _shards(run: Up) -> list[str]:
    return [name for name in run.endpoints["services"] if "ingestor" in name]


def _subscribed(run: Up) -> int:
    return sum(run.stats(shard)["streams"]["subscribed"] for shard in _shards(run))


def test_what_dies_comes_back(feed: Path) -> None:
    """A killed shard, consumer, broker, database and venue each come back, and rows keep coming."""
    with up(feed) as run:
        wait_until(run.rows, DEADLINE_S, "rows")
        addresses = {name: run.endpoints[name] for name in ("kafka", "postgres", "simulator")}
        victims = [process for process in psutil.Process(run.process.pid).children() if process.is_running()]
        assert len(victims) == 6
        for victim in victims:
            victim.kill()
        newest = "SELECT max(ingestion_time) FROM trades"
        moment = query(_answering(run), "SELECT clock_timestamp()")[0][0]
        wait_until(lambda: (query(_answering(run), newest)[0][0] or moment) > moment, DEADLINE_S, "new rows")
        assert {name: run.endpoints[name] for name in addresses} == addresses
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 0, run.output


def _answering(run: Up) -> str:
    """Return the DSN once the database answers."""

    def answers() -> bool:
        try:
            query(run.endpoints["postgres"], "SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True

    wait_until(answers, DEADLINE_S, "the database")
    return str(run.endpoints["postgres"])


def test_without_kafka_nothing_is_stored_and_everything_else_runs(feed: Path) -> None:
    """With kafka.enabled false there is neither broker nor database, and the shards still receive."""
    document = FEED.partition("  sinks:")[0] + "  kafka: {enabled: false}\n"
    feed.write_text(document)
    with up(feed, "--for", "3s") as run:
        assert run.endpoints["kafka"] is None
        assert run.endpoints["postgres"] is None
        wait_until(lambda: run.stats("spot-ingestor-0")["total_messages"], DEADLINE_S, "messages")
        assert run.wait() == 0, run.output


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"exchange: binance": "exchange: binanse"}, "binanse"),
        ({"type: postgresql": "type: redis"}, "redis"),
        ({"spec:": "spec:\n  suspend: true"}, "spec.suspend is true"),
    ],
)
def test_a_bad_feed_is_refused_with_a_sentence(feed: Path, change: dict[str, str], sentence: str) -> None:
    """What cannot be run ends with exit code 2 and a sentence, before anything is started."""
    for old, new in change.items():
        feed.write_text(FEED.replace(old, new))
    with up(feed) as run:
        assert run.wait() == 2
        assert sentence in run.output
        assert "Traceback" not in run.output
