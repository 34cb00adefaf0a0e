"""Writes `strimzi.lock.json`: `python -m controlplane.relock`, for developers; it needs `mvn`."""

from __future__ import annotations

from controlplane.crds import STRIMZI, STRIMZI_LOCK
from marketfeed.local.components import Lock
from marketfeed.local.relock import resolve


def main() -> None:
    """Resolve what Strimzi's generator needs in each of its releases, and write the lock."""
    archives = {
        f"strimzi-{release}": resolve((f"io.strimzi:api:{release}", f"io.strimzi:crd-generator:{release}"))
        for release, _ in STRIMZI.values()
    }
    STRIMZI_LOCK.write_text(Lock(archives=archives, wheels={}).render())


if __name__ == "__main__":
    main()
