"""How the API server is reached: by which proxy, and as whom."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fake_api import fake_api, says
from marketfeed_operator.api.transport import Request, Transport

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
REQUEST = Request("GET", "/version", {})


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(("no_proxy", "asked"), [("", (0, 1)), ("example.org", (0, 1)), ("127.0.0.1", (1, 0))])
def test_the_environments_proxy_is_asked_unless_the_host_is_exempt(
    no_proxy: str, asked: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY leads to the proxy, NO_PROXY past it; kopf is told the same."""

    async def run() -> tuple[int, int, str | None]:
        async with fake_api(says(200)) as server, fake_api(says(200)) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            monkeypatch.setenv("NO_PROXY", no_proxy)
            transport = await Transport.connect(server.kubeconfig(tmp_path / "config"), None)
            try:
                await transport.send(REQUEST, 5.0)
                return len(server.asked), len(proxy.asked), transport.connection().proxy_url
            finally:
                await transport.close()

    direct, by_proxy, told = asyncio.run(run())
    assert (direct, by_proxy) == asked
    assert (told is not None) is bool(by_proxy)


def test_a_netrc_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that ~/.netrc has for the host is not ours: the kubeconfig says who we are."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))

    async def run() -> str:
        async with fake_api(says(200)) as server:
            transport = await Transport.connect(server.kubeconfig(tmp_path / "config", token="ours"), None)
            try:
                await transport.send(REQUEST, 5.0)
            finally:
                await transport.close()
            return server.asked[0].headers["Authorization"]

    assert asyncio.run(run()) == "Bearer ours"
