"""The stand: the node with the platform, the operator and the example feed on it. Brought up, found again, ended.

What does not live here: how parts are installed (install), printing progress (steps).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import images
import node
from marketfeed.local.components import exclusively
from marketfeed.local.files import write_atomically
from node import background
from stand import install
from stand.cluster import Cluster, decoded
from stand.install import FEED, FEED_NAMESPACE, LOADED, PLATFORM_NAMESPACE
from stand.steps import Steps, Tell

_POSTGRES_PORT = 5432


@dataclass(frozen=True)
class Stand:
    """The running node and how to reach what is on it."""

    up: background.Up
    cluster: Cluster
    folder: Path
    """Where the node keeps its state."""

    @property
    def services_image(self) -> str:
        """The image of ingestors, consumers and simulators, as pods name it."""
        return loaded(self.folder)["services"]

    @cached_property
    def dsn(self) -> str:
        """How pods reach the database, as its administrator."""
        secret = self.cluster.get("secret", "timescale", FEED_NAMESPACE)
        assert secret is not None, f"there is no Secret timescale in {FEED_NAMESPACE}"
        return decoded(secret, "dsn")

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Reach a database from this machine until the block ends; yields its DSN."""
        parts = urlsplit(self.dsn)
        host = str(parts.hostname).split(".")
        namespace = host[1] if len(host) > 1 else PLATFORM_NAMESPACE
        with self.cluster.forward(namespace, f"svc/{host[0]}", parts.port or _POSTGRES_PORT) as port:
            account = parts.netloc.rpartition("@")[0]
            yield parts._replace(netloc=f"{account}@127.0.0.1:{port}", path=f"/{name}").geturl()

    def make_namespace(self, name: str) -> None:
        """Make a namespace that takes restricted pods only, unless it is there."""
        self.cluster.apply(install.namespace(name))

    def container_pid(self, namespace: str, pod: str, container: str) -> int:
        """Return the id of a container's first process, as this machine sees it."""
        return self.up.node.container_pid(namespace, pod, container)

    def container_root(self, namespace: str, pod: str, container: str) -> Path:
        """Return a container's root directory, as this machine sees it."""
        return Path(f"/proc/{self.container_pid(namespace, pod, container)}/root")

    def load(self, archive: Path) -> None:
        """Give the node an image."""
        self.up.node.load(archive)


def provide() -> None:
    """Install and build all that a stand is made of, as far as it is missing; raises MarketfeedError."""
    background.provide()
    for name in install.IMAGES:
        images.provide(name)


def find() -> Stand | None:
    """Return the stand whose node runs here, None when there is none; it may not be furnished to its end."""
    state = background.state_dir()
    found = background.find(state)
    return None if found is None else _stand(found, state)


def up(tell: Tell = print) -> Stand:
    """Bring up what is not there yet and wait until the example feed is ready; of two runs, one waits for the other."""
    state = background.state_dir()
    with exclusively(state.with_name(f".{state.name}-stand.lock")):
        return _up(state, tell)


def _up(state: Path, tell: Tell) -> Stand:
    steps = Steps(tell)
    with steps("node"):
        running = background.up(state, lambda line: tell(f"  {line}"))
    with steps("images") as note:
        built = {name: images.provide(name) for name in install.IMAGES}
        note(", ".join(f"{name} {image.size_bytes / 1e6:.0f} MB" for name, image in built.items()))
    with steps("load"):
        references = _load(running, state, built)
    stand = _stand(running, state)
    with steps("namespaces"):
        for namespace in install.NAMESPACES:
            stand.make_namespace(namespace)
    with steps("platform"):
        install.platform(stand.cluster, references, state)
    with steps("operator"):
        install.operator(stand.cluster, references, state)
    with steps("feed"):
        install.feed(stand.cluster)
    with steps(f"{FEED} ready"):
        install.await_feed(stand.cluster)
    return stand


def load(stand: Stand, names: Iterable[str]) -> dict[str, str]:
    """Give the node these images too, built where they are missing; return, by name, the references of all it has."""
    return _load(stand.up, stand.folder, {name: images.provide(name) for name in names})


def _load(running: background.Up, state: Path, built: Mapping[str, images.Image]) -> dict[str, str]:
    """Give the node the images that it lacks; return, by name, the references of all that it has."""
    references = loaded(state)
    for name, image in built.items():
        if references.get(name) != image.reference:
            running.node.load(image.archive)
            references[name] = image.reference
            write_atomically(state / LOADED, json.dumps({"pid": running.pid, "references": references}))
    return references


def down() -> bool:
    """End the node with all that is on it; tell whether one ran."""
    return background.down(background.state_dir())


def missing() -> str | None:
    """Return why this machine cannot run a node, None when it can."""
    return node.missing()


def _stand(running: background.Up, state: Path) -> Stand:
    cluster = Cluster(Path(running.kubeconfig), Path(running.kubectl), Path(running.helm))
    return Stand(running, cluster, state)


def loaded(state: Path | None = None) -> dict[str, str]:
    """Return, by name, the references of the images that the node which runs now was given."""
    folder = state or background.state_dir()
    running = background.find(folder)
    try:
        found = json.loads((folder / LOADED).read_text())
    except FileNotFoundError:
        return {}
    return dict(found["references"]) if running is not None and found["pid"] == running.pid else {}
