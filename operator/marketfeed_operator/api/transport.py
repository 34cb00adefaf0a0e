"""The wire to the API server: where it is, who we are, TLS, and one request with one answer.

What does not live here: what is asked, retries, limits (cluster) and what an error means (errors).
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import kopf
import yaml
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException

from marketfeed import __version__
from marketfeed.errors import ConfigurationError
from marketfeed_operator.api.errors import Unanswered, presentable

CONNECT_TIMEOUT_S = 5.0
_REFRESH_S = 60.0  # how often a token file or an exec plugin's expiry is looked at
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `body` is sent as JSON under `content_type`."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any = None
    content_type: str = "application/json"
    accept: str = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """An API server that can be asked. Credentials are read anew as they change; `connect` makes one."""

    def __init__(self, client: ApiClient, credentials: Credentials) -> None:
        self._client = client
        self._credentials = credentials
        self._refreshed_at = time.monotonic()

    @classmethod
    async def connect(cls, kubeconfig: str | None, context: str | None) -> Self:
        """Return a transport by a kubeconfig, else by the pod's own service account, else by the default kubeconfig.

        Nothing is sent. Raises ConfigurationError if none of them can be used.
        """
        configuration = Configuration()
        credentials = Credentials(configuration, kubeconfig, context)
        await credentials.load()
        configuration.proxy = configuration.proxy or _proxy_of(configuration.host)
        # aiohttp's own trust would read ~/.netrc in a thread before each request, and stumble over what is in there.
        configuration.client_session_kwargs = {"trust_env": False}
        try:
            client = ApiClient(configuration)
        except _UNUSABLE as error:
            raise _unusable(error) from error
        client.user_agent = f"marketfeed-operator/{__version__}"
        return cls(client, credentials)

    @property
    def host(self) -> str:
        """Return the API server's URL."""
        return str(self._client.configuration.host)

    async def send(self, request: Request, timeout_s: float) -> Answer:
        """Return the answer, of whatever status; refused credentials are read anew once.

        Raises Unanswered when there is none within `timeout_s`; then the request may have been executed nevertheless.
        """
        started = time.monotonic()
        try:
            # aiohttp's own limit is rounded up to full seconds: too coarse beside a lease.
            async with asyncio.timeout(timeout_s):
                await self._keep_credentials()
                answer = await self._send(request)
                if answer.status == _UNAUTHORIZED:
                    await self._credentials.load()
                    answer = await self._send(request)
        except TimeoutError as error:
            raise Unanswered(0, "Timeout", f"no answer within {time.monotonic() - started:.3g} s") from error
        except _UNREACHABLE as error:
            told = presentable(f"{type(error).__name__}: {error}")
            raise Unanswered(0, "Unreachable", f"the API server cannot be reached: {told}") from error
        return answer

    def connection(self) -> kopf.ConnectionInfo:
        """Return how kopf reaches the same API server; for its login handler, in whatever thread.

        A pod's token is read from its file each time: kopf asks again when one was refused, and gives up if it gets
        the same.
        """
        configuration = self._credentials.current()
        scheme, _, token = _authorization(configuration).partition(" ")
        return kopf.ConnectionInfo(
            server=self.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            scheme=scheme.capitalize() or None,
            token=token or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            proxy_url=configuration.proxy,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _keep_credentials(self) -> None:
        now = time.monotonic()
        if now - self._refreshed_at >= _REFRESH_S:
            self._refreshed_at = now
            await self._credentials.refresh()

    async def _send(self, request: Request) -> Answer:
        url = f"{self.host}{request.path}" + (f"?{urlencode(request.query)}" if request.query else "")
        headers = {**self._client.default_headers, "Accept": request.accept, "Content-Type": request.content_type}
        if authorization := _authorization(self._client.configuration):
            headers["Authorization"] = authorization
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        response = await self._client.rest_client.request(
            request.method, url, headers=headers, body=request.body, _request_timeout=timeout
        )
        return Answer(response.status, response.headers, await response.read())


class Credentials:
    """Where a client's configuration comes from, read into it again and again."""

    def __init__(self, configuration: Configuration, kubeconfig: str | None, context: str | None) -> None:
        self._configuration = configuration
        self._kubeconfig, self._context = kubeconfig, context
        self._in_cluster = kubeconfig is None and context is None and bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
        self._loader: Any = None

    async def load(self) -> None:
        """Read everything from the files. Raises ConfigurationError if they cannot be used."""
        try:
            if self._in_cluster:
                self.current()
            else:
                _check_there(self._kubeconfig)
                self._loader = await config.load_kube_config(
                    self._kubeconfig, self._context, client_configuration=self._configuration, persist_config=False
                )
        except _NO_KUBECONFIG as error:
            raise _unusable(ValueError(f"{self._kubeconfig or 'the file'} is not a kubeconfig")) from error
        except _UNUSABLE as error:
            raise _unusable(error) from error

    async def refresh(self) -> None:
        """Read what may have changed: a token's file, an exec plugin's answer that has expired."""
        if self._in_cluster:
            self.current()
        else:
            await self._loader.load_and_set(self._configuration)

    def current(self) -> Configuration:
        """Return the configuration, a pod's token as its file has it now."""
        if self._in_cluster:
            config.load_incluster_config(self._configuration, try_refresh_token=False)
        return self._configuration


def absent_kubeconfig(path: str | None) -> str | None:
    """Return the kubeconfig that would be read, where it does not exist; `path` None is the environment's choice."""
    paths = path or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return None if any(Path(each).expanduser().exists() for each in paths.split(os.pathsep) if each) else paths


def _check_there(path: str | None) -> None:
    """Raise ValueError where there is no kubeconfig: the library would log that, and complain of an empty one."""
    if absent := absent_kubeconfig(path):
        raise ValueError(f"there is no kubeconfig {absent}; name one with KUBECONFIG")


def _proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL (HTTPS_PROXY, NO_PROXY)."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def _unusable(error: Exception) -> ConfigurationError:
    return ConfigurationError(f"no usable way to the API server: {presentable(str(error))}")


def _authorization(configuration: Configuration) -> str:
    """Return the value of the header; empty where a certificate says who we are."""
    return str(configuration.api_key.get("BearerToken", "")).strip()


_NO_KUBECONFIG = (KeyError, TypeError, AttributeError)
"""What the library stumbles over in a YAML text that is something else."""
_UNUSABLE = (ConfigException, yaml.YAMLError, OSError, ssl.SSLError, ValueError, KeyError, TypeError, AttributeError)
"""What the library raises over files that are missing, or not a kubeconfig."""
_UNREACHABLE = (aiohttp.ClientError, OSError, ConfigException, ConfigurationError)
