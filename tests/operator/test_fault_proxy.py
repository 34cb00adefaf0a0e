"""The faulty proxy before the real API server, used by the clients that the operator uses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kubernetes.aio import client, config, watch

from controlplane import ControlPlane
from helpers import wait_until
from standins.proxy import FaultProxy

CONFIG_MAPS = "/configmaps"


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[FaultProxy]:
    """Stand before the shared control plane."""
    with FaultProxy(control_plane.kubeconfig) as proxy:
        yield proxy


class Caller:
    """Plain requests through the proxy, with the administrator's token."""

    def __init__(self, proxy: FaultProxy, token: str, namespace: str) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}
        self._root = f"{proxy.url}/api/v1/namespaces/{namespace}{CONFIG_MAPS}"

    def __call__(self, method: str, path: str = "", body: Any = None, timeout_s: float = 5.0) -> tuple[int, Any, Any]:
        """Return the answer's status, headers and object."""

        async def ask() -> tuple[int, Any, Any]:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(timeout_s)) as session,
                session.request(method, self._root + path, json=body, headers=self._headers) as answer,
            ):
                return answer.status, answer.headers, await answer.json()

        return asyncio.run(ask())


@pytest.fixture
def call(proxy: FaultProxy, control_plane: ControlPlane, namespace: str) -> Caller:
    """Return a way to call the API server on the test's ConfigMaps."""
    return Caller(proxy, control_plane.token, namespace)


def config_map(name: str) -> dict[str, Any]:
    """Return a ConfigMap whose answer is long enough to be broken in the middle."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b" * 4000}}


class Watcher:
    """A watch on a namespace's ConfigMaps with the official client, in a thread; `error` is what ended it."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.names: list[str] = []
        self.error: BaseException | None = None
        self._kubeconfig, self._namespace = kubeconfig, namespace
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._run())
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    def close(self) -> None:
        """End the watch."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(5)

    async def _run(self) -> None:
        loaded = client.Configuration()
        await config.load_kube_config(str(self._kubeconfig), client_configuration=loaded)
        async with client.ApiClient(loaded) as api, watch.Watch() as stream:
            source = client.CoreV1Api(api).list_namespaced_config_map
            try:
                # Without a time limit the client would open a broken watch again by itself.
                async for event in stream.stream(source, self._namespace, timeout_seconds=120):
                    self.names.append(event["object"].metadata.name)
            except (aiohttp.ClientError, client.ApiException) as error:
                self.error = error


@pytest.fixture
def watcher(proxy: FaultProxy, control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Watcher]:
    """Watch the test's ConfigMaps through the proxy; the watch is open."""
    watcher = Watcher(proxy.kubeconfig(tmp_path / "kubeconfig", control_plane.token), namespace)
    with closing(watcher):
        wait_until(lambda: any(namespace in path for path in proxy.open_watches), 10, "an open watch")
        yield watcher


def test_without_rules_all_is_as_without_the_proxy(call: Caller) -> None:
    """An object that is created through it is there, its absence is a 404, and deletion deletes."""
    assert call("POST", body=config_map("here"))[0] == 201
    assert call("GET", "/here")[2]["data"] == {"a": "b" * 4000}
    assert call("GET", "/absent")[0] == 404
    assert call("DELETE", "/here")[0] == 200
    assert call("GET", "/here")[0] == 404


def test_the_client_keeps_its_own_permissions(proxy: FaultProxy, namespace: str) -> None:
    """Nothing of the administrator leaks: a token that the API server does not know is refused."""
    assert Caller(proxy, "unknown", namespace)("GET")[0] == 401


@pytest.mark.parametrize("status", [409, 410, 422, 429, 500, 503])
def test_errors_are_made_once_and_leave_nothing_behind(proxy: FaultProxy, call: Caller, status: int) -> None:
    """The next matching request fails with the wanted code and is not executed; the one after it succeeds."""
    proxy.fail(status, verb="create", path=CONFIG_MAPS, retry_after_s=1 if status == 429 else None)
    code, headers, body = call("POST", body=config_map("late"))
    assert (code, body["kind"], body["code"]) == (status, "Status", status)
    assert headers.get("Retry-After") == ("1" if status == 429 else None)
    assert call("GET", "/late")[0] == 404
    assert call("POST", body=config_map("late"))[0] == 201
    assert [seen.status for seen in proxy.seen(verb="create")] == [status, 201]


def test_an_error_may_hide_a_success(proxy: FaultProxy, call: Caller) -> None:
    """With `executed` the client reads an error, and the object is there."""
    proxy.fail(500, verb="create", executed=True)
    assert call("POST", body=config_map("hidden"))[0] == 500
    assert call("GET", "/hidden")[0] == 200


def test_rules_mean_only_what_they_name(proxy: FaultProxy, call: Caller) -> None:
    """A rule for another verb, path or user touches nothing."""
    proxy.fail(500, verb="delete", times=9)
    proxy.fail(500, path="/secrets", times=9)
    proxy.fail(500, token="somebody", times=9)
    assert call("GET")[0] == 200
    proxy.clear()
    assert call("POST", body=config_map("gone"))[0] == 201
    assert call("DELETE", "/gone")[0] == 200


def test_a_hung_request_ends_when_the_client_gives_up(proxy: FaultProxy, call: Caller) -> None:
    """The answer never comes; the next request is answered."""
    proxy.hang(verb="list")
    with pytest.raises(TimeoutError):
        call("GET", timeout_s=0.3)
    assert call("GET")[0] == 200


def test_a_dropped_answer_breaks_in_the_middle(proxy: FaultProxy, call: Caller) -> None:
    """The client sees a broken answer to a request that was executed."""
    proxy.drop(verb="create")
    with pytest.raises(aiohttp.ClientError):
        call("POST", body=config_map("broken"))
    assert call("GET", "/broken")[0] == 200


def test_the_official_client_watches_through_plain_http(watcher: Watcher, call: Caller) -> None:
    """`kubernetes.aio` takes a kubeconfig with an http server and a token, and events arrive at once."""
    call("POST", body=config_map("seen"))
    wait_until(lambda: "seen" in watcher.names, 5, "the event of the new ConfigMap")


def test_cut_watches_end_and_can_be_opened_again(
    proxy: FaultProxy, watcher: Watcher, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """A cut watch is an error or an end for its client; a new one works."""
    assert proxy.cut_watches(namespace) == 1
    wait_until(lambda: not any(namespace in path for path in proxy.open_watches) or watcher.error, 5, "the watch's end")
    with closing(Watcher(proxy.kubeconfig(tmp_path / "again", control_plane.token), namespace)) as again:
        wait_until(lambda: again.names, 10, "an event in the second watch")


def test_a_mute_watch_stays_open_and_says_nothing(proxy: FaultProxy, watcher: Watcher, call: Caller) -> None:
    """The zombie: the connection is open, what happens is not told, and a new watch would be told."""
    assert proxy.mute_watches() == 1
    call("POST", body=config_map("unheard"))
    with proxy.recording() as during:
        assert call("GET", "/unheard")[0] == 200
    assert [seen.verb for seen in during] == ["get"]
    assert proxy.open_watches
    assert "unheard" not in watcher.names


def test_an_expired_watch_gets_the_error_event(proxy: FaultProxy, watcher: Watcher) -> None:
    """The official client raises the 410 of the ERROR event."""
    assert proxy.expire_watches() == 1
    wait_until(lambda: watcher.error is not None, 5, "the client's error")
    assert isinstance(watcher.error, client.ApiException)
    assert watcher.error.status == 410


def test_delays_and_times_show_in_the_record(proxy: FaultProxy, call: Caller) -> None:
    """A delayed request is answered late, and the record has the times in order."""
    call("GET")
    proxy.delay(0.3, times=1)
    call("GET")
    first, second = proxy.seen(verb="list", path=CONFIG_MAPS)
    assert second.at - first.at >= 0.3


def test_an_api_server_that_is_away_is_a_broken_connection(tmp_path: Path) -> None:
    """Where nothing listens behind the proxy, the client gets no answer, not an invented one."""
    nowhere = tmp_path / "kubeconfig"
    nowhere.write_text(
        "{current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {}}],"
        " clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]}"
    )
    with FaultProxy(nowhere) as proxy, pytest.raises(aiohttp.ClientError):
        Caller(proxy, "none", "none")("GET")
