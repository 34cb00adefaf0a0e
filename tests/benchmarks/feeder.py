"""A venue that only talks: one handshake, then prebuilt frames, `times` over, as fast as the client takes them.

The bytes go from the file to the socket inside the kernel, so that the feeder is never what is measured.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
import time
from pathlib import Path

from benchmarks.children import job, reply

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_CLOSE = 0x8
_CHUNK_BYTES = 1 << 20


def main() -> None:
    """Listen, say where, greet one client, wait for the word, send, stay until the client goes."""
    work = job()
    with socket.create_server(("127.0.0.1", 0)) as server:
        reply(port=server.getsockname()[1])
        client, _ = server.accept()
    with client:
        _greet(client)
        reply(connected=True)
        job()
        started = time.monotonic()
        for _ in range(work["times"]):
            _send(client, Path(work["file"]), work["length"])
        reply(started=started)
        _wait_for_close(client)


def _greet(client: socket.socket) -> None:
    """Answer the upgrade request, without extensions."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(65_536)
    found = re.search(rb"sec-websocket-key: *(\S+)", request, re.IGNORECASE)
    if found is None:
        raise ValueError("the client's request is no websocket handshake")
    accept = base64.b64encode(hashlib.sha1(found[1] + _GUID, usedforsecurity=False).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
    )


def _send(client: socket.socket, path: Path, length: int) -> None:
    with path.open("rb") as file:
        sent = 0
        while sent < length:
            sent += os.sendfile(client.fileno(), file.fileno(), sent, min(_CHUNK_BYTES, length - sent))


def _wait_for_close(client: socket.socket) -> None:
    """Take what the client says (pings, requests) until it closes."""
    try:
        while (data := client.recv(65_536)) and data[0] & 0xF != _CLOSE:
            pass
    except ConnectionResetError:
        return


if __name__ == "__main__":
    main()
