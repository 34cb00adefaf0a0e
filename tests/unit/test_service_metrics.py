"""What every service reports of itself, computed at the scrape: readiness, memory, certificates."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from marketfeed import memory
from marketfeed.certificates import expires_at
from marketfeed.ingestor import Ingestor
from marketfeed.metrics import Computed, ServiceMetrics
from marketfeed.server import Pulse
from marketfeed.settings import IngestorSettings

MIB = 1024 * 1024
OLD, NEW = (Path(__file__).parent / "authorities" / name for name in ("old.pem", "new.pem"))  # their keys are gone


def test_readiness_is_what_readyz_says_now() -> None:
    """A reason of liveness or readiness makes it 0 at the next scrape, and its end 1 again."""
    reasons: dict[str, str | None] = {"live": None, "ready": None}
    registry = CollectorRegistry()
    pulse = Pulse(lambda: reasons["live"], lambda: reasons["ready"], dict)
    ServiceMetrics(registry, "consumer", pulse.unready)
    seen = []
    for reasons["live"], reasons["ready"] in ((None, None), (None, "no database"), ("hangs", None), (None, None)):
        seen.append(registry.get_sample_value("marketfeed_ready", {"service": "consumer"}))
    assert seen == [1, 0, 0, 1]


def test_nothing_is_computed_to_register_a_gauge() -> None:
    """A value that is dear or not there yet is asked for at a scrape and not before."""
    asked: list[int] = []

    def values() -> list[tuple[list[str], float]]:
        asked.append(1)
        return [([], len(asked))]

    registry = CollectorRegistry()
    Computed("marketfeed_tests", "Tests", [], values, registry)
    assert asked == []
    assert registry.get_sample_value("marketfeed_tests") == 1


def test_a_process_reports_itself() -> None:
    """Memory, processor time, start and garbage collection of the process are in each service's own registry."""
    registry = CollectorRegistry()
    ServiceMetrics(registry, "ingestor", lambda: None)
    names = {family.name for family in registry.collect()}
    assert {"process_resident_memory_bytes", "process_start_time_seconds", "python_gc_collections"} <= names


def _version_2(root: Path, limit: str) -> None:
    (root / "memory.max").write_text(f"{limit}\n")
    (root / "memory.current").write_text(f"{300 * MIB}\n")
    (root / "memory.stat").write_text(f"anon 5\ninactive_file {100 * MIB}\n")


def _version_1(root: Path, limit: str) -> None:
    folder = root / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{300 * MIB}\n")
    (folder / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {100 * MIB}\n")


@pytest.mark.parametrize(("version", "own"), [(_version_2, "0::/\n"), (_version_1, "9:cpu:/\n8:memory:/pods/a\n")])
def test_a_containers_memory_is_what_it_cannot_drop(
    tmp_path: Path, version: Callable[[Path, str], None], own: str
) -> None:
    """Both versions of cgroups tell limit and use, without the file cache that goes first."""
    version(tmp_path, str(512 * MIB))
    (tmp_path / "own").write_text(own)
    assert memory.of_container(tmp_path, tmp_path / "own") == (200 * MIB, 512 * MIB)


@pytest.mark.parametrize(
    ("version", "unlimited"), [(_version_2, "max"), (_version_1, str(2**63 - 4096)), (_version_2, "no number")]
)
def test_without_a_limit_there_is_nothing_to_show(
    tmp_path: Path, version: Callable[[Path, str], None], unlimited: str
) -> None:
    """An unlimited container, and figures that nobody can read, give no memory."""
    version(tmp_path, unlimited)
    (tmp_path / "own").write_text("0::/\n")
    assert memory.of_container(tmp_path, tmp_path / "own") is None


def test_a_machine_without_cgroups_has_none(tmp_path: Path) -> None:
    """Where there is no such file, as on a Mac, nothing is shown and nothing fails."""
    assert memory.of_container(tmp_path, tmp_path / "none") is None


def test_the_own_group_counts_where_the_whole_tree_is_mounted(tmp_path: Path) -> None:
    """On a host, the limit of the process's own group is read and not that of the machine."""
    group = tmp_path / "system.slice" / "a.service"
    group.mkdir(parents=True)
    _version_2(group, str(256 * MIB))
    _version_2(tmp_path, "max")
    (tmp_path / "own").write_text("0::/system.slice/a.service\n")
    found = memory.of_container(tmp_path, tmp_path / "own")
    assert found is not None
    assert found.limit == 256 * MIB


def test_a_file_of_authorities_expires_with_its_last(tmp_path: Path) -> None:
    """The old authority of a rotation does not count beside the new one."""
    (tmp_path / "ca.crt").write_text(OLD.read_text() + NEW.read_text())
    assert expires_at(tmp_path / "ca.crt") == expires_at(NEW)
    assert expires_at(tmp_path / "ca.crt") == ssl.cert_time_to_seconds("Nov 13 21:59:31 2056 GMT")


def test_a_certificate_that_cannot_be_read_is_not_shown(tmp_path: Path) -> None:
    """A missing file and one without a certificate give no series, and the scrape goes on."""
    (tmp_path / "empty.crt").write_text("nothing")
    registry = CollectorRegistry()
    files = (str(tmp_path / "none.crt"), str(tmp_path / "empty.crt"), None, str(OLD))
    ServiceMetrics(registry, "ingestor", lambda: None, files)
    (family,) = (each for each in registry.collect() if each.name == "marketfeed_certificate_expiry_timestamp_seconds")
    assert [sample.labels["file"] for sample in family.samples] == [str(OLD)]


def test_an_ingestor_that_starts_says_that_it_is_not_ready(tmp_path: Path) -> None:
    """Its registry has readiness, connection and streams from the beginning, before anything was connected."""
    streams = tmp_path / "streams.json"
    streams.write_text('{"streams": ["BTCUSDT@trade"]}')
    settings = IngestorSettings(
        feed="spot",
        shard="spot-0",
        exchange="binance",
        websocket_url="ws://127.0.0.1:1",
        rest_urls=(),
        streams_file=str(streams),
        topics={},
        dead_letter_topic="dlq",
        publisher="null",
    )
    registry = CollectorRegistry()
    Ingestor(settings, registry)
    of_shard = {"exchange": "binance", "shard": "spot-0"}
    of_stream = {"exchange": "binance", "symbol": "BTCUSDT", "channel": "trade"}
    assert registry.get_sample_value("marketfeed_ready", {"service": "ingestor"}) == 0
    assert registry.get_sample_value("marketfeed_connected", of_shard) == 0
    assert registry.get_sample_value("marketfeed_streams", of_shard) == 1
    since = registry.get_sample_value("marketfeed_last_record_timestamp_seconds", of_stream)
    assert since == pytest.approx(time.time(), abs=60)
