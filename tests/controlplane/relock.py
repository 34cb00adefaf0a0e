"""Writes `components.lock.json`: `python -m controlplane.relock`, for developers; it needs `mvn` and `uv`."""

from __future__ import annotations

from controlplane.crds import STRIMZI
from controlplane.lock import GO_PACKAGE, GO_VERSION, PATH
from marketfeed.local.components import Lock
from marketfeed.local.relock import resolve, wheel


def main() -> None:
    """Resolve what Strimzi's generator needs in each of its releases, and Go's wheels; write the lock."""
    archives = {
        f"strimzi-{release}": resolve((f"io.strimzi:api:{release}", f"io.strimzi:crd-generator:{release}"))
        for release, _ in STRIMZI.values()
    }
    PATH.write_text(Lock(archives=archives, wheels={GO_PACKAGE: wheel(GO_PACKAGE, GO_VERSION)}).render())


if __name__ == "__main__":
    main()
