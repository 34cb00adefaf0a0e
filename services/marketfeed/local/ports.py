"""Free ports on 127.0.0.1 for the servers that run on this machine."""

from __future__ import annotations

import random
import socket

from marketfeed.errors import Unavailable

# Below the ports that Linux and macOS hand out to outgoing connections (32768 and 49152 upwards): a client that keeps
# trying to reach a stopped server could otherwise be given that very port, connect to itself and block the restart.
# Below Kubernetes' node ports (30000 upwards) too.
_FIRST, _LAST = 15_000, 29_999
_ATTEMPTS = 100


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on; raises Unavailable when none was found.

    The port is chosen at random, so that two runs that start side by side do not take the same one before either has
    bound it.
    """
    for port in random.sample(range(_FIRST, _LAST + 1), _ATTEMPTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Unavailable(f"None of {_ATTEMPTS} ports of 127.0.0.1 between {_FIRST} and {_LAST} is free")
