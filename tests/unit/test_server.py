"""The HTTP side of every service, on a free loopback port."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from marketfeed.errors import ConfigurationError
from marketfeed.server import Pulse, Server
from marketfeed.settings import HttpSettings


class Service:
    """A service whose state a test sets."""

    live: str | None = None
    ready: str | None = None


@pytest.fixture
def service() -> Service:
    """Return a service that is well."""
    return Service()


@pytest.fixture
def server(service: Service) -> Iterator[Server]:
    """Serve that service until the test ends."""
    registry = CollectorRegistry()
    Counter("marketfeed_tests", "Tests", registry=registry).inc()
    pulse = Pulse(lambda: service.live, lambda: service.ready, lambda: {"publish_count": 3}, lambda: ["BTCUSDT"])
    server = Server(HttpSettings(host="127.0.0.1", port=0), pulse, registry)
    yield server
    server.close()


def get(server: Server, path: str) -> tuple[int, str]:
    """Return status and body of a GET."""
    try:
        with urllib.request.urlopen(server.url + path, timeout=5) as answer:  # noqa: S310 - a loopback URL of ours
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
def test_a_service_that_is_well_answers_200(server: Server, path: str) -> None:
    """All three state paths say 200 while nothing is wrong."""
    assert get(server, path)[0] == 200


def test_an_unready_service_is_alive(server: Server, service: Service) -> None:
    """A silent venue makes the service unready with the reason, and never dead."""
    service.ready = "no frame for 31 s"
    assert get(server, "/livez")[0] == 200
    for path in ("/readyz", "/health"):
        status, body = get(server, path)
        assert status == 503
        assert json.loads(body)["reason"] == "no frame for 31 s"


def test_a_dead_service_is_not_ready(server: Server, service: Service) -> None:
    """Whoever is not live is not ready either, whatever readiness itself would say."""
    service.live = "the loop has not turned for 12 s"
    assert [get(server, path)[0] for path in ("/livez", "/readyz", "/health")] == [503, 503, 503]


def test_a_starting_service_says_so(server: Server, service: Service) -> None:
    """A reason that begins with `starting` is reported as that state, not as unhealthy."""
    service.ready = "starting: topic binance.trades does not exist yet"
    assert json.loads(get(server, "/health")[1])["status"] == "starting"


def test_stats_pairs_and_metrics(server: Server) -> None:
    """Statistics and pairs are JSON, metrics the Prometheus text form."""
    assert json.loads(get(server, "/stats")[1]) == {"publish_count": 3}
    assert json.loads(get(server, "/pairs")[1]) == {"count": 1, "pairs": ["BTCUSDT"]}
    assert "marketfeed_tests_total 1.0" in get(server, "/metrics")[1]


def test_an_unknown_path_names_the_known_ones(server: Server) -> None:
    """A wrong path is 404 with what there is, and each path that it names is answered."""
    status, body = get(server, "/heath")
    assert status == 404
    named = json.loads(body)["error"].removeprefix("try ").split()
    assert "/health" in named
    assert {get(server, path)[0] for path in named} == {200}


def test_only_a_service_that_carries_streams_answers_for_them(server: Server) -> None:
    """`/streams` is what the service says of them; where there are none, it is an unknown path and not offered."""
    status, body = get(server, "/streams")
    assert (status, "/streams" in body) == (404, False)
    held = {"desired": ["BTCUSDT@trade"], "carried": []}
    pulse = Pulse(lambda: None, lambda: None, dict, streams=lambda: held)
    carrier = Server(HttpSettings(host="127.0.0.1", port=0), pulse, CollectorRegistry())
    try:
        status, body = get(carrier, "/streams")
        assert (status, json.loads(body)) == (200, held)
        assert "/streams" in get(carrier, "/heath")[1]
    finally:
        carrier.close()


def test_a_taken_port_is_told_as_one() -> None:
    """Two services on one port: the second ends at once, with the variables that name the port."""
    pulse = Pulse(lambda: None, lambda: None, dict)
    first = Server(HttpSettings(host="127.0.0.1", port=0), pulse, CollectorRegistry())
    port = int(first.url.rpartition(":")[2])
    try:
        with pytest.raises(ConfigurationError, match=rf"^HTTP_HOST and HTTP_PORT: .*127\.0\.0\.1:{port}: .*in use"):
            Server(HttpSettings(host="127.0.0.1", port=port), pulse, CollectorRegistry())
    finally:
        first.close()
