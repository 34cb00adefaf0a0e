"""The door into the node: connections to a port of the host's loopback go on to the API server in the namespace.

The listening socket was made outside, so it belongs to the host's network; whoever calls `open_door` is inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

_CHUNK_BYTES = 256 * 1024


def listen(port: int) -> socket.socket:
    """Return a socket that listens on this port of the host's loopback; raises OSError when it is taken."""
    door = socket.create_server(("127.0.0.1", port), backlog=128)
    door.settimeout(0)
    return door


def open_door(door: socket.socket, target: tuple[str, int]) -> None:
    """Let whoever knocks through to `target`, in a thread of its own, as long as this process lives."""
    threading.Thread(target=lambda: asyncio.run(_serve(door, target)), name="door", daemon=True).start()


async def _serve(door: socket.socket, target: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    visits: set[asyncio.Task[None]] = set()
    while True:
        visitor, _ = await loop.sock_accept(door)
        visit = loop.create_task(_visit(visitor, target))
        visits.add(visit)
        visit.add_done_callback(visits.discard)


async def _visit(visitor: socket.socket, target: tuple[str, int]) -> None:
    """Carry bytes both ways until both sides have said all; a side that breaks off ends both."""
    loop = asyncio.get_running_loop()
    with visitor, socket.socket() as host:
        for each in (visitor, host):
            each.settimeout(0)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, ExceptionGroup):
            await loop.sock_connect(host, target)
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(visitor, host))
                both.create_task(_carry(host, visitor))


async def _carry(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while chunk := await loop.sock_recv(source, _CHUNK_BYTES):
        await loop.sock_sendall(sink, chunk)
    sink.shutdown(socket.SHUT_WR)
