"""What `helm test` runs in its pod, run here against a real API server under the account that the chart gives it."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from charting import hooks_of, render
from controlplane import ControlPlane
from controlplane.install import install, own
from operator_chart import CHART

pytestmark = pytest.mark.apiserver

Check = dict[str, Any]


@contextmanager
def service(code: int) -> Iterator[str]:
    """Stand in for the operator's Service: every path answers with `code`; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(b'{"reason": "starting: the cluster has not been looked at yet"}')

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def check(chart_plane: ControlPlane, restricted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Return the names of the check's program, which sees what its pod would: its token, the API server's address."""
    hooks = [each for each in render(CHART, namespace=restricted) if "test" in hooks_of(each) and each["kind"] != "Pod"]
    chart_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(hooks))
    token = chart_plane.kubectl("create", "token", "marketfeed-operator-test", f"--namespace={restricted}").stdout
    (tmp_path / "token").write_text(token)
    (tmp_path / "ca.crt").write_bytes(chart_plane.ca_file.read_bytes())
    address = urlsplit(chart_plane.url)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(address.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address.port))
    program: Check = runpy.run_path(str(CHART / "files/checks/installed.py"), run_name="check")["main"].__globals__
    monkeypatch.setitem(program, "_ACCOUNT", tmp_path)
    return program


def lease(plane: ControlPlane, namespace: str, age_s: float, holder: str = "replica-0_1a2b") -> None:
    """Make the operator's Lease as a leader leaves it, renewed so long ago."""
    renewed = (datetime.now(UTC) - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 10, "renewTime": renewed}
    metadata = {"name": "marketfeed-operator", "namespace": namespace}
    document = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
    plane.kubectl("apply", "-f", "-", input=json.dumps(document))


def test_a_sound_installation_passes(chart_plane: ControlPlane, restricted: str, check: Check) -> None:
    """The definition, the Lease and the Service are each found good, with no more rights than the chart gives."""
    install(chart_plane, own())
    lease(chart_plane, restricted, 0)
    with service(200) as url:
        assert check["served"]() == "MarketFeed is served"
        assert check["led"](restricted) == "replica-0_1a2b leads"
        assert "answers" in check["ready"](url)


def test_what_is_missing_is_said(chart_plane: ControlPlane, restricted: str, check: Check) -> None:
    """No definition, no Lease, no holder, a holder that is gone, a replica that is not ready: each is told."""
    chart_plane.kubectl("delete", "crd", "marketfeeds.marketfeed.dev", "--ignore-not-found", "--timeout=60s")
    wrong: type[Exception] = check["Not"]
    with pytest.raises(wrong, match="definition"):
        check["served"]()
    with pytest.raises(wrong, match="no replica has ever led"):
        check["led"](restricted)
    lease(chart_plane, restricted, 0, holder="")
    with pytest.raises(wrong, match="nobody holds the Lease"):
        check["led"](restricted)
    lease(chart_plane, restricted, 60)
    with pytest.raises(wrong, match=r"has not renewed the Lease for 6\d s"):
        check["led"](restricted)
    with service(503) as url, pytest.raises(wrong, match=r"503: .*the cluster has not been looked at yet"):
        check["ready"](url)
    with pytest.raises(wrong, match="does not answer"):
        check["ready"]("http://127.0.0.1:9")


def test_it_is_tried_again_until_it_is_too_late(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    """A check that fails is said with its sentence once its time is over, and no earlier than it must be."""
    wrong: type[Exception] = check["Not"]

    def fails() -> str:
        raise wrong("nobody holds the Lease")

    assert check["passes"](lambda: "it works", 0.0) is True
    assert check["passes"](fails, 0.0) is False
    assert capsys.readouterr().out.splitlines() == ["ok: it works", "failed: nobody holds the Lease"]
